"""Walks through the folders of a data set."""

import os
import pathlib
from collections.abc import Iterator


def walk(root: pathlib.Path) -> Iterator[tuple[str, list[str]]]:
    """Yields each folder below `root`, itself included, and the names of its files, hidden ones too.

    Hidden folders are left out. Links are followed, and each folder is visited once, since a link may
    lead back to a parent.
    """
    seen = set()  # real paths
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield folder, names
