"""Reads the labels of image files from a CSV file: file, label, and optionally split."""

import csv
import logging
import os
import pathlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from keras_ssl.data.image_folder import FolderSource
from keras_ssl.data.label_rows import match_rows, relative_files
from keras_ssl.data.labels import sort_names

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
        return sort_names(set(self.labels) - {""})


def find_label_table(folder: pathlib.Path, absolute: bool = True) -> LabelTable | None:
    """Returns the table of labels that lies directly in a folder, or `None`.

    A CSV or TSV file is a table of labels if its first line names a column of files and one of
    labels. If there are several, the one named `labels` is used. A warning says why a table is not
    used.

    Args:
        folder: the folder.
        absolute: see `read_label_table`.
    """
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    ]
    tables = [path for path in found if _columns(path)]
    if found and not tables:
        _warn_unknown_columns(found)
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
        return read_label_table(tables[0], absolute) if tables else None
    except ValueError as error:
        warn_unused(tables[0], error)
        return None


def _warn_unknown_columns(found: list[pathlib.Path]):
    path = next((each for each in found if each.stem.lower() == "labels"), found[0])
    _LOG.warning(
        "%r is not used as a table of labels. Expected: a first line that names a column of files (%s) "
        "and one of labels (%s). Received: %r%s",
        str(path),
        ", ".join(_COLUMNS["file"]),
        ", ".join(_COLUMNS["label"]),
        (_first_line(path) or "")[:80],
        f". Nor are {len(found) - 1} other such files" if len(found) > 1 else "",
    )


def warn_unused(path: pathlib.Path, error: ValueError):
    """Logs that a table was found in a folder and cannot be used."""
    _LOG.warning("The table of labels %r is not used. %s", str(path), error)


def read_label_table(path: str | os.PathLike, absolute: bool = True) -> LabelTable:
    """Reads a table of labels.

    The first line names the columns: `file` (or filename, image, path), `label` (or class,
    category, target) and optionally `split` (or subset, set), in any order and case. Other columns
    are ignored.

    Args:
        path: a CSV file, separated by commas or semicolons, or a TSV file, in UTF-8. Paths of files are
            relative to its folder.
        absolute: also accept absolute paths in its folder. Runs of earlier versions did not.

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
    folders = [str(path.parent.absolute()), str(path.parent.resolve())] if absolute else []
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
            name = _relative_name(line[columns["file"]], folders)
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
    rows = match_rows(images, table.path, table.files, warn=not part_of_folder)
    labels = np.array(
        [-1 if row < 0 else numbers.get(table.labels[row], -1) for row in rows], np.int64
    )
    if (labels < 0).all():
        raise ValueError(
            "A table must have a label for an image of its folder, by its path in the folder or "
            f"its absolute path. Received: {str(table.path)!r} with {len(table.files)} lines, "
            f"such as {table.files[0]!r}, and {len(images)} images in "
            f"{images.root!r}, such as {relative_files(images)[0]!r}"
        )
    if table.splits is None or part_of_folder:
        everything = np.arange(len(images))
        return _part(images, table, everything, labels), None
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
    part = _part(images, table, train, labels, TRAIN_WORDS[0])
    if word is None:
        return part, None
    test = np.flatnonzero(words == word)
    if unused := set(words.tolist()).difference(TRAIN_WORDS, [word]):
        _LOG.warning(
            "The split %r of %r is used for testing; not used: %s",
            word,
            str(table.path),
            ", ".join(f"{other} ({(words == other).sum()} images)" for other in sorted(unused)),
        )
    return part, _part(images, table, test, labels, word)


def _part(
    images: FolderSource,
    table: LabelTable,
    indices: np.ndarray,
    labels: np.ndarray,
    word: str | None = None,
) -> FolderSource:
    """Returns some of the images with their labels of the table, which counts as read."""
    name = images.name if word is None else f"{images.name} ({word})"
    part = images.part(indices, labels[indices], table.class_names, name)
    if pathlib.Path(images.root or "").expanduser().resolve() == table.path.parent.resolve():
        part.unread = dict(Counter(part.unread) - Counter([f"*{table.path.suffix.lower()}"]))
    return part


def _relative_name(text: str, folders: list[str]) -> str:
    """Returns the name of a file as a table is matched by it: relative to the folder of the table.

    Args:
        text: the file's cell. An absolute path outside of the folder stays as it is.
        folders: absolute paths of the folder, with and without symbolic links.
    """
    name = pathlib.PurePath(text.strip().replace("\\", "/")).as_posix()
    for folder in folders:
        if name.startswith(f"{folder.rstrip('/')}/"):
            return os.path.relpath(name, folder)
    return name


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
