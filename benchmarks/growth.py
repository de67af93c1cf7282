"""How time and memory of a training step grow, each beside its formula.

    python -m benchmarks.growth
    python -m benchmarks.growth --parts batch queue
    python -m benchmarks.growth --smoke

- Batch and image size: SimCLR with a ResNet. Seconds should grow as the multiplications do, memory as
  the maps that the backward pass reads; the formula for seconds takes its speed from the first line.
- Queue: MoCo with a network so small that the queue is felt. Each key costs three multiplications with
  each query (similarities, again in the backward pass, gradient), at the speed of a large matrix
  product measured in the same process; memory grows by the keys.
- Devices: one and two processes of one core each, with the same images per device. The formula is the
  step of one process, and what the collectives of `collectives.py` take by latency and bandwidth, which
  are measured by all-reduces of one number and of all gradients in the same run.
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
from benchmarks.apart import asked, measured_apart, peak

PARTS = ("batch", "image size", "queue", "devices")


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    parts: tuple[str, ...] = PARTS
    """Any of batch, image size, queue, devices."""
    depth: int = 18
    """Of the ResNet; 0 for Tiny."""
    batch_sizes: tuple[int, ...] = (32, 64, 128, 256)
    image_sizes: tuple[int, ...] = (32, 48, 64, 96)
    queue_sizes: tuple[int, ...] = (4096, 65536, 262144)
    methods: tuple[str, ...] = ("simclr", "moco", "byol")
    """Those that are trained by one and two processes."""
    steps: int = 4
    out: pathlib.Path = pathlib.Path("runs/benchmarks/growth.json")
    smoke: bool = False
    """A small network and few images, to see that everything runs."""


def main(settings: Settings):
    """Measures the parts that are asked for, prints their tables and writes them as JSON."""
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
        raise ValueError(f"`parts` must be of {', '.join(PARTS)}. Received: {sorted(unknown)}")
    rows: list[dict[str, Any]] = []
    tables = {
        "batch": lambda: by_work(settings, "batch_size", settings.batch_sizes),
        "image size": lambda: by_work(settings, "image_size", settings.image_sizes),
        "queue": lambda: by_queue(settings),
        "devices": lambda: by_devices(settings),
    }
    for part in settings.parts:
        found = tables[part]()
        print(report.table(found), "\n")
        rows += found
    report.write(settings.out, asdict(settings), rows)


def by_work(settings: Settings, name: str, values: tuple[int, ...]) -> list[dict]:
    """Returns the lines of steps whose multiplications grow."""
    small = {"batch_size": 16, "image_size": 8} if settings.smoke else {}
    base = {"method": "simclr", "batch_size": 64, "image_size": 32, **small}
    found = [_apart(settings, {**base, name: value}) for value in values]
    speed = found[0]["flop"] / found[0]["seconds"]
    return [
        _line(name.replace("_", " "), value, each, each["flop"] / speed, each["activations"])
        for value, each in zip(values, found, strict=True)
    ]


def by_queue(settings: Settings) -> list[dict]:
    """Returns the lines of MoCo's steps with queues of several lengths."""
    size = 8 if settings.smoke else 256
    words = {
        "method": "moco",
        "depth": 0,
        "batch_size": size,
        "image_size": 8 if settings.smoke else 32,
    }
    found = [_apart(settings, {**words, "queue_size": k}) for k in settings.queue_sizes]
    first, lines = found[0], []
    for keys, each in zip(settings.queue_sizes, found, strict=True):
        more = keys - settings.queue_sizes[0]
        seconds = first["seconds"] + 3 * 2 * size * more * each["dim"] / each["product"]
        memory = first["memory"] + 4 * more * each["dim"] / 2**30
        lines.append(_line("queue", keys, each, seconds, memory))
    return lines


def by_devices(settings: Settings) -> list[dict]:
    """Returns the lines of one and of two processes, method by method."""
    size = (
        {"batch_size": 8, "image_size": 8}
        if settings.smoke
        else {"batch_size": 32, "image_size": 32}
    )
    lines = []
    for method in settings.methods:
        words = {**asdict(settings), **size, "method": method}
        one, two = (workers.run_workers("benchmarks.growth", words, count) for count in (1, 2))
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


def _line(name: str, value: int, each: dict, seconds: float, memory: float) -> dict:
    return {
        name: value,
        "seconds": f"{each['seconds']:.3f}",
        "formula": f"{seconds:.3f}",
        "measured / formula": f"{each['seconds'] / seconds:.2f}",
        "memory, GiB": f"{each['memory']:.2f}",
        "its formula": f"{memory:.2f}",
        "memory / formula": f"{each['memory'] / memory:.2f}" if memory else "",
    }


