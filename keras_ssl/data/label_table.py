"""Reads the labels of image files from a CSV file: file, label, and optionally split."""

import csv
import logging
import os
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from keras_ssl.data.image_folder import FolderSource

_LOG = logging.getLogger("keras_ssl")
_COLUMNS = {
    "file": (
        "file",
        "filename",
        "file_name",
        "image",
        "path",
        "filepath",
        "image_path",
        "image_id",
        "id",
    ),
    "label": ("label", "class", "category", "target", "class_name"),
    "split": ("split", "subset", "set", "partition"),
}
TRAIN_WORDS = ("train", "training")
TEST_WORDS = ("val", "test", "validation", "valid", "testing")  # the first that is there is used
EXTENSIONS = (".csv", ".tsv")
_MOST_BYTES = 2**28


@dataclass(frozen=True)
class LabelTable:
    """The rows of a file of labels.

    Args:
        path: the file.
        files: file of each row, relative to the folder of the table.
        labels: label of each row as text; "" for none.
        splits: word in the split column of each row, in lower case; `None` without the column.
    """

    path: pathlib.Path
    files: list[str]
    labels: list[str]
    splits: list[str] | None

    @property
    def class_names(self) -> list[str]:
        """The labels without repetition, in the order of their numbers, or by name."""
        names = set(self.labels) - {""}
        if all(name.isascii() and name.isdigit() for name in names):
            return sorted(names, key=lambda name: (int(name), name))
        return sorted(names)


def find_label_table(folder: pathlib.Path) -> LabelTable | None:
    """Returns the table of labels that lies directly in a folder, or `None`.

    A CSV or TSV file is a table of labels if its first line names a column of files and one of
    labels. If there are several, the one named `labels` is used. A warning says why a table is not
    used.
    """
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    ]
    tables = [path for path in found if _columns(path)]
    named = [path for path in tables if path.stem.lower() == "labels"]
    if len(named) == 1:
        tables = named
    if len(tables) > 1:
        _LOG.warning(
            "%r contains several tables of labels, and none is used: %s. Pass the path of one as "
            "the data, or name it labels.csv",
            str(folder),
            ", ".join(path.name for path in tables),
        )
        return None
    try:
        return read_label_table(tables[0]) if tables else None
    except ValueError as error:
        warn_unused(tables[0], error)
        return None


def warn_unused(path: pathlib.Path, error: ValueError):
    """Logs that a table was found in a folder and cannot be used."""
    _LOG.warning("The table of labels %r is not used. %s", str(path), error)


def read_label_table(path: str | os.PathLike) -> LabelTable:
    """Reads a table of labels.

    The first line names the columns: `file` (or filename, image, path), `label` (or class,
    category, target) and optionally `split` (or subset, set), in any order and case. Other columns
    are ignored.

    Args:
        path: a CSV file, separated by commas or semicolons, or a TSV file, in UTF-8.

    Raises:
        ValueError: if columns are missing, a file has two labels or splits, or there is no label.

    Example:
        >>> read_label_table("photos/labels.csv").class_names
        ['cat', 'dog']
    """
    path = pathlib.Path(path)
    columns = _columns(path)
    if columns is None:
        raise ValueError(
            "A table of labels must have a first line that names the columns `file` and `label`, "
            f"and optionally `split`. Received: {str(path)!r}, which begins with {_first_line(path)!r}"
        )
    rows: dict[str, tuple[str, str]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, delimiter=_delimiter(_first_line(path)))
        next(lines)
        for number, line in enumerate(lines, start=2):
            if not any(line):
                continue
            if len(line) <= max(columns.values()):
                raise ValueError(
                    f"Every line of a table of labels must have {max(columns.values()) + 1} "
                    f"columns. Received: {len(line)} in line {number} of {str(path)!r}"
                )
            name = pathlib.PurePath(line[columns["file"]].strip().replace("\\", "/")).as_posix()
            row = (
                line[columns["label"]].strip(),
                line[columns["split"]].strip().lower() if "split" in columns else "",
            )
            if rows.setdefault(name, row) != row:
                raise ValueError(
                    "A file must have one label and one split. Received: "
                    f"{' '.join(rows[name]).strip()!r} and {' '.join(row).strip()!r} for {name!r}, "
                    f"in line {number} of {str(path)!r}"
                )
    labels = [label for label, _ in rows.values()]
    if not any(labels):
        raise ValueError(
            f"A table of labels must have a label. Received: {len(rows)} lines in {str(path)!r}, "
            "without any"
        )
    splits = [split for _, split in rows.values()] if "split" in columns else None
    return LabelTable(path, list(rows), labels, splits)


