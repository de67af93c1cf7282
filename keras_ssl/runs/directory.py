"""A run directory: what a run was told, where it stands, and what came of it."""

import contextlib
import json
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import keras
import numpy as np
import tensorflow as tf

_CONFIG = "config.json"
_METRICS = "metrics.json"
_LOCK = ".lock"


class Run:
    """The files of one run.

    ```
    config.json    the settings, and the versions they ran with
    checkpoints/   step-<steps taken>, each a directory
    .lock          held while a process trains
    logs/          TensorBoard
    history.jsonl  one line per epoch: loss and what callbacks measured
    metrics.json   what `keras-ssl evaluate` found
    export/        the SavedModel
    ```

    Args:
        path: the directory.

    Example:
        >>> run = Run.create("runs/first", {"method": "simclr"})
        >>> Run("runs/first").config["method"]
        'simclr'
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self.history_file = self.path / "history.jsonl"
        self.export = self.path / "export"

    @classmethod
    def create(cls, path: str | os.PathLike, settings: Mapping[str, Any]) -> "Run":
        """Starts a run directory.

        Args:
            path: a directory that does not exist or is empty.
            settings: what JSON can hold.

        Raises:
            FileExistsError: if there is something at `path`.
        """
        run = cls(path)
        if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
            raise FileExistsError(
                "A run needs a new directory, so that nothing is overwritten. To go on with a run, "
                f"resume it. Received: {str(run.path)!r}, which is not empty"
            )
        run.path.mkdir(parents=True, exist_ok=True)
        write_json(run.path / _CONFIG, {"settings": dict(settings), "versions": _versions()})
        return run

    @property
    def is_begun(self) -> bool:
        """Whether there is a run in the directory."""
        return (self.path / _CONFIG).is_file()

    @property
    def config(self) -> dict[str, Any]:
        """The run's settings.

        Raises:
            FileNotFoundError: if this is no run directory.
        """
        file = self.path / _CONFIG
        if not self.is_begun:
            found = ", ".join(sorted(p.name for p in self.path.glob("*"))) or "nothing"
            raise FileNotFoundError(
                f"A run directory holds {_CONFIG}. Received: {str(self.path)!r}, with {found}"
            )
        return json.loads(file.read_text())["settings"]

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured so far; empty before the first evaluation."""
        file = self.path / _METRICS
        return json.loads(file.read_text()) if file.is_file() else {}

    def add_metrics(self, metrics: Mapping[str, Any]):
        """Writes measurements into metrics.json; those of other names stay."""
        write_json(self.path / _METRICS, {**self.metrics, **metrics})

    @property
    def history(self) -> list[dict[str, float]]:
        """The values of each finished epoch, the first epoch first."""
        if not self.history_file.is_file():
            return []
        return [json.loads(line) for line in self.history_file.read_text().splitlines()]

    def add_epoch(self, epoch: int, values: Mapping[str, Any]):
        """Writes an epoch's values into history.jsonl, over what later epochs had left there.

        Args:
            epoch: number of the epoch, the first being 1.
            values: what was measured.
        """
        earlier = [line for line in self.history if line["epoch"] < epoch]
        own = {"epoch": epoch, **{name: float(value) for name, value in values.items()}}
        lines = [json.dumps(line) + "\n" for line in (*earlier, own)]
        _write_whole(self.history_file, "".join(lines))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this directory; a process that dies lets go.

        Raises:
            BlockingIOError: if one does already.
        """
        lock = filelock.FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise BlockingIOError(
                "A run directory serves one run at a time. Expected: that nothing else trains there. "
                f"Received: {str(self.path)!r}, where another process does"
            ) from error
        try:
            yield
        finally:
            lock.release()


class HistoryFile(keras.callbacks.Callback):
    """Writes each epoch's values to a run's history.jsonl."""

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        """Writes one line."""
        self.run.add_epoch(epoch + 1, logs or {})


def write_json(path: pathlib.Path, content: Any):
    """Writes a JSON file whole or not at all."""
    _write_whole(path, json.dumps(content, indent=2, default=_plain) + "\n")


def _write_whole(path: pathlib.Path, text: str):
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a power cut leaves the old file or the new one
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if isinstance(value, pathlib.Path):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"JSON cannot hold {value!r} of type {type(value).__name__}")


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
