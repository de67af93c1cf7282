"""How time and memory of a training step grow, compared with formulas.

    python -m benchmarks.growth
    python -m benchmarks.growth --parts batch queue
    python -m benchmarks.growth --smoke

- Batch and image size: SimCLR with a ResNet. Time should grow with the multiplications, and memory with
  the feature maps that the backward pass reads. The formula takes its speed from the first row.
- Queue: MoCo with a network so small that the queue matters. Each key costs three products with each
  query (similarity, its recomputation in the backward pass, and the gradient), at the speed of a large
  matrix product measured in the same process. Memory grows by the keys.
- Devices: one and two processes of one core each, with the same number of images per device. The
  formula adds the time of the collectives in `collectives.py` to the step of one process. Their latency
  and bandwidth are measured in the same run, with all-reduces of one number and of all gradients.
"""

import json
import math
import os
import pathlib
import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks import report, workers
from benchmarks.subprocesses import peak_memory, read_request, run_in_subprocess

PARTS = ("batch", "image size", "queue", "devices")


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    parts: tuple[str, ...] = PARTS
    """Parts to measure: batch, image size, queue, devices."""
    depth: int = 18
    """Depth of the ResNet; 0 for Tiny."""
    batch_sizes: tuple[int, ...] = (32, 64, 128, 256)
    image_sizes: tuple[int, ...] = (32, 48, 64, 96)
    queue_sizes: tuple[int, ...] = (4096, 65536, 262144)
    methods: tuple[str, ...] = ("simclr", "moco", "byol")
    """Methods to train with one and two processes."""
    steps: int = 4
    out: pathlib.Path = pathlib.Path("runs/benchmarks/growth.json")
    smoke: bool = False
    """A tiny model and few images, to check that everything runs."""


def main(settings: Settings):
    """Measures the requested parts, prints their tables and writes them as JSON."""
    if settings.smoke:
        settings = replace(
            settings,
            depth=0,
            batch_sizes=(8, 16),
            image_sizes=(8, 16),
            queue_sizes=(64, 128),
            methods=("simclr",),
            steps=2,
        )
    if unknown := set(settings.parts) - set(PARTS):
        raise ValueError(f"`parts` must be among {', '.join(PARTS)}. Received: {sorted(unknown)}")
    rows: list[dict[str, Any]] = []
    tables = {
        "batch": lambda: measure_work(settings, "batch_size", settings.batch_sizes),
        "image size": lambda: measure_work(settings, "image_size", settings.image_sizes),
        "queue": lambda: measure_queue(settings),
        "devices": lambda: measure_devices(settings),
    }
    for part in settings.parts:
        found = tables[part]()
        print(report.table(found), "\n")
        rows += found
    report.write(settings.out, asdict(settings), rows)


def measure_work(settings: Settings, name: str, values: tuple[int, ...]) -> list[dict]:
    """Measures steps with more and more multiplications, and returns the table's rows."""
    small = {"batch_size": 16, "image_size": 8} if settings.smoke else {}
    base = {"method": "simclr", "batch_size": 64, "image_size": 32, **small}
    found = [_measure_step(settings, {**base, name: value}) for value in values]
    speed = found[0]["flop"] / found[0]["seconds"]
    return [
        _format_row(name.replace("_", " "), value, each, each["flop"] / speed, each["activations"])
        for value, each in zip(values, found, strict=True)
    ]


def measure_queue(settings: Settings) -> list[dict]:
    """Measures MoCo's steps with several queue sizes, and returns the table's rows."""
    size = 8 if settings.smoke else 256
    request = {
        "method": "moco",
        "depth": 0,
        "batch_size": size,
        "image_size": 8 if settings.smoke else 32,
    }
    found = [_measure_step(settings, {**request, "queue_size": k}) for k in settings.queue_sizes]
    first, lines = found[0], []
    for keys, each in zip(settings.queue_sizes, found, strict=True):
        more = keys - settings.queue_sizes[0]
        seconds = first["seconds"] + 3 * 2 * size * more * each["dim"] / each["product"]
        memory = first["memory"] + 4 * more * each["dim"] / 2**30
        lines.append(_format_row("queue", keys, each, seconds, memory))
    return lines


def measure_devices(settings: Settings) -> list[dict]:
    """Measures each method with one and two processes, and returns the table's rows."""
    size = (
        {"batch_size": 8, "image_size": 8}
        if settings.smoke
        else {"batch_size": 32, "image_size": 32}
    )
    lines = []
    for method in settings.methods:
        request = {**asdict(settings), **size, "method": method}
        one, two = (workers.run_workers("benchmarks.growth", request, count) for count in (1, 2))
        predicted = one["seconds"] + two["collectives"] * two["latency"]
        predicted += two["bytes"] / two["bandwidth"]
        for count, each, expected in ((1, one, one["seconds"]), (2, two, predicted)):
            lines.append(
                {
                    "method": method,
                    "processes": count,
                    "seconds": f"{each['seconds']:.3f}",
                    "formula": f"{expected:.3f}",
                    "measured / formula": f"{each['seconds'] / expected:.2f}",
                    "of one process": f"{each['seconds'] / one['seconds']:.2f}",
                    "collectives": each["collectives"],
                    "MB sent": f"{each['bytes'] / 1e6:.1f}",
                    "us each": f"{1e6 * each['latency']:.0f}" if count > 1 else "",
                    "MB/s": f"{each['bandwidth'] / 1e6:.0f}" if count > 1 else "",
                    "memory, GiB": f"{each['memory']:.2f}",
                }
            )
    return lines


