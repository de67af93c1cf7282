"""Bytes sent in a training step, by formula, counted, and on the wire: first half of docs/scaling.md.

    python -m benchmarks.communication
    python -m benchmarks.communication --smoke
    python -m benchmarks.communication --predict

Two worker processes train together over the loopback interface. The formulas of `collectives.py` are
compared with every collective that runs (number, type and size) and with the bytes on the interface. If
the system allows it, the workers run in a separate network namespace, without other traffic.
`--predict` prints the tables of `scaling.py` instead.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace

import tyro

from benchmarks import report, workers

WORKERS = 2
METHODS = (
    "simclr",
    "simclr-memory",
    "moco",
    "moco-split",
    "moco-symmetric",
    "byol",
    "memory-bank",
)
_OWN_LOOPBACK = "BENCHMARK_HAS_ITS_OWN_LOOPBACK"


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    methods: tuple[str, ...] = METHODS
    """moco-split has split batch normalization, and shuffles its keys."""
    filters: int = 48
    """Filters of the SmallResNet; 0 for Tiny."""
    image_size: int = 32
    batch_size: int = 16
    """Images per device in each step."""
    steps: int = 5
    """Number of measured steps."""
    precision: str = "float32"
    """Keras dtype policy, such as mixed_bfloat16."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/communication.json")
    smoke: bool = False
    """A tiny model and few images, to check that everything runs."""
    predict: bool = False
    """Print the predicted step times instead of measuring."""


def main(settings: Settings):
    """Measures each method, prints the table and writes it as JSON."""
    if settings.predict:
        from benchmarks import scaling

        print(scaling.report())
        return
    isolate_loopback()
    if settings.smoke:
        settings = replace(settings, filters=0, image_size=8, batch_size=8, steps=2)
    rows = run_workers(settings)
    own = os.environ.get(_OWN_LOOPBACK) == "1"
    print(report.table([format_row(row) for row in rows]))
    print(f"Loopback: {'used by the workers only' if own else 'shared with other programs'}")
    report.write(settings.out, {**asdict(settings), "own_loopback": own}, rows)
    if wrong := [row["method"] for row in rows if not row["equal"]]:
        sys.exit(f"The formula differs from the collectives that ran: {', '.join(wrong)}")


def format_row(row: dict) -> dict:
    """Returns a row of the table, with the bytes that both workers send in total per step."""
    wire, formula = row["wire"], row["formula"]
    seen = wire is not None
    return {
        "method": row["method"],
        "collectives": row["collectives"],
        "formula, bytes": f"{formula:,.0f}",
        "counted, bytes": f"{row['counted']:,.0f}",
        "on the wire, bytes": f"{wire:,.0f}" if seen else "",
        "wire / formula": f"{wire / formula:.3f}" if seen else "",
        "surplus per collective": f"{(wire - formula) / row['collectives']:,.0f}" if seen else "",
    }


def isolate_loopback():
    """Restarts this program in a separate network namespace, if the system allows it."""
    if _OWN_LOOPBACK in os.environ:
        return
    os.environ[_OWN_LOOPBACK] = "0"
    command = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command += ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    tools = all(shutil.which(name) for name in ("unshare", "ip"))
    if tools and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
        os.environ[_OWN_LOOPBACK] = "1"
        command += [sys.executable, "-m", "benchmarks.communication", *sys.argv[1:]]
        os.execvp(command[0], command)


def run_workers(settings: Settings) -> list[dict]:
    """Returns the first worker's rows."""
    return workers.run_workers("benchmarks.communication", asdict(settings), WORKERS)


def work(settings: Settings):
    """Trains each method as one of the workers, and prints the results."""
    import keras

    from benchmarks import collectives
    from keras_ssl import distribute

    strategy = distribute.strategy("multi_worker")
    keras.config.set_dtype_policy(settings.precision)
    rows = []
    for name in settings.methods:
        with strategy.scope():
            model = make_model(name, settings)
            model.compile(keras.optimizers.SGD(0.01))
        batches = iter(make_data(strategy, model, settings))
        wire = measure_wire_bytes(strategy, model, batches, settings.steps)
        seen = count_collectives(model, batches)
        expected = collectives.for_model(model, settings.batch_size, WORKERS)
        rows.append(
            {
                "method": name,
                "collectives": len(expected),
                "formula": WORKERS * collectives.bytes_sent(expected, WORKERS),
                "counted": WORKERS * count_bytes(seen),
                "wire": wire,
                "kinds": collectives.bytes_by_kind(expected, WORKERS),
                "equal": seen == collectives.tally(expected),
                "differences": differences(seen, collectives.tally(expected)),
            }
        )
        keras.utils.clear_session()
    print(json.dumps(rows))


def count_bytes(tally: Counter) -> float:
    """Returns the bytes that a worker sends for the counted collectives."""
    from benchmarks.collectives import Collective

    return sum(
        times * Collective("", op, elements, size).bytes_sent(WORKERS)
        for (op, size, elements), times in tally.items()
    )


