"""Finds the row of a table of labels for each image file."""

import logging
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from keras_ssl.data.image_folder import FolderSource

_LOG = logging.getLogger("keras_ssl")


def relative_files(images: FolderSource) -> list[str]:
    """Returns the paths of the files below the folder of the images."""
    root = pathlib.Path(images.root or "").expanduser()
    return [pathlib.Path(file).relative_to(root).as_posix() for file in images.files or ()]


def match_rows(
    images: FolderSource, table: pathlib.Path, names: list[str], warn: bool
) -> np.ndarray:
    """Returns the row of each image, -1 without one.

    A row names a path below the folder of the table, or only the name of a file, with or without
    its extension, if that is unambiguous.

    Args:
        images: image files.
        table: path of the table.
        names: file of each row, as the table names it.
        warn: whether to log how many rows have no image.
    """
    root = pathlib.Path(images.root or "").expanduser().resolve()
    below = os.path.relpath(root, table.parent.resolve())
    prefix = "" if below == "." else f"{pathlib.PurePath(below).as_posix()}/"
    paths = [f"{prefix}{name}" for name in relative_files(images)]
    rows = {name: row for row, name in enumerate(names)}
    found = np.full(len(paths), -1, np.int64)
    missing = set(rows)
    ways = (
        lambda path: path,
        lambda path: path.rpartition("/")[2],
        lambda path: path.rpartition(".")[0],
        lambda path: path.rpartition("/")[2].rpartition(".")[0],
    )
    for way in ways:
        short = [way(path) for path in paths]
        for number in _unique(short):
            row = rows.get(short[number], -1)
            if found[number] < 0 and row >= 0 and short[number] in missing:
                found[number] = row
        missing.difference_update(names[row] for row in found[found >= 0])
    skipped = {os.path.relpath(file, table.parent) for file in images.skipped}
    if warn and (missing := missing.difference(skipped)):
        _LOG.warning(
            "%d of %d files that %r names are not among the %d images of %r, such as %r",
            len(missing),
            len(rows),
            str(table),
            len(images),
            images.root,
            sorted(missing)[0],
        )
    return found


def _unique(names: list[str]) -> Iterable[int]:
    """Returns the indices of the names that occur once."""
    first: dict[str, int] = {}
    repeated = set()
    for number, name in enumerate(names):
        if first.setdefault(name, number) != number:
            repeated.add(name)
    return [number for name, number in first.items() if name not in repeated]