def _format_row(name: str, value: int, each: dict, seconds: float, memory: float) -> dict:
    return {
        name: value,
        "seconds": f"{each['seconds']:.3f}",
        "formula": f"{seconds:.3f}",
        "measured / formula": f"{each['seconds'] / seconds:.2f}",
        "memory, GiB": f"{each['memory']:.2f}",
        "its formula": f"{memory:.2f}",
        "memory / formula": f"{each['memory'] / memory:.2f}" if memory else "",
    }


def _measure_step(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    common = {"depth": settings.depth, "steps": settings.steps, "queue_size": 4096}
    fixed = {"contestant": "fit", "precision": "float32", "device": "cpu"}
    variables = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return run_in_subprocess(
        "benchmarks.growth", {**fixed, **common, **request}, environment=variables
    )


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains for a few steps; returns their time and memory, and the inputs of the formulas."""
    import tensorflow as tf

    from benchmarks import step
    from keras_ssl import pretrain  # noqa: F401 - so that libraries do not count as the step's memory

    tf.linalg.matmul(tf.ones((8, 8)), tf.ones((8, 8)))
    start = peak_memory()
    result = step.measure(settings)
    memory = result["peak"] - start
    model = step.model(settings)
    images = settings["batch_size"] * (1 if settings["method"] == "moco" else 2)
    return {
        "seconds": statistics.median(result["seconds"]),
        "memory": memory,
        "activations": _gibibytes(model, images),
        "flop": _flop(model, images),
        "dim": model.projector.compute_output_shape(model.backbone.output_shape)[-1],
        "product": _measure_matmul_speed(),
    }


def _flop(model: Any, images: int) -> float:
    """Returns the FLOP of a SimCLR step: a backward pass counts as two."""
    from benchmarks.scaling import dense_flop, forward_flop

    forward = forward_flop(model.backbone) + dense_flop([model.projector])
    dim = model.projector.compute_output_shape(model.backbone.output_shape)[-1]
    return 3 * images * forward + 3 * 2 * images**2 * dim


def _gibibytes(model: Any, images: int) -> float:
    """Returns the GiB of the maps that the backward pass reads and of four copies of the weights.

    Normalization reads the outputs of convolutions. Convolutions read padded inputs and the outputs of
    ReLUs, which ReLUs read too. The copies are weights, gradients, momentum and updates.
    """
    import keras

    kinds = (keras.layers.Conv2D, keras.layers.ReLU, keras.layers.ZeroPadding2D)
    maps = sum(
        math.prod(layer.output.shape[1:])
        for layer in model.backbone.layers
        if isinstance(layer, kinds)
    )
    weights = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return 4 * (images * maps + 4 * weights) / 2**30


def _measure_matmul_speed() -> float:
    """Returns the FLOP/s of a large matrix product."""
    import tensorflow as tf

    a, b = tf.ones((2048, 512)), tf.ones((512, 2048))
    times = []
    for _ in range(10):
        start_time = time.perf_counter()
        float(tf.linalg.matmul(a, b)[0, 0])
        times.append(time.perf_counter() - start_time)
    return 2 * 2048 * 512 * 2048 / min(times)


def work(settings: dict[str, Any]):
    """Trains as one worker on one core, and prints the results."""
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    worker = config.get("task", {}).get("index", 0)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[worker % len(cores)]})  # before TensorFlow counts them

    from benchmarks import collectives, communication, step
    from keras_ssl import distribute

    count = len(config.get("cluster", {}).get("worker", [None]))
    strategy = distribute.strategy("multi_worker" if count > 1 else "none")
    start = peak_memory()
    with strategy.scope():
        model = step.model({**settings, "queue_size": 4096})
    shape = communication.Settings(
        image_size=settings["image_size"], batch_size=settings["batch_size"]
    )
    batches = iter(communication.make_data(strategy, model, shape))
    model.make_train_function()
    seconds = []
    for _ in range(2 + settings["steps"]):
        start_time = time.perf_counter()
        model.train_function(batches)
        seconds.append(time.perf_counter() - start_time)
    exchange = collectives.for_model(model, settings["batch_size"], count)
    print(
        json.dumps(
            {
                "seconds": statistics.median(seconds[2:]),
                "memory": peak_memory() - start,
                "collectives": len(exchange) if count > 1 else 0,
                "bytes": collectives.bytes_sent(exchange, count),
                **_measure_latency_and_bandwidth(strategy, model, count),
            }
        )
    )


def _measure_latency_and_bandwidth(strategy: Any, model: Any, count: int) -> dict[str, float]:
    """Returns the seconds of an all-reduce of one number, and the bytes/s of one of all gradients."""
    import tensorflow as tf

    from benchmarks.collectives import Collective
    from keras_ssl import distribute

    numbers = sum(math.prod(variable.shape) for variable in model.trainable_variables)

    def seconds(size: int, times: int) -> float:
        @tf.function
        def step():
            def reduce():
                values = tf.ones(size)
                for _ in range(times):  # each depends on the one before
                    values = distribute.all_reduce_sum(values) / count
                return values

            return strategy.run(reduce)

        step()
        start_time = time.perf_counter()
        result = step()
        float(strategy.experimental_local_results(result)[0][0])
        return (time.perf_counter() - start_time) / times

    latency, total = seconds(1, 50), seconds(numbers, 3)
    sent = Collective("gradients", "reduce", numbers).bytes_sent(count)
    return {"latency": latency, "bandwidth": sent / max(total - latency, 1e-9)}


if __name__ == "__main__":
    if (request := workers.read_worker_settings()) is not None:
        work(request)
    elif (request := read_request()) is not None:
        print(json.dumps(measure(request)))
    else:
        import tyro

        main(tyro.cli(Settings))
