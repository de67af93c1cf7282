"""The class names of an exported classifier."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any


def read_class_names(path: str | os.PathLike) -> list[str] | None:
    """Returns the class names of an export; `None` if it is no classifier or has no names.

    Args:
        path: directory that `keras_ssl.export.saved_model` wrote.

    Example:
        >>> read_class_names("runs/finetune/export")
        ['cat', 'dog']
    """
    names = _read(path).get("class_names")
    return None if names == number_classes(len(names or ())) else names


def read_output_name(path: str | os.PathLike) -> str | None:
    """Returns "scores" for an export with class names; `None` if its network has to tell.

    Args:
        path: directory that `keras_ssl.export.saved_model` wrote.

    Example:
        >>> read_output_name("runs/finetune/export")
        'scores'
    """
    return None if _read(path).get("class_names") is None else "scores"


def _read(path: str | os.PathLike) -> dict[str, Any]:
    """Returns preprocessing.json of an export; empty if there is none."""
    file = pathlib.Path(path).expanduser() / "preprocessing.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def number_classes(count: int) -> list[str]:
    """Returns names for classes that have none: "class 0", "class 1", ..."""
    return [f"class {number}" for number in range(count)]


def complete_class_names(names: Sequence[str] | None, count: int) -> list[str]:
    """Returns the names, or numbers for names if there are none or too few of them."""
    given = list(names or ())
    return [*given, *number_classes(count)[len(given) :]]
