"""Memory and speed of a training step in chunks: the table of docs/large_batches.md.

    python -m benchmarks.chunks
    python -m benchmarks.chunks --smoke

Each number of chunks is measured in a separate process, on noise images. Memory is the peak of the
process, and the part of it that training added. Speed is that of the fastest step. CPU time is the
smallest of all steps; other programs disturb it less.
"""

import json
import pathlib
import time
from dataclasses import asdict, dataclass, replace

import tyro

from benchmarks import report
from benchmarks.subprocesses import peak_memory, read_request, run_in_subprocess


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    method: str = "simclr"
    """simclr, moco or byol."""
    chunks: tuple[int, ...] = (1, 2, 4, 8)
    depth: int = 18
    """Depth of the ResNet; 0 for Tiny."""
    image_size: int = 32
    batch_size: int = 256
    """Images per step. SimCLR and BYOL pass two views of each through the network."""
    steps: int = 2
    """Measured steps, after one warm-up step."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/chunks.json")
    smoke: bool = False
    """A tiny model and few images, to check that everything runs."""


def main(settings: Settings):
    """Measures each number of chunks, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, chunks=(1, 2), depth=0, image_size=8, batch_size=16, steps=1)
    rows = [
        run_in_subprocess("benchmarks.chunks", {**asdict(settings), "chunks": (count,)})
        for count in settings.chunks
    ]
    print(report.table([format_row(row) for row in rows]))
    report.write(settings.out, asdict(settings), rows)


def format_row(row: dict) -> dict:
    """Returns a row of the table."""
    return {
        "chunks": row["chunks"],
        "memory, GiB": f"{row['peak']:.2f}",
        "of it for training, GiB": f"{row['step']:.2f}",
        "images per second": f"{row['speed']:.1f}",
        "CPU s per step": f"{row['work']:.1f}",
    }


def measure(settings: Settings) -> dict:
    """Trains for a few steps; returns GiB, images per second and CPU seconds per step."""
    import keras
    import tensorflow as tf

    from keras_ssl import backbones, methods

    (chunks,) = settings.chunks
    shape = (settings.image_size, settings.image_size, 3)
    keras.utils.set_random_seed(0)
    backbone = (
        backbones.ResNet(settings.depth, input_shape=shape)
        if settings.depth
        else backbones.Tiny(shape, features=16)
    )
    method = {"simclr": methods.SimCLR, "moco": methods.MoCo, "byol": methods.BYOL}[settings.method]
    model = method(backbone)
    model.compile(keras.optimizers.SGD(0.01), chunks=chunks)
    views = tf.random.stateless_uniform((2, settings.batch_size, *shape), seed=(0, 0))
    data = tf.data.Dataset.from_tensors((views[0], views[1])).repeat(1 + settings.steps)

    class Clock(keras.callbacks.Callback):
        times: list[tuple[float, float]] = []

        def on_train_batch_end(self, batch, logs=None):
            self.times.append((time.perf_counter(), time.process_time()))

    before, clock = peak_memory(), Clock()
    model.fit(data, verbose=0, callbacks=[clock])
    pairs = zip(clock.times, clock.times[1:], strict=False)
    steps = [[b - a for a, b in zip(*pair, strict=True)] for pair in pairs]
    fastest, cheapest = (min(column) for column in zip(*steps, strict=True))
    return {
        "chunks": chunks,
        "peak": peak_memory(),
        "step": peak_memory() - before,
        "speed": settings.batch_size / fastest,
        "work": cheapest,
    }


if __name__ == "__main__":
    if (request := read_request()) is not None:
        print(json.dumps(measure(Settings(**{**request, "chunks": tuple(request["chunks"])}))))
    else:
        main(tyro.cli(Settings))
