"""How fast views are made: beside lightly, and beside what decoding, cropping and resizing alone allow.

    python -m benchmarks.views --peer-python torch-env/bin/python
    python -m benchmarks.views --sizes 224 --data photos
    python -m benchmarks.views --smoke

An image counts once, whatever its number of views. At 32 px the images are noise in memory and the
policy is SimCLR's for CIFAR-10; larger ones are JPEG files, of a folder or written for the occasion,
with SimCLR's policy for ImageNet. Everything is read through its own pipeline, batch after batch, with
nothing else to do. Each contestant runs in a process of its own, and they take turns; the table shows
medians. A peer that is not there leaves its cells blank.

"crops" is the least that there is to do for two views: their crops, resized. "decode" reads and decodes
each image once. With `finish="step"` the host makes the crops and the training device the rest: the two
last columns are the speeds of these two parts, by themselves.
"""

import functools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from benchmarks import report
from benchmarks.apart import asked, measured_apart

OURS, PLAIN, PEER = "data.views", "data.views without XLA", "lightly"
CROPS, DECODE, HOST, DEVICE = "crops", "decode", "step: host's part", "step: device's part"
CONTESTANTS = (OURS, PLAIN, PEER, CROPS, DECODE, HOST, DEVICE)


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    sizes: tuple[int, ...] = (32, 224)
    """Sides of the views, in pixels; from 64 on the images are JPEG files."""
    data: pathlib.Path | None = None
    """Folder of JPEG files; by default 512 synthetic ones are written for the occasion."""
    contestants: tuple[str, ...] = CONTESTANTS
    device: Literal["cpu", "gpu"] = "cpu"
    """Where the device's part is made."""
    batch_size: int = 256
    seconds: float = 5.0
    """Of measuring in each round, after a third of it that is not measured."""
    rounds: int = 2
    workers: int = 2
    """Processes that lightly loads with."""
    peer_python: pathlib.Path | None = None
    """Python of an environment with torch, torchvision and lightly."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/views.json")
    smoke: bool = False
    """Few images and little time, to see that everything runs."""


def main(settings: Settings):
    """Measures all contestants, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, sizes=(16, 64), batch_size=16, seconds=0.3, rounds=1)
    with tempfile.TemporaryDirectory() as folder:
        if settings.data is None and max(settings.sizes) >= 64:
            write_photos(pathlib.Path(folder), 64 if settings.smoke else 512)
            settings = replace(settings, data=pathlib.Path(folder))
        found = [
            {"size": size, "contestant": name, **result}
            for _ in range(settings.rounds)
            for size in settings.sizes
            for name in settings.contestants
            if (result := measured_by(settings, size, name))
        ]
    rows = [row(size, found) for size in settings.sizes]
    print(report.table(rows))
    report.write(settings.out, asdict(settings), [{**row, "measured": found} for row in rows])


def measured_by(settings: Settings, size: int, contestant: str) -> dict | None:
    """Returns what a contestant's process measured; `None` for one that cannot run here."""
    words = {**asdict(settings), "size": size, "contestant": contestant}
    if contestant == DECODE and size < 64:
        return None  # they are not encoded
    if contestant != PEER:
        if settings.smoke:
            return measured(words)
        hidden = {"CUDA_VISIBLE_DEVICES": "-1"} if settings.device == "cpu" else None
        return measured_apart("benchmarks.views", words, environment=hidden)
    if settings.peer_python is None or settings.smoke:
        return None
    return measured_apart("benchmarks.views_lightly", words, str(settings.peer_python))


def row(size: int, found: list[dict]) -> dict[str, str]:
    """Returns a size's row of the table."""

    def median(contestant, key="rate"):
        values = [f[key] for f in found if (f["size"], f["contestant"]) == (size, contestant)]
        return statistics.median(values) if values else None

    def ratio(other):
        return f"{median(OURS) / median(other):.2f}" if median(OURS) and median(other) else ""

    rates = {name: f"{median(name):,.0f}" if median(name) else "" for name in CONTESTANTS}
    starts = [median(name, "start") for name in (OURS, PLAIN)]
    again = median(OURS, "again")
    return {
        "images/s at": f"{size} px",
        **rates,
        "views / lightly": ratio(PEER),
        "views / crops": ratio(CROPS),
        "first batch, s (without XLA)": " ".join(
            pattern.format(value)
            for pattern, value in zip(("{:.1f}", "({:.1f})"), starts, strict=True)
            if value
        ),
        "next iterator, s": f"{again:.1f}" if again else "",
    }