def _apart(settings: Settings, words: dict[str, Any]) -> dict[str, Any]:
    common = {"depth": settings.depth, "steps": settings.steps, "queue_size": 4096}
    fixed = {"contestant": "fit", "precision": "float32", "device": "cpu"}
    variables = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return measured_apart("benchmarks.growth", {**fixed, **common, **words}, environment=variables)


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains for a few steps; returns what they took, and what the formulas need to know."""
    import tensorflow as tf

    from benchmarks import step
    from keras_ssl import pretrain  # noqa: F401 - what libraries hold is not the step's

    tf.linalg.matmul(tf.ones((8, 8)), tf.ones((8, 8)))
    start = peak()
    result = step.measured(settings)
    memory = result["peak"] - start
    model = step.model(settings)
    images = settings["batch_size"] * (1 if settings["method"] == "moco" else 2)
    return {
        "seconds": statistics.median(result["seconds"]),
        "memory": memory,
        "activations": _gibibytes(model, images),
        "flop": _flop(model, images),
        "dim": model.projector.compute_output_shape(model.backbone.output_shape)[-1],
        "product": _speed_of_products(),
    }


def _flop(model: Any, images: int) -> float:
    """Returns the FLOP of a SimCLR step: a backward pass counts as two."""
    from benchmarks.scaling import dense_flop, forward_flop

    forward = forward_flop(model.backbone) + dense_flop([model.projector])
    dim = model.projector.compute_output_shape(model.backbone.output_shape)[-1]
    return 3 * images * forward + 3 * 2 * images**2 * dim


def _gibibytes(model: Any, images: int) -> float:
    """Returns the memory of the maps that the backward pass reads, and of four copies of the weights.

    Normalisation reads what convolutions return; convolutions read padded inputs and what ReLUs return,
    which ReLUs read too. Weights: themselves, gradients, the optimizer's momentum, and an update.
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


def _speed_of_products() -> float:
    """Returns the FLOP/s of a large matrix product."""
    import tensorflow as tf

    a, b = tf.ones((2048, 512)), tf.ones((512, 2048))
    times = []
    for _ in range(10):
        began = time.perf_counter()
        float(tf.linalg.matmul(a, b)[0, 0])
        times.append(time.perf_counter() - began)
    return 2 * 2048 * 512 * 2048 / min(times)


def work(settings: dict[str, Any]):
    """Trains as one worker, on one core; the first prints what it took."""
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    own = config.get("task", {}).get("index", 0)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[own % len(cores)]})  # before TensorFlow counts them

    from benchmarks import collectives, communication, step
    from keras_ssl import distribute

    count = len(config.get("cluster", {}).get("worker", [None]))
    strategy = distribute.strategy("multi_worker" if count > 1 else "none")
    start = peak()
    with strategy.scope():
        model = step.model({**settings, "queue_size": 4096})
    shape = communication.Settings(
        image_size=settings["image_size"], batch_size=settings["batch_size"]
    )
    batches = iter(communication.make_data(strategy, model, shape))
    model.make_train_function()
    seconds = []
    for _ in range(2 + settings["steps"]):
        began = time.perf_counter()
        model.train_function(batches)
        seconds.append(time.perf_counter() - began)
    exchange = collectives.of_model(model, settings["batch_size"], count)
    print(
        json.dumps(
            {
                "seconds": statistics.median(seconds[2:]),
                "memory": peak() - start,
                "collectives": len(exchange) if count > 1 else 0,
                "bytes": collectives.sent(exchange, count),
                **_latency_and_bandwidth(strategy, model, count),
            }
        )
    )


def _latency_and_bandwidth(strategy: Any, model: Any, count: int) -> dict[str, float]:
    """Returns seconds of an all-reduce of one number, and bytes per second of one of all gradients."""
    import tensorflow as tf

    from benchmarks.collectives import Collective
    from keras_ssl import distribute

    numbers = sum(math.prod(variable.shape) for variable in model.trainable_variables)

    def seconds(size: int, times: int) -> float:
        @tf.function
        def step():
            def reduced():
                values = tf.ones(size)
                for _ in range(times):  # each waits for the one before
                    values = distribute.all_reduce_sum(values) / count
                return values

            return strategy.run(reduced)

        step()
        began = time.perf_counter()
        result = step()
        float(strategy.experimental_local_results(result)[0][0])
        return (time.perf_counter() - began) / times

    latency, whole = seconds(1, 50), seconds(numbers, 3)
    sent = Collective("gradients", "reduce", numbers).sent(count)
    return {"latency": latency, "bandwidth": sent / max(whole - latency, 1e-9)}


if __name__ == "__main__":
    if (given := workers.working()) is not None:
        work(given)
    elif (given := asked()) is not None:
        print(json.dumps(measured(given)))
    else:
        import tyro

        main(tyro.cli(Settings))
