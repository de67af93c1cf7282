"""Cost of what pretext tasks add: their views in the data pipeline, and their targets in the step.

    python -m benchmarks.pretext
    python -m benchmarks.pretext --smoke

"views" are images per second that the data pipeline makes, of noise in memory: the single view of
pretext tasks (crop and flip, with keys) and the two views of SimCLR. "targets" is the time that a batch
spends on tiles, on the conversion to Lab, and on the soft codes of a quarter of its pixels, as a share
of a training step of SimCLR with a ResNet-18 on the same batch. Rounds are interleaved; medians shown.
"""

import pathlib
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.views import measure_speed, noise

ONE, TWO = "one view", "views of SimCLR"
TARGETS = ("tiles", "Lab", "soft codes")


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    sizes: tuple[int, ...] = (32, 64)
    """Sides of the views, in pixels."""
    batch_size: int = 64
    seconds: float = 4.0
    """Duration of a measurement in each round, after a third of it as warm-up."""
    rounds: int = 3
    depth: int = 18
    """Depth of the residual network of the training step."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/pretext.json")
    smoke: bool = False
    """One short round with small images, to check that everything runs."""


def main(settings: Settings):
    """Measures all sizes, prints the table and writes it as JSON."""
    if settings.smoke:
        small: dict[str, Any] = {"sizes": (24,), "batch_size": 8, "seconds": 0.2, "rounds": 1}
        settings = replace(settings, **small)
    rows = [row(size, settings) for size in settings.sizes]
    print(report.table(rows))
    report.write(settings.out, asdict(settings), rows)


def row(size: int, settings: Settings) -> dict[str, str]:
    """Returns the row of the table for one size."""
    contestants = {**pipelines(size, settings), **steps(size, settings)}
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(settings.rounds):
        for name, measure in contestants.items():
            found[name].append(measure())
    median = {name: statistics.median(values) for name, values in found.items()}
    views = {name: f"{median[name]:,.0f}" for name in (ONE, TWO)}
    step = median["step"]
    return {
        "size": f"{size} px",
        **{f"images/s, {name}": rate for name, rate in views.items()},
        "ratio": f"{median[ONE] / median[TWO]:.2f}",
        "step, ms": f"{1000 * step:,.0f}",
        **{f"{name}, share of the step": f"{100 * median[name] / step:.1f}%" for name in TARGETS},
    }


def pipelines(size: int, settings: Settings) -> dict[str, Callable[[], float]]:
    """Returns functions that measure the images per second of the two pipelines."""
    from keras_ssl import augment, data, distribute

    source = data.arrays(noise(size))

    def iterator(policy: Any, **arguments: Any):
        batches = data.views(source, policy, settings.batch_size, seed=0, **arguments)
        return iter(distribute.get_shares(batches).batches_of(distribute.Share()))

    def speed(policy: Any, **arguments: Any) -> Callable[[], float]:
        return lambda: measure_speed(
            iterator(policy, **arguments), settings.batch_size, settings.seconds
        )

    blur = size > 64
    return {
        ONE: speed(augment.crop_and_flip(size), keys=True),
        TWO: speed(augment.simclr(size, strength=0.5, blur=blur)),
    }


def steps(size: int, settings: Settings) -> dict[str, Callable[[], float]]:
    """Returns functions that measure the seconds of a training step, and of each kind of targets."""
    import keras
    import tensorflow as tf

    from keras_ssl import backbones, layers, methods, optimizers
    from keras_ssl.augment import random
    from keras_ssl.methods.map_targets import sample_pixels

    keras.utils.set_random_seed(0)
    shape = (settings.batch_size, size, size, 3)
    images = tf.random.stateless_uniform(shape, [0, 1])
    keys = random.image_keys(0, 0, tf.range(settings.batch_size, dtype=tf.int64), random.METHOD)
    model = methods.SimCLR(backbones.ResNet(settings.depth, input_shape=shape[1:]))
    model.compile(optimizers.SGD(0.01))
    model.optimizer.build(model.trainable_variables)
    tiles, to_lab, bins = layers.Tiles(), layers.RGBToLab(), layers.ColorBins()
    ab = sample_pixels(to_lab(images)[..., 1:])
    functions = {
        "step": lambda: model.train_step((images, images)),
        "tiles": lambda: tiles(images, keys),
        "Lab": lambda: to_lab(images),
        "soft codes": lambda: bins(ab),
    }
    traced = {name: tf.function(each, autograph=False) for name, each in functions.items()}
    return {name: lambda each=each: seconds(each, settings) for name, each in traced.items()}


def seconds(function: Callable[[], Any], settings: Settings) -> float:
    """Returns the mean duration of a call, after a third of the time as warm-up."""
    end = time.perf_counter() + settings.seconds / 3
    while time.perf_counter() < end:
        _wait(function())
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + settings.seconds:
        _wait(function())
        count += 1
    return (time.perf_counter() - start) / count


def _wait(result: Any):
    import tensorflow as tf

    for part in tf.nest.flatten(result):
        np.asarray(part)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Settings, description=__doc__))
