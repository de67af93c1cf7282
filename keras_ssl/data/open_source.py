"""Opens a data set by name: a word, a file or a folder becomes sources."""

import difflib
import os
import pathlib
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Console

from keras_ssl.data.arrays import raw_npz
from keras_ssl.data.classes import match_source
from keras_ssl.data.clips import clips as clips_of
from keras_ssl.data.digits import digits
from keras_ssl.data.image_folder import RULES, FolderSource, image_folder
from keras_ssl.data.kinds import check_kind
from keras_ssl.data.label_table import (
    EXTENSIONS,
    TEST_WORDS,
    TRAIN_WORDS,
    find_label_table,
    read_label_table,
    warn_unused,
    with_table,
)
from keras_ssl.data.npz_size import check_fits
from keras_ssl.data.scaled import Range, scale, warn_if_little_used
from keras_ssl.data.source import Source
from keras_ssl.data.tfds import tfds

_HELD_OUT = 0.2  # share of the images that is held out for testing if there are no test images


def open_source(
    name: str | os.PathLike | Source,
    data_dir: str | os.PathLike | None = None,
    channels: int = 3,
    verify: bool = True,
    value_range: Range = "full",
    rules: int = RULES,
    clips: Mapping[str, Any] | None = None,
) -> tuple[Source, Source | None]:
    """Opens a data set: its training images, and its test images if it has any.

    A folder may have sub-folders for training (`train` or `training`, in any case) and for testing
    (`val`, `test`, `validation`, `valid` or `testing`; the first that is there). It may contain a
    table of labels; see `keras_ssl.data.label_table`.

    A warning is logged if the pixels use less than a twentieth of their range, or are constant.

    Args:
        name: "digits"; `"tfds:<name>"`; the path of an .npz file; the path of a folder of images; the
            path of a table of labels (.csv or .tsv) in a folder of images; or a source, which is
            returned.
        data_dir: directory of TensorFlow Datasets.
        channels: channels of the images of a folder: 3, or 1 for grayscale.
        verify: decode all files of a folder, and leave out those that are damaged.
        value_range: the values that become 0 and 1: (low, high); "auto", measured on the training
            images; or "full", the range of the type. See `keras_ssl.data.scaled.scale`.
        rules: see `image_folder`. With 1, layouts are recognized as in earlier versions too.
        clips: arguments of `keras_ssl.data.clips`, with which a folder of videos, or a single video, is
            opened; `None` for images.

    Raises:
        FileNotFoundError: if `name` is neither a known name nor an existing path.
        ValueError: if the data set cannot be used.

    Example:
        >>> train, test = open_source("digits")
        >>> len(train), len(test)
        (1437, 360)
    """
    if clips is not None and not isinstance(name, Source):
        return _open_clips(name, channels, verify, value_range, clips), None
    train, test = _open(name, data_dir, channels, verify, value_range, rules)
    if value_range == "full" and train.files is not None and train.dtype == np.float32:
        raise ValueError(
            "Image files of 32-bit values need their range: `--value-range LOW HIGH` or `auto` (in "
            f"Python: value_range=(low, high)). Received: {train.name!r}"
        )
    train = scale(train, value_range)
    if test is not None:
        test = scale(test, train.value_range or "full")
    warn_if_little_used(train)
    return train, test


def _open_clips(
    name: str | os.PathLike,
    channels: int,
    verify: bool,
    value_range: Range,
    options: Mapping[str, Any],
) -> Source:
    """Returns the clips of a folder of videos, or those of its part for training if it has two parts.

    A folder of frames may be named "train" itself, so that both parts must be there.
    """
    check_kind(name)
    path = pathlib.Path(name).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            "Videos must be a folder of videos, GIFs or folders of frames, or a single video. "
            f"Received: {str(name)!r}, and there is no such file or folder"
        )
    if channels != 3:
        raise ValueError(f"Clips have 3 channels. Received: channels={channels}")
    if value_range != "full":
        raise ValueError(
            "Clips have 8 bits and are read in their full range. Expected: value_range='full'. "
            f"Received: value_range={value_range!r}"
        )
    if path.is_dir():
        train, test = (_first_folder(path, words, True) for words in (TRAIN_WORDS, TEST_WORDS))
        path = path if train is None or test is None else train
    return clips_of(path, verify=verify, **options)


