"""The images that the command line names: a word, a file or a folder becomes sources."""

import difflib
import pathlib
from collections.abc import Iterable

import numpy as np

from keras_ssl import data
from keras_ssl.data import Source

_TRAIN_FOLDERS = ("train",)
_TEST_FOLDERS = ("val", "test", "validation", "valid")


def opened(
    name: str, data_dir: pathlib.Path | None = None, channels: int = 3
) -> tuple[Source, Source | None]:
    """Opens a data set: its images for training, and its own test images where it has them.

    Args:
        name: "digits"; "tfds:<name>"; the path of an .npz file; the path of a folder of images, which
            may have the sub-folders `train` and `val` (or `test`).
        data_dir: where TFDS keeps its data sets.
        channels: of a folder's images: 3, or 1 for grey.

    Raises:
        FileNotFoundError: if `name` is neither a known word nor a path that exists.
        ValueError: if the data set cannot be used.

    Example:
        >>> train, test = opened("digits")
        >>> len(train), len(test)
        (1437, 360)
    """
    if name == "digits":
        return data.digits("train"), data.digits("test")
    if name.startswith("tfds:"):
        return _tfds(name.removeprefix("tfds:"), data_dir)
    path = pathlib.Path(name)
    if not path.exists():
        near = difflib.get_close_matches(name, ["digits", "tfds:cifar10"], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(
            "Data must be 'digits', 'tfds:<name>', an .npz file, or a folder of images."
            f"{hint} Received: {name!r}, and there is no such file or folder"
        )
    if path.is_file():
        return _npz(path)
    train_folder = _first_folder(path, _TRAIN_FOLDERS)
    test_folder = _first_folder(path, _TEST_FOLDERS)
    if train_folder is None:
        return data.image_folder(path, channels=channels), None
    test = None if test_folder is None else data.image_folder(test_folder, channels=channels)
    return data.image_folder(train_folder, channels=channels), test


def _tfds(name: str, data_dir: pathlib.Path | None) -> tuple[Source, Source | None]:
    train = data.tfds(name, "train", data_dir=data_dir)
    for split in ("test", "validation"):
        try:
            return train, data.tfds(name, split, data_dir=data_dir)
        except ValueError:
            continue  # the training split was fine, so this set has no such split
    return train, None


def _npz(path: pathlib.Path) -> tuple[Source, Source | None]:
    train = data.npz(path, "train")
    with np.load(path) as file:
        has_test = "x_test" in file.files
    return train, data.npz(path, "test") if has_test else None


def _first_folder(path: pathlib.Path, names: Iterable[str]) -> pathlib.Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)
