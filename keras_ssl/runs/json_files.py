"""Writes JSON files atomically."""

import json
import os
import pathlib
from typing import Any

import numpy as np


def write_json(path: pathlib.Path, content: Any):
    """Writes a JSON file atomically. Paths and NumPy values are converted.

    Raises:
        TypeError: if JSON cannot hold a value.
    """
    write_atomically(path, json.dumps(content, indent=2, default=_plain) + "\n")


def write_atomically(path: pathlib.Path, text: str):
    """Writes a text file: after a power cut there is the old file or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if isinstance(value, pathlib.Path):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"JSON cannot hold {value!r} of type {type(value).__name__}")