def _open(
    name: str | os.PathLike | Source,
    data_dir: str | os.PathLike | None,
    channels: int,
    verify: bool,
    value_range: Range,
    rules: int,
) -> tuple[Source, Source | None]:
    """Returns the images before they are scaled by `value_range`."""
    if isinstance(name, Source):
        return name, None
    check_kind(name)
    if name == "digits":
        return digits("train"), digits("test")
    if str(name).startswith("tfds:"):
        return _open_tfds(str(name).removeprefix("tfds:"), data_dir)
    path = pathlib.Path(name).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(str(name), ["digits", "tfds:cifar10"], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(
            "Data must be 'digits', 'tfds:<name>', an .npz file, a folder of images, or a .csv file "
            f"of their labels.{hint} Received: {str(name)!r}, and there is no such file or folder"
        )
    if path.suffix.lower() in EXTENSIONS and path.is_file():
        table = read_label_table(path)
        images = image_folder(path.parent, channels, verify, labelled=False, rules=rules)
        return with_table(images, table)
    if path.is_file():
        return _open_npz(path, value_range, "auto" if rules > 1 else "channels_last")
    return _open_folder(path, channels, verify, rules)


def _open_folder(
    path: pathlib.Path, channels: int, verify: bool, rules: int
) -> tuple[FolderSource, FolderSource | None]:
    words = (TRAIN_WORDS, TEST_WORDS) if rules > 1 else (TRAIN_WORDS[:1], TEST_WORDS[:4])
    train_folder, test_folder = (_first_folder(path, each, rules > 1) for each in words)
    table = find_label_table(path, absolute=rules > 2) if rules > 1 else None
    if table is not None and (table.splits is not None or train_folder is None):
        images = image_folder(path, channels, verify, rules=rules)
        try:
            return with_table(images, table)
        except ValueError as error:
            warn_unused(table.path, error)
            if train_folder is None:
                return images, None
            table = None

    def part(folder: pathlib.Path) -> FolderSource:
        images = image_folder(folder, channels, verify, rules=rules)
        own = find_label_table(folder, absolute=rules > 2) if rules > 1 and table is None else table
        if own is None:
            return images
        try:
            return with_table(images, own, part_of_folder=True)[0]
        except ValueError as error:
            warn_unused(own.path, error)
            return images

    if train_folder is None:
        return part(path), None
    return part(train_folder), None if test_folder is None else part(test_folder)


def open_labeled(
    name: str | os.PathLike | Source,
    data_dir: str | os.PathLike | None = None,
    channels: int = 3,
    seed: int = 0,
    console: Console | None = None,
    verify: bool = True,
    strict: bool = False,
    value_range: Range = "full",
    rules: int = RULES,
) -> tuple[Source, Source]:
    """Opens labeled training and test images. Without test images, a fifth of the images is held out.

    Classes are matched by name; see `keras_ssl.data.classes.match_source`.

    Args:
        name: see `open_source`.
        data_dir: directory of TensorFlow Datasets.
        channels: channels of the images of a folder: 3, or 1 for grayscale.
        seed: seed of the split.
        console: where to print that images were skipped or held out; `None` prints nothing.
        verify: decode all files of a folder, and leave out those that are damaged.
        strict: refuse test images of classes that the training images lack, instead of leaving them
            out. Use it to train a network with one output per class.
        value_range: see `open_source`. For a trained network, pass the range that it was trained with.
        rules: see `open_source`.

    Raises:
        FileNotFoundError: if `name` is neither a known name nor an existing path.
        ValueError: if the images have no labels, or their classes do not match.
    """
    train, test = open_source(name, data_dir, channels, verify, value_range, rules)
    if console is not None:
        report_skipped(console, train, test)
    train = keep_labeled(train, console)
    test = None if test is None else keep_labeled(test, console)
    if test is not None:
        return train, match_source(train, test, strict)
    if train.labels is None:
        raise ValueError(
            "Evaluation needs labels. Expected: class sub-folders, a .csv file with the columns file "
            f"and label, or arrays with labels. Received: {train.name!r}, without labels"
        )
    train, test = train.split(_HELD_OUT, seed=seed)
    if console is not None:
        console.print(f"No separate test images: {len(test)} of the images were held out.")
    return train, test


def keep_labeled(source: Source, console: Console | None = None) -> Source:
    """Returns the images that have a label.

    A source without any labels, or without random access, is returned unchanged.

    Args:
        source: images.
        console: where to print how many images are left out; `None` prints nothing.
    """
    if not source.random_access or source.labels is None:
        return source
    has_label = np.asarray(source.labels) >= 0
    if has_label.all():
        return source
    if console is not None:
        count = len(source) - has_label.sum()
        console.print(f"Without a label: {count} images of {source.name!r}, which are left out.")
    return source.subset(has_label)


def report_skipped(console: Console, *sources: Source | None):
    """Prints how many files could not be read. A warning has named each of them."""
    # The description of clips says what is left out.
    images = [each for each in sources if each is not None and each.clip_length is None]
    skipped = {file for source in images for file in source.skipped}
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


def _open_npz(
    path: pathlib.Path, value_range: Range, data_format: str
) -> tuple[Source, Source | None]:
    if zipfile.is_zipfile(path):  # both parts, before the first is read
        check_fits(path, ["x_train", "images", "x_test"])
    train = raw_npz(path, "train", value_range, data_format)
    with np.load(path) as file:
        has_test = "x_test" in file.files
    return train, raw_npz(path, "test", value_range, data_format) if has_test else None


def _first_folder(path: pathlib.Path, words: Iterable[str], any_case: bool) -> pathlib.Path | None:
    """Returns the sub-folder with the first of the names; the exact name first."""
    folders = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir()}
    lower = {name.lower(): folder for name, folder in reversed(folders.items())} if any_case else {}
    return next((f for word in words if (f := folders.get(word) or lower.get(word))), None)
