"""Memory and speed of a training step in chunks: the table of docs/large_batches.md.

    python benchmarks/chunks.py
    python benchmarks/chunks.py --smoke

Each number of chunks is measured in a process of its own, on images of noise. Memory is the most that
the process held, and how much of it the training added; speed is that of the fastest step, and work the
processor time of the cheapest, which other programs disturb less.
"""

import json
import pathlib
import platform
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace

import tyro


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    method: str = "simclr"
    """simclr, moco or byol."""
    chunks: tuple[int, ...] = (1, 2, 4, 8)
    depth: int = 18
    """Of the ResNet."""
    image_size: int = 32
    batch_size: int = 256
    """Images per step; SimCLR and BYOL pass two views of each."""
    steps: int = 2
    """Measured steps, after one that is not."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/chunks.json")
    smoke: bool = False
    """A small network and few images, to see that everything runs."""


def main(settings: Settings):
    """Measures each number of chunks, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, chunks=(1, 2), depth=0, image_size=8, batch_size=16, steps=1)
    rows = [measured_apart(replace(settings, chunks=(count,))) for count in settings.chunks]
    print("| chunks | memory, GiB | of it for training, GiB | images per second | CPU s per step |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print("| {chunks} | {peak:.2f} | {step:.2f} | {speed:.1f} | {work:.1f} |".format(**row))
    machine = f"{platform.machine()}, {platform.system()}"
    result = {"settings": asdict(settings), "machine": machine, "rows": rows}
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    settings.out.write_text(json.dumps(result, indent=2, default=str) + "\n")
    print(f"Written: {settings.out}")


def measured_apart(settings: Settings) -> dict:
    """Returns what `measured` returns in a new process: the peak of a process never falls."""
    words = json.dumps(asdict(settings), default=str)
    command = [sys.executable, __file__, "--measure", words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(settings: Settings) -> dict:
    """Trains for a few steps; returns GiB, images per second and processor seconds per step."""
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

    before, clock = peak(), Clock()
    model.fit(data, verbose=0, callbacks=[clock])
    pairs = zip(clock.times, clock.times[1:], strict=False)
    steps = [[b - a for a, b in zip(*pair, strict=True)] for pair in pairs]
    fastest, cheapest = (min(column) for column in zip(*steps, strict=True))
    return {
        "chunks": chunks,
        "peak": peak(),
        "step": peak() - before,
        "speed": settings.batch_size / fastest,
        "work": cheapest,
    }


def peak() -> float:
    """Returns the most memory that this process has held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        given = json.loads(sys.argv[2])
        print(json.dumps(measured(Settings(**{**given, "chunks": tuple(given["chunks"])}))))
    else:
        main(tyro.cli(Settings))
