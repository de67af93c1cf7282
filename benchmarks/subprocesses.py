"""Measures in separate processes.

The peak memory of a process never decreases, and its caches stay warm, so each measurement gets a fresh
process.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
from typing import Any


def run_in_subprocess(
    module: str,
    settings: dict[str, Any],
    python: str = sys.executable,
    environment: dict[str, str] | None = None,
) -> Any:
    """Runs `python -m module --measure SETTINGS` and returns its last line of output, parsed as JSON.

    Args:
        module: such as "benchmarks.losses". Its main part handles `--measure`, see `read_request`.
        settings: settings of the measurement, passed as JSON.
        python: path of the Python executable, for a library that needs another environment.
        environment: environment variables to add to those of this process.

    Raises:
        subprocess.CalledProcessError: if the process fails. Its error output is printed.
    """
    completed = subprocess.run(
        [python, "-m", module, "--measure", json.dumps(settings, default=str)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, **(environment or {})},
    )
    return json.loads(completed.stdout.splitlines()[-1])


def read_request() -> dict[str, Any] | None:
    """Returns the settings that `run_in_subprocess` passed to this process; `None` without any."""
    return json.loads(sys.argv[2]) if sys.argv[1:2] == ["--measure"] else None


def peak_memory() -> float:
    """Returns the peak memory of this process, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
