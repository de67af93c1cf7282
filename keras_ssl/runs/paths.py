"""What a run directory must contain, checked without importing TensorFlow."""

import json
import os
import pathlib
from typing import Any

CONFIG = "config.json"


def check_new(path: str | os.PathLike):
    """Checks that there is nothing yet at a path where a run directory is to be created.

    Raises:
        FileExistsError: if the run would overwrite something.
    """
    path = pathlib.Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            "A run needs a new directory, so that nothing is overwritten. To continue a run, "
            f"resume it. Received: {str(path)!r}, which is not empty"
        )


def is_run(path: str | os.PathLike) -> bool:
    """Returns whether there is a run in a directory."""
    return pathlib.Path(path, CONFIG).is_file()


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the settings of a run.

    Raises:
        FileNotFoundError: if the directory does not exist or is no run directory.
        ValueError: if its `config.json` is damaged or another program's.
    """
    if not is_run(path):
        raise FileNotFoundError(
            f"A run directory must contain {CONFIG}. Received: {str(path)!r}, {describe(path)}"
        )
    file = pathlib.Path(path, CONFIG)
    try:
        return json.loads(file.read_text())["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{CONFIG} of a run must be a JSON file with an entry 'settings'. "
            f"Received: {str(file)!r}, which is damaged or another program's ({error})"
        ) from error


def describe(path: str | os.PathLike) -> str:
    """Returns what is at a path, for an error message."""
    path = pathlib.Path(path)
    if not path.exists():
        return "and there is no such directory"
    if not path.is_dir():
        return "which is a file"
    return f"with {', '.join(sorted(each.name for each in path.iterdir())[:20]) or 'nothing'}"


def absolute_path(data: str | None) -> str | None:
    """Returns the name of data with an absolute path, if it is the path of something.

    A run stores it, so that the run can be resumed from any folder.

    Example:
        >>> absolute_path("digits")
        'digits'
    """
    if data is None or data == "digits" or data.startswith("tfds:") or not os.path.exists(data):
        return data
    return os.path.abspath(data)
