"""The bytes of a training step: formula, count and wire; the first half of docs/scaling.md.

    python -m benchmarks.communication
    python -m benchmarks.communication --smoke
    python -m benchmarks.communication --predict

Two worker processes train together over loopback. What the formulas of `collectives.py` say is compared
with every collective that runs (how often, of what type and size) and with the bytes that cross the
interface, in a network of their own where the system lets a program have one. `--predict` prints the
tables of `scaling.py` instead.
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
_ALONE = "BENCHMARK_HAS_ITS_OWN_LOOPBACK"


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    methods: tuple[str, ...] = METHODS
    """moco-split has split batch normalisation, and shuffles its keys."""
    filters: int = 48
    """Of the SmallResNet; 0 for Tiny."""
    image_size: int = 32
    batch_size: int = 16
    """Images per step and device."""
    steps: int = 5
    """Steps that are measured."""
    precision: str = "float32"
    """Keras' policy, such as mixed_bfloat16."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/communication.json")
    smoke: bool = False
    """A small network and few images, to see that everything runs."""
    predict: bool = False
    """Print the predicted step times instead."""


def main(settings: Settings):
    """Measures each method, prints the table and writes it as JSON."""
    if settings.predict:
        from benchmarks import scaling

        print(scaling.report())
        return
    get_own_loopback()
    if settings.smoke:
        settings = replace(settings, filters=0, image_size=8, batch_size=8, steps=2)
    rows = run_workers(settings)
    own = os.environ.get(_ALONE) == "1"
    print(report.table([shown(row) for row in rows]))
    print(f"Loopback: {'of the workers alone' if own else 'the machine has others on it'}")
    report.write(settings.out, {**asdict(settings), "own_loopback": own}, rows)
    if wrong := [row["method"] for row in rows if not row["equal"]]:
        sys.exit(f"The formula differs from what runs: {', '.join(wrong)}")


def shown(row: dict) -> dict:
    """Returns a line of the table, in bytes that both workers send together per step."""
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


def get_own_loopback():
    """Starts this program again in a network of its own, where the system allows it."""
    if _ALONE in os.environ:
        return
    os.environ[_ALONE] = "0"
    apart = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    apart += ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    tools = all(shutil.which(name) for name in ("unshare", "ip"))
    if tools and subprocess.run([*apart, "true"], capture_output=True).returncode == 0:
        os.environ[_ALONE] = "1"
        command = [sys.executable, "-m", "benchmarks.communication", *sys.argv[1:]]
        os.execvp(apart[0], [*apart, *command])


def run_workers(settings: Settings) -> list[dict]:
    """Returns the first worker's rows."""
    return workers.run_workers("benchmarks.communication", asdict(settings), WORKERS)


def work(settings: Settings):
    """Trains each method as one of the workers; prints what was found."""
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
        wire = bytes_on_the_wire(strategy, model, batches, settings.steps)
        seen = collectives_that_run(model, batches)
        expected = collectives.of_model(model, settings.batch_size, WORKERS)
        rows.append(
            {
                "method": name,
                "collectives": len(expected),
                "formula": WORKERS * collectives.sent(expected, WORKERS),
                "counted": WORKERS * bytes_sent(seen),
                "wire": wire,
                "kinds": collectives.by_kind(expected, WORKERS),
                "equal": seen == collectives.tally(expected),
                "differences": differences(seen, collectives.tally(expected)),
            }
        )
        keras.utils.clear_session()
    print(json.dumps(rows))


def bytes_sent(tally: Counter) -> float:
    """Returns what a worker sends for the collectives that were counted."""
    from benchmarks.collectives import Collective

    return sum(
        times * Collective("", op, elements, size).sent(WORKERS)
        for (op, size, elements), times in tally.items()
    )


def differences(seen: Counter, expected: Counter) -> dict:
    """Returns what only one of the two has, in words."""
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
        raise ValueError(f"`methods` must be of {', '.join(METHODS)}. Received: {name!r}")
    return methods.MoCo(backbone, queue_size=256, symmetric=name == "moco-symmetric")


def make_data(strategy, model, settings: Settings):
    """Returns an endless data set of one batch of noise, other images for each worker."""
    import tensorflow as tf

    size, b = settings.image_size, settings.batch_size

    def own_data(context):
        own = context.input_pipeline_id
        views = tf.random.stateless_uniform((2, b, size, size, 3), seed=(0, own))
        index = (own * b + tf.range(b, dtype=tf.int64),) if model.takes_indices else ()
        return tf.data.Dataset.from_tensors((views[0], views[1], *index)).repeat()

    return strategy.distribute_datasets_from_function(own_data)


def collectives_that_run(model, batches) -> Counter:
    """Returns how often each (op, bytes per number, numbers of a worker) runs in one step.

    TensorFlow's debugger notes the type and shape of every collective's result when it is executed,
    in whatever function it stands.
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
            model.make_train_function(force=True)  # a new graph, with notes in it
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


def bytes_on_the_wire(strategy, model, batches, steps: int) -> float | None:
    """Returns the bytes that all workers send in a step, as the interface counts them."""
    from keras_ssl import distribute

    model.make_train_function()
    for _ in range(2):  # traces the graph, and lets the workers agree on their collectives
        model.train_function(batches)
    chief = distribute.is_chief(strategy)
    distribute.gather(strategy, 0.0)  # until all are here
    quiet = loopback_bytes()
    if quiet is None:
        return None
    time.sleep(2.0)  # with nothing to do: what the workers say to each other all the same
    idle = ((loopback_bytes() or quiet) - quiet) / 2.0  # per second
    if not chief:
        time.sleep(0.5)  # until the first has read the counter
    before, began = loopback_bytes() or 0, time.monotonic()
    for _ in range(steps):
        model.train_function(batches)
    time.sleep(0.2)  # the last acknowledgements
    after, seconds = loopback_bytes() or 0, time.monotonic() - began
    return (after - before - idle * seconds) / steps


def loopback_bytes() -> int | None:
    """Returns the bytes that the loopback interface has sent so far; `None` where nothing counts."""
    counters = pathlib.Path("/proc/self/net/dev")
    if not counters.exists():
        return None
    for line in counters.read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return None


if __name__ == "__main__":
    if (given := workers.working()) is not None:
        work(Settings(**{**given, "methods": tuple(given["methods"])}))
    else:
        main(tyro.cli(Settings))
