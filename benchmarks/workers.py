"""Starts worker processes that train together on this machine."""

import json
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any

_TIMEOUT = 900  # seconds after which workers are stopped


def run_workers(module: str, settings: dict[str, Any], count: int) -> Any:
    """Runs `python -m module --worker SETTINGS` as `count` workers of one cluster.

    Args:
        module: such as "benchmarks.communication". Its main part handles `--worker`, see
            `read_worker_settings`.
        settings: settings of the measurement, passed as JSON.
        count: number of workers. A single worker gets no cluster.

    Returns:
        The first worker's last line of output, parsed as JSON.

    Raises:
        RuntimeError: if a worker fails. Its error output is printed.
    """
    request = json.dumps(settings, default=str)
    command = [sys.executable, "-m", module, "--worker", request]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **variables, "TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=pathlib.Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        for variables in _clusters(count)
    ]
    try:
        printed = [process.communicate(timeout=_TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise RuntimeError(
            "All workers must exit with status 0. Received: statuses "
            f"{[process.returncode for process in processes]}"
        )
    return json.loads(printed[0].splitlines()[-1])


def read_worker_settings() -> dict[str, Any] | None:
    """Returns the settings that `run_workers` passed to this process; `None` without any."""
    return json.loads(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else None


def _clusters(count: int) -> list[dict[str, str]]:
    if count == 1:
        return [{}]
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    cluster = {"worker": [f"localhost:{each.getsockname()[1]}" for each in sockets]}
    for each in sockets:
        each.close()
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]
