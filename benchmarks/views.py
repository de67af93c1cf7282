"""Views per second, compared with lightly and with decoding, cropping and resizing alone.

    python -m benchmarks.views --peer-python torch-env/bin/python
    python -m benchmarks.views --sizes 224 --data photos
    python -m benchmarks.views --smoke

An image counts once, regardless of its number of views. At 32 px the images are noise in memory, and
the policy is SimCLR's for CIFAR-10. Larger images are JPEG files, from a folder or synthetic, and the
policy is SimCLR's for ImageNet. Each contestant reads batches from its own data pipeline in a separate
process, without training. Their rounds are interleaved, and the table shows medians. The cells of a
library that is not available stay blank.

"crops" is the lower bound for two views: only cropping and resizing. "decode" reads and decodes each
image once. With `finish="step"` the host makes the crops, and the training device does the rest. The
last two columns are the separate speeds of these two parts.
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
from benchmarks.subprocesses import read_request, run_in_subprocess

OURS, PLAIN, PEER = "data.views", "data.views without XLA", "lightly"
CROPS, DECODE, HOST, DEVICE = "crops", "decode", "step: host's part", "step: device's part"
CONTESTANTS = (OURS, PLAIN, PEER, CROPS, DECODE, HOST, DEVICE)


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    sizes: tuple[int, ...] = (32, 224)
    """Sides of the views, in pixels. From 64 pixels, the images are JPEG files."""
    data: pathlib.Path | None = None
    """Folder of JPEG files; by default 512 synthetic files in a temporary folder."""
    contestants: tuple[str, ...] = CONTESTANTS
    device: Literal["cpu", "gpu"] = "cpu"
    """Device that runs the device's part."""
    batch_size: int = 256
    seconds: float = 5.0
    """Duration of a measurement in each round, after a third of it as warm-up."""
    rounds: int = 2
    workers: int = 2
    """Number of lightly's data-loading processes."""
    peer_python: pathlib.Path | None = None
    """Path of the Python of an environment with torch, torchvision and lightly."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/views.json")
    smoke: bool = False
    """Few images and short measurements, to check that everything runs."""


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
            if (result := measure_contestant(settings, size, name))
        ]
    rows = [row(size, found) for size in settings.sizes]
    print(report.table(rows))
    report.write(settings.out, asdict(settings), [{**row, "measured": found} for row in rows])


def measure_contestant(settings: Settings, size: int, contestant: str) -> dict | None:
    """Measures one contestant in a subprocess; returns `None` if it is not available."""
    request = {**asdict(settings), "size": size, "contestant": contestant}
    if contestant == DECODE and size < 64:
        return None  # these images are not encoded
    if contestant != PEER:
        if settings.smoke:
            return measure(request)
        environment = {"CUDA_VISIBLE_DEVICES": "-1"} if settings.device == "cpu" else None
        return run_in_subprocess("benchmarks.views", request, environment=environment)
    if settings.peer_python is None or settings.smoke:
        return None
    return run_in_subprocess("benchmarks.views_lightly", request, str(settings.peer_python))


def row(size: int, found: list[dict]) -> dict[str, str]:
    """Returns the row of the table for one size."""

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


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Reads a data pipeline; returns images per second, and seconds to the first batch."""
    batches = pipeline(settings)
    starts = []
    for _ in range(2):  # the second time, functions are already compiled
        start = time.perf_counter()
        iterator = iter(batches)
        next(iterator)
        starts.append(time.perf_counter() - start)
    rate = measure_speed(iterator, settings["batch_size"], settings["seconds"])
    return {"rate": rate, "start": starts[0], "again": starts[1]}


def measure_speed(iterator: Iterator, batch_size: int, seconds: float) -> float:
    """Returns images per second, after a third of the time as warm-up to fill prefetch buffers."""
    end = time.perf_counter() + seconds / 3
    while time.perf_counter() < end:
        next(iterator)
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        next(iterator)
        count += batch_size
    return count / (time.perf_counter() - start)


def pipeline(settings: dict[str, Any]) -> Iterable:
    """Returns a contestant's endless batches, as `fit` reads them."""
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
        return read_files(source.files, size if contestant == CROPS else None, batch_size)
    if contestant == CROPS:
        crop = augment.Augmentation([augment.RandomCrop(size)])
        policy = augment.Policy(crop, crop)
    view_maker.WORTH_COMPILING = 2**62 if contestant == PLAIN else 0
    finish = "step" if contestant in (HOST, DEVICE) else "host"
    batches = data.views(source, policy, batch_size, seed=0, finish=finish)
    if contestant == DEVICE:
        return DevicePart(batches)
    shares = distribute.get_shares(batches)
    return batches if shares is None else shares.batches_of(distribute.Share())


def read_files(files: list[str], size: int | None, batch_size: int) -> Iterable:
    """Returns batches of decoded files; with a size, of two crops of each file."""
    import tensorflow as tf

    from keras_ssl.augment import RandomCrop
    from keras_ssl.data import parallel

    crop = None if size is None else RandomCrop(size)

    def views(file):
        image = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
        if crop is None:
            return tf.reduce_max(image[0])  # uses the image, so that it is decoded
        shape = tf.shape(image)
        boxes = crop.boxes(tf.random.uniform((2, crop.draws)), shape[0], shape[1])
        parts = [image[y : y + h, x : x + w] for y, x, h, w in map(tf.unstack, tf.unstack(boxes))]
        return [tf.image.resize(part, (size, size), "bicubic") for part in parts]

    decoded = tf.data.Dataset.from_tensor_slices(files).repeat().map(views, parallel.IMAGES)
    return parallel.with_threads(decoded.batch(batch_size).prefetch(parallel.READY))


class DevicePart:
    """Finishes the same batch repeatedly, as a training step would."""

    def __init__(self, batches):
        import tensorflow as tf

        from keras_ssl.augment.finish import get_finish

        on_gpu = bool(tf.config.list_logical_devices("GPU"))
        finish = tf.function(get_finish(batches), jit_compile=on_gpu, autograph=False)
        batch = tf.nest.map_structure(tf.identity, next(iter(batches)))
        self._finish = functools.partial(finish, batch)

    def __iter__(self):
        while True:
            yield [view[0, 0, 0].numpy() for view in self._finish()]


def noise(size: int, count: int = 50_000) -> np.ndarray:
    """Returns (count, size, size, 3) uint8 images."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def write_photos(folder: pathlib.Path, count: int):
    """Writes JPEG files with the size and detail of small photographs."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(count):
        # Noise at several scales, so that there are coarse shapes and fine detail as in photographs.
        pixels = np.zeros((224, 224, 3))
        for side, strength in ((4, 60), (16, 30), (56, 20), (224, 8)):
            coarse = generator.normal(0, strength, (side, side, 3)).repeat(224 // side, axis=0)
            pixels += coarse.repeat(224 // side, axis=1)
        image = Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))
        image.save(folder / f"{number:04}.jpg", quality=80)


if __name__ == "__main__":
    if request := read_request():
        print(json.dumps(measure(request)))
    else:
        import tyro

        main(tyro.cli(Settings))
