"""Opens a data set by name: a word, a file or a folder becomes sources."""

import difflib
import os
import pathlib
from collections.abc import Iterable

import numpy as np
from rich.console import Console

from keras_ssl.data.arrays import npz
from keras_ssl.data.digits import digits
from keras_ssl.data.image_folder import image_folder
from keras_ssl.data.named import tfds
from keras_ssl.data.source import Source

_TRAIN_FOLDERS = ("train",)
_TEST_FOLDERS = ("val", "test", "validation", "valid")
_HELD_OUT = 0.2  # share of the images that is held out for testing if there are no test images


def open_source(
    name: str | os.PathLike | Source,
    data_dir: str | os.PathLike | None = None,
    channels: int = 3,
    verify: bool = True,
) -> tuple[Source, Source | None]:
    """Opens a data set: its training images, and its test images if it has any.

    Args:
        name: "digits"; `"tfds:<name>"`; the path of an .npz file; the path of a folder of images, which
            may have the sub-folders `train` and `val` (or `test`); or a source, which is returned.
        data_dir: directory of TensorFlow Datasets.
        channels: channels of the images of a folder: 3, or 1 for grayscale.
        verify: decode all files of a folder, and leave out those that are damaged.

    Raises:
        FileNotFoundError: if `name` is neither a known name nor an existing path.
        ValueError: if the data set cannot be used.

    Example:
        >>> train, test = open_source("digits")
        >>> len(train), len(test)
        (1437, 360)
    """
    if isinstance(name, Source):
        return name, None
    if name == "digits":
        return digits("train"), digits("test")
    if str(name).startswith("tfds:"):
        return _open_tfds(str(name).removeprefix("tfds:"), data_dir)
    path = pathlib.Path(name)
    if not path.exists():
        near = difflib.get_close_matches(str(name), ["digits", "tfds:cifar10"], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(
            "Data must be 'digits', 'tfds:<name>', an .npz file, or a folder of images."
            f"{hint} Received: {str(name)!r}, and there is no such file or folder"
        )
    if path.is_file():
        return _open_npz(path)
    train_folder = _first_folder(path, _TRAIN_FOLDERS)
    test_folder = _first_folder(path, _TEST_FOLDERS)
    if train_folder is None:
        return image_folder(path, channels=channels, verify=verify), None
    train = image_folder(train_folder, channels=channels, verify=verify)
    if test_folder is None:
        return train, None
    return train, image_folder(test_folder, channels=channels, verify=verify)


def open_labeled(
    name: str | os.PathLike | Source,
    data_dir: str | os.PathLike | None = None,
    channels: int = 3,
    seed: int = 0,
    console: Console | None = None,
    verify: bool = True,
) -> tuple[Source, Source]:
    """Opens labeled training and test images. Without test images, a fifth of the images is held out.

    Args:
        name: see `open_source`.
        data_dir: directory of TensorFlow Datasets.
        channels: channels of the images of a folder: 3, or 1 for grayscale.
        seed: seed of the split.
        console: where to print that images were skipped or held out; `None` prints nothing.
        verify: decode all files of a folder, and leave out those that are damaged.

    Raises:
        FileNotFoundError: if `name` is neither a known name nor an existing path.
        ValueError: if the images have no labels.
    """
    train, test = open_source(name, data_dir, channels, verify)
    if console is not None:
        report_skipped(console, train, test)
    if test is not None:
        return train, test
    if train.labels is None:
        raise ValueError(
            "Evaluation needs labels. Expected: class sub-folders, or arrays with labels. "
            f"Received: {train.name!r}, without labels"
        )
    train, test = train.split(_HELD_OUT, seed=seed)
    if console is not None:
        console.print(f"No separate test images: {len(test)} of the images were held out.")
    return train, test


def report_skipped(console: Console, *sources: Source | None):
    """Prints how many files could not be read. A warning has named each of them."""
    skipped = {file for source in sources if source is not None for file in source.skipped}
    if skipped:
        console.print(f"Skipped: {len(skipped)} unreadable image files, named above.")


def _open_tfds(name: str, data_dir: str | os.PathLike | None) -> tuple[Source, Source | None]:
    train = tfds(name, "train", data_dir=data_dir)
    # The test split of ImageNet has no labels.
    splits = ("validation",) if name.startswith("imagenet2012") else ("test", "validation")
    for split in splits:
        try:
            return train, tfds(name, split, data_dir=data_dir)
        except ValueError:
            continue  # the training split could be opened, so there is no such split
    return train, None


def _open_npz(path: pathlib.Path) -> tuple[Source, Source | None]:
    train = npz(path, "train")
    with np.load(path) as file:
        has_test = "x_test" in file.files
    return train, npz(path, "test") if has_test else None


def _first_folder(path: pathlib.Path, names: Iterable[str]) -> pathlib.Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)
