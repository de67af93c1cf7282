"""Measuring in a process of its own: the peak of a process never falls, and its caches stay warm."""

import json
import os
import pathlib
import resource
import subprocess
import sys
from typing import Any


def measured_apart(
    module: str,
    settings: dict[str, Any],
    python: str = sys.executable,
    environment: dict[str, str] | None = None,
) -> Any:
    """Runs `python -m module --measure SETTINGS` and returns what it prints last, read as JSON.

    Args:
        module: such as "benchmarks.losses"; its main part answers `--measure`, see `asked`.
        settings: what is measured, written as JSON.
        python: of another environment, for a peer that needs one.
        environment: variables that are added to this process' own.

    Raises:
        subprocess.CalledProcessError: if the process fails; what it said is on the screen.
    """
    done = subprocess.run(
        [python, "-m", module, "--measure", json.dumps(settings, default=str)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, **(environment or {})},
    )
    return json.loads(done.stdout.splitlines()[-1])


def asked() -> dict[str, Any] | None:
    """Returns the settings that `measured_apart` passed to this process; `None` in any other."""
    return json.loads(sys.argv[2]) if sys.argv[1:2] == ["--measure"] else None


def peak() -> float:
    """Returns the most memory that this process has held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
