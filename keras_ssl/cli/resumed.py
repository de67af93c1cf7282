"""The settings of a run as the defaults of the command that resumes it."""

import pathlib
from dataclasses import replace
from typing import Any


def defaults_of_run(kind: Any, path: str) -> Any:
    """Returns the settings of a run, as defaults for the options of a command line with `--resume`.

    An option that is given then differs from the run's, or it is no change.

    Args:
        kind: class of the command, with a class method `read`.
        path: run directory.

    Returns:
        An object of the class; `None` if the run cannot be read, which the command reports.
    """
    try:
        saved = kind.read(pathlib.Path(path))
    except (OSError, ValueError, KeyError):
        return None
    # The strategy may differ each time; the run does not name one.
    return replace(saved, strategy="auto") if hasattr(saved, "strategy") else saved