def measured(settings: dict[str, Any]) -> dict[str, float]:
    """Reads a pipeline; returns images per second, and seconds to the first batch."""
    batches = pipeline(settings)
    starts = []
    for _ in range(2):  # the second time the functions are compiled
        began = time.perf_counter()
        iterator = iter(batches)
        next(iterator)
        starts.append(time.perf_counter() - began)
    rate = speed(iterator, settings["batch_size"], settings["seconds"])
    return {"rate": rate, "start": starts[0], "again": starts[1]}


def speed(iterator: Iterator, batch_size: int, seconds: float) -> float:
    """Returns images per second, after a third of the time to fill what is prefetched."""
    until = time.perf_counter() + seconds / 3
    while time.perf_counter() < until:
        next(iterator)
    began, count = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        next(iterator)
        count += batch_size
    return count / (time.perf_counter() - began)


def pipeline(settings: dict[str, Any]) -> Iterable:
    """Returns a contestant's batches, without end, as `fit` reads them."""
    from keras_ssl import augment, data, distribute
    from keras_ssl.data import view_maker

    size, contestant = settings["size"], settings["contestant"]
    batch_size, is_small = settings["batch_size"], size < 64
    if is_small:
        source: Any = data.arrays(noise(size))
        policy = augment.simclr(size, strength=0.5, blur=False)
    else:
        source = data.image_folder(settings["data"], verify=False)
        policy = augment.simclr(size)
    if contestant == DECODE or (contestant == CROPS and not is_small):
        return of_files(source.files, size if contestant == CROPS else None, batch_size)
    if contestant == CROPS:
        crop = augment.Augmentation([augment.RandomCrop(size)])
        policy = augment.Policy(crop, crop)
    view_maker.WORTH_COMPILING = 2**62 if contestant == PLAIN else 0
    finish = "step" if contestant in (HOST, DEVICE) else "host"
    batches = data.views(source, policy, batch_size, seed=0, finish=finish)
    if contestant == DEVICE:
        return DevicePart(batches)
    shares = distribute.shares_of(batches)
    return batches if shares is None else shares.batches_of(distribute.Share())


def of_files(files: list[str], size: int | None, batch_size: int) -> Iterable:
    """Returns batches of decoded files; with a size, of two crops of each, and nothing else."""
    import tensorflow as tf

    from keras_ssl.augment import RandomCrop
    from keras_ssl.data import parallel

    crop = None if size is None else RandomCrop(size)

    def views(file):
        image = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
        if crop is None:
            return tf.reduce_max(image[0])  # what nobody takes is not decoded
        shape = tf.shape(image)
        boxes = crop.boxes(tf.random.uniform((2, crop.draws)), shape[0], shape[1])
        parts = [image[y : y + h, x : x + w] for y, x, h, w in map(tf.unstack, tf.unstack(boxes))]
        return [tf.image.resize(part, (size, size), "bicubic") for part in parts]

    decoded = tf.data.Dataset.from_tensor_slices(files).repeat().map(views, parallel.IMAGES)
    return parallel.with_threads(decoded.batch(batch_size).prefetch(parallel.READY))


class DevicePart:
    """Finishes the same batch again and again, as a training step would."""

    def __init__(self, batches):
        import tensorflow as tf

        from keras_ssl.augment.finish import finish_of

        on_gpu = bool(tf.config.list_logical_devices("GPU"))
        finish = tf.function(finish_of(batches), jit_compile=on_gpu, autograph=False)
        batch = tf.nest.map_structure(tf.identity, next(iter(batches)))
        self._finish = functools.partial(finish, batch)

    def __iter__(self):
        while True:
            yield [view[0, 0, 0].numpy() for view in self._finish()]


def noise(size: int, count: int = 50_000) -> np.ndarray:
    """Returns (count, size, size, 3) uint8 images."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def write_photos(folder: pathlib.Path, count: int):
    """Writes JPEG files with the size and the detail of small photographs."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(count):
        # Noise at several scales: coarse forms, fine detail, as photographs have them.
        pixels = np.zeros((224, 224, 3))
        for side, strength in ((4, 60), (16, 30), (56, 20), (224, 8)):
            coarse = generator.normal(0, strength, (side, side, 3)).repeat(224 // side, axis=0)
            pixels += coarse.repeat(224 // side, axis=1)
        image = Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))
        image.save(folder / f"{number:04}.jpg", quality=80)


if __name__ == "__main__":
    if given := asked():
        print(json.dumps(measured(given)))
    else:
        import tyro

        main(tyro.cli(Settings))