def with_table(
    images: FolderSource, table: LabelTable, part_of_folder: bool = False
) -> tuple[FolderSource, FolderSource | None]:
    """Returns images with the labels of a table, split as it says.

    Without a split column, all images of the folder are returned; those that the table lacks have
    no label. With a split column, images that the table lacks belong to the training images.

    Args:
        images: all images of the folder of the table.
        table: the labels.
        part_of_folder: the images are some of those of the table. Its split column is ignored, and
            files that are missing are not reported.

    Returns:
        Training images, and test images or `None`.

    Raises:
        ValueError: if no image is in the table, or the split column has no training images.
    """
    names = table.class_names
    numbers = {name: number for number, name in enumerate(names)}
    rows = _match(images, table, warn=not part_of_folder)
    labels = np.array(
        [-1 if row < 0 else numbers.get(table.labels[row], -1) for row in rows], np.int64
    )
    if (labels < 0).all():
        raise ValueError(
            "A table must have a label for an image of its folder. Received: "
            f"{str(table.path)!r} with {len(table.files)} lines, such as {table.files[0]!r}, and "
            f"{len(images)} images in {images.root!r}, such as {_relative(images)[0]!r}"
        )
    if table.splits is None or part_of_folder:
        everything = np.arange(len(images))
        return images.part(everything, labels, names, images.name), None
    words = np.array([TRAIN_WORDS[0] if row < 0 else table.splits[row] for row in rows])
    train = np.flatnonzero(np.isin(words, TRAIN_WORDS))
    word = next((word for word in TEST_WORDS if (words == word).any()), None)
    if unknown := sorted(set(words.tolist()).difference(TRAIN_WORDS, TEST_WORDS)):
        raise ValueError(
            f"The split of an image must be one of {', '.join((*TRAIN_WORDS, *TEST_WORDS))}. "
            f"Received: {', '.join(map(repr, unknown[:5]))} in {str(table.path)!r}"
        )
    if not len(train):
        raise ValueError(
            f"The split column must have training images: {' or '.join(TRAIN_WORDS)}. Received: "
            f"{', '.join(sorted(set(words.tolist())))} in {str(table.path)!r}"
        )
    parts = [images.part(train, labels[train], names, f"{images.name} ({TRAIN_WORDS[0]})")]
    if word is None:
        return parts[0], None
    test = np.flatnonzero(words == word)
    if unused := set(words.tolist()).difference(TRAIN_WORDS, [word]):
        _LOG.warning(
            "The split %r of %r is used for testing; not used: %s",
            word,
            str(table.path),
            ", ".join(f"{other} ({(words == other).sum()} images)" for other in sorted(unused)),
        )
    return parts[0], images.part(test, labels[test], names, f"{images.name} ({word})")


def _relative(images: FolderSource) -> list[str]:
    root = pathlib.Path(images.root or "").expanduser()
    return [pathlib.Path(file).relative_to(root).as_posix() for file in images.files or ()]


def _match(images: FolderSource, table: LabelTable, warn: bool) -> np.ndarray:
    """Returns the row of each image, -1 without one.

    A row names a path below the folder of the table, or only the name of a file, with or without
    its extension, if that is unambiguous.
    """
    root = pathlib.Path(images.root or "").expanduser().resolve()
    below = os.path.relpath(root, table.path.parent.resolve())
    prefix = "" if below == "." else f"{pathlib.PurePath(below).as_posix()}/"
    paths = [f"{prefix}{name}" for name in _relative(images)]
    rows = {name: row for row, name in enumerate(table.files)}
    found = np.full(len(paths), -1, np.int64)
    missing = set(rows)
    ways = (
        lambda path: path,
        lambda path: path.rpartition("/")[2],
        lambda path: path.rpartition(".")[0],
        lambda path: path.rpartition("/")[2].rpartition(".")[0],
    )
    for way in ways:
        names = [way(path) for path in paths]
        for number in _unique(names):
            row = rows.get(names[number], -1)
            if found[number] < 0 and row >= 0 and names[number] in missing:
                found[number] = row
        missing.difference_update(table.files[row] for row in found[found >= 0])
    skipped = {os.path.relpath(file, table.path.parent) for file in images.skipped}
    if warn and (missing := missing.difference(skipped)):
        _LOG.warning(
            "%d of %d files that %r names are not among the %d images of %r, such as %r",
            len(missing),
            len(rows),
            str(table.path),
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


def _columns(path: pathlib.Path) -> dict[str, int] | None:
    """Returns the positions of the columns, or `None` if the file is no table of labels."""
    line = _first_line(path)
    if line is None:
        return None
    header = [
        name.strip().lower() for name in next(csv.reader([line], delimiter=_delimiter(line)), [])
    ]
    found = {}
    for column, names in _COLUMNS.items():
        position = next((header.index(name) for name in names if name in header), None)
        if position is not None:
            found[column] = position
    return found if {"file", "label"} <= found.keys() else None


def _first_line(path: pathlib.Path) -> str | None:
    if path.stat().st_size > _MOST_BYTES:
        return None
    with path.open("rb") as file:
        line = file.readline(4096)
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        return None


def _delimiter(line: str | None) -> str:
    line = line or ""
    return max(",;\t", key=line.count)