def differences(seen: Counter, expected: Counter) -> dict:
    """Describes the collectives that only one of the two has."""
    pairs = {"only in the graph": seen - expected, "only in the formula": expected - seen}
    return {name: [f"{n} x {key}" for key, n in counts.items()] for name, counts in pairs.items()}


def make_model(name: str, settings: Settings):
    """Returns a method with small networks."""
    from keras_ssl import backbones, layers, methods

    shape = (settings.image_size, settings.image_size, 3)
    small = settings.filters == 0
    backbone = (
        backbones.Tiny(shape, 16) if small else backbones.SmallResNet(settings.filters, shape)
    )
    if name == "simclr":
        return methods.SimCLR(backbone, layers.ProjectionHead(12) if small else None)
    if name == "simclr-memory":
        head = layers.ProjectionHead(12, depth=3) if small else None
        return methods.SimCLRMemory(backbone, head, queue_size=256)
    if name == "byol":
        heads = [
            layers.MLPHead(12, 20, batch_norm=True, name=part)
            for part in ("projector", "predictor")
        ]
        return methods.BYOL(backbone, *(heads if small else ()))
    if name == "memory-bank":
        return methods.MemoryBank(backbone, size=1024, negatives=64)
    if name == "moco-split":
        backbone = layers.split_batch_norm(backbone, groups=2 * WORKERS)
    elif name not in ("moco", "moco-symmetric"):
        raise ValueError(f"`methods` must be among {', '.join(METHODS)}. Received: {name!r}")
    return methods.MoCo(backbone, queue_size=256, symmetric=name == "moco-symmetric")


def make_data(strategy, model, settings: Settings):
    """Returns an endless data set of one noise batch, with different images for each worker."""
    import tensorflow as tf

    size, b = settings.image_size, settings.batch_size

    def make_worker_data(context):
        worker = context.input_pipeline_id
        views = tf.random.stateless_uniform((2, b, size, size, 3), seed=(0, worker))
        index = (worker * b + tf.range(b, dtype=tf.int64),) if model.takes_indices else ()
        return tf.data.Dataset.from_tensors((views[0], views[1], *index)).repeat()

    return strategy.distribute_datasets_from_function(make_worker_data)


def count_collectives(model, batches) -> Counter:
    """Returns how often each (op, bytes per number, numbers of a worker) runs in one step.

    TensorFlow's debugger records the type and shape of every collective's result when it runs, in any
    function.
    """
    import tensorflow as tf
    from tensorflow.python.debug.lib.debug_events_reader import DebugDataReader

    with tempfile.TemporaryDirectory() as directory:
        tf.debugging.experimental.enable_dump_debug_info(
            directory,
            tensor_debug_mode="SHAPE",
            op_regex="Collective.*",
            circular_buffer_size=-1,
        )
        try:
            model.make_train_function(force=True)  # a new graph with debug ops
            model.train_function(batches)
        finally:
            tf.debugging.experimental.disable_dump_debug_info()
        seen: Counter = Counter()
        with DebugDataReader(directory) as reader:
            reader.update()
            for trace in reader.graph_execution_traces():
                _, dtype, _, elements, *_ = reader.graph_execution_trace_to_tensor_value(trace)
                gathers = "Gather" in trace.op_type
                local = int(elements) // (WORKERS if gathers else 1)
                size = tf.as_dtype(int(dtype)).size
                seen["gather" if gathers else "reduce", size, local] += 1
    return seen


def measure_wire_bytes(strategy, model, batches, steps: int) -> float | None:
    """Returns the bytes that all workers send in a step, counted by the network interface."""
    from keras_ssl import distribute

    model.make_train_function()
    for _ in range(2):  # traces the graph and initializes the collectives
        model.train_function(batches)
    chief = distribute.is_chief(strategy)
    distribute.gather(strategy, 0.0)  # waits for all workers
    quiet = loopback_bytes()
    if quiet is None:
        return None
    time.sleep(2.0)  # to measure the traffic of idle workers
    idle = ((loopback_bytes() or quiet) - quiet) / 2.0  # per second
    if not chief:
        time.sleep(0.5)  # until the chief has read the counter
    before, start = loopback_bytes() or 0, time.monotonic()
    for _ in range(steps):
        model.train_function(batches)
    time.sleep(0.2)  # waits for the last acknowledgements
    after, seconds = loopback_bytes() or 0, time.monotonic() - start
    return (after - before - idle * seconds) / steps


def loopback_bytes() -> int | None:
    """Returns the bytes that the loopback interface has sent; `None` without a counter."""
    counters = pathlib.Path("/proc/self/net/dev")
    if not counters.exists():
        return None
    for line in counters.read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return None


if __name__ == "__main__":
    if (request := workers.read_worker_settings()) is not None:
        work(Settings(**{**request, "methods": tuple(request["methods"])}))
    else:
        main(tyro.cli(Settings))
