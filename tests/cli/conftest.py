"""Images and a run that the tests of commands share."""

import numpy as np
import pytest
from PIL import Image

from tests.command_line import TINY, call


def picture(number, side, grey, seed):
    """An image of class 0 has stripes along one axis, of class 1 along the other."""
    rng = np.random.default_rng(seed)
    stripes = np.sin(np.arange(side) * rng.uniform(0.7, 1.0) + rng.uniform(0, 6))
    image = np.tile(stripes, (side, 1)) if number else np.tile(stripes[:, None], (1, side))
    image = np.clip(128 + 90 * image + rng.normal(0, 10, (side, side)), 0, 255).astype(np.uint8)
    return Image.fromarray(image) if grey else Image.fromarray(image).convert("RGB")


@pytest.fixture(scope="package")
def photos(tmp_path_factory):
    """Class folders with train and val, of mixed sizes and kinds, and one file that is cut short."""
    root = tmp_path_factory.mktemp("data") / "photos [2]"
    kinds = ["jpg", "png", "bmp", "gif"]
    for part, count in (("train", 20), ("val", 8)):
        for number, name in enumerate(("across", "down")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                seed = 1000 * number + 100 * (part == "val") + index
                image = picture(number, 16 + index % 5, index % 3 == 0, seed)
                image.save(folder / f"{index}.{kinds[index % 4]}")
    broken = root / "train" / "down" / "broken.jpg"
    broken.write_bytes((root / "train" / "down" / "0.jpg").read_bytes()[:300])
    return root


@pytest.fixture(scope="package")
def run(photos, tmp_path_factory):
    """A finished run on the photos, and what it printed."""
    path = tmp_path_factory.mktemp("runs") / "run"
    words = ["--data", photos, "--out", path, "--image-size", 16, "--epochs", 2, "--batch-size", 8]
    status, out, err = call("pretrain", *words, *TINY, "--knn-every", 1)
    assert status == 0, err
    return path, out
