"""The same views with lightly, made like its examples. Needs a separate environment.

`benchmarks.views` runs this script in an environment with `pip install torch torchvision lightly`.
"""

import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.subprocesses import read_request


class Images(Dataset):
    """SimCLR's two views of noise images in memory, or of the image files of a folder."""

    def __init__(self, settings: dict[str, Any]):
        size = settings["size"]
        if size < 64:
            shape = (50_000, size, size, 3)
            self.images: Any = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            strengths = {"cj_strength": 0.5, "gaussian_blur": 0.0}
        else:
            files = sorted(pathlib.Path(settings["data"]).rglob("*.*"))
            self.images = [f for f in files if f.suffix.lower() in (".jpg", ".jpeg")]
            strengths = {"cj_strength": 1.0, "gaussian_blur": 0.5}
        self.views = SimCLRTransform(size, normalize=None, **strengths)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        image = self.images[number]
        if isinstance(image, np.ndarray):
            return self.views(Image.fromarray(image))
        return self.views(Image.open(image).convert("RGB"))


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Reads a data loader; returns images per second, and seconds to the first batch."""
    torch.set_num_threads(1)  # parallelism comes from the loader's processes
    images, batch_size = Images(settings), settings["batch_size"]
    loader = DataLoader(
        images,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=settings["workers"],
        persistent_workers=True,
    )
    begin = time.perf_counter()
    iterator = _repeat(loader)
    next(iterator)
    start = time.perf_counter() - begin
    end = time.perf_counter() + settings["seconds"] / 3
    while time.perf_counter() < end:
        next(iterator)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() < begin + settings["seconds"]:
        next(iterator)
        count += batch_size
    return {"rate": count / (time.perf_counter() - begin), "start": start}


def _repeat(loader: DataLoader) -> Iterator:
    while True:
        yield from loader


if __name__ == "__main__":
    print(json.dumps(measure(read_request() or {})))
