"""Reads and writes checkpoint directories, atomically and with checksums."""

import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LOG = logging.getLogger("keras_ssl")
_NAME = re.compile(r"step-(\d+)")
_VARIABLES = "variables.npz"
_STATE = "state.json"
_SUMS = "sha256.json"
_BLOCK = 2**20  # bytes read at a time


@dataclass(frozen=True)
class StoredCheckpoint:
    """An intact checkpoint on disk.

    Attributes:
        step: training steps taken.
        variables: path of the file with the variables of model and optimizer.
        state: content of the JSON file.
    """

    step: int
    variables: pathlib.Path
    state: dict[str, Any]


def checkpoints(directory: str | os.PathLike) -> list[tuple[int, pathlib.Path]]:
    """Returns (steps taken, path) of each checkpoint in a directory, oldest first."""
    found = []
    for path in pathlib.Path(directory).glob("step-*"):
        if match := _NAME.fullmatch(path.name):
            found.append((int(match[1]), path))
    return sorted(found)


def write(
    directory: pathlib.Path,
    step: int,
    save: Callable[[pathlib.Path], Any],
    content: dict[str, Any],
) -> pathlib.Path:
    """Writes a checkpoint under a temporary name and then renames it.

    A crash therefore leaves no partial checkpoint.
    If there is already an intact checkpoint of this step, it is kept and nothing is written.

    Args:
        directory: directory of the checkpoints.
        step: training steps taken.
        save: writes the file of variables to a path.
        content: content of the JSON file.

    Returns:
        The directory of the checkpoint.

    Raises:
        OSError: if it cannot be written, for example because the disk is full. The message names
            the newest checkpoint that is left.
    """
    path = directory / f"step-{step:08d}"
    if path.exists():
        if find_damage(path) is None:
            return path
        _discard(path)
    unfinished = directory / f"unfinished-{os.getpid()}"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        save(unfinished / _VARIABLES)
        (unfinished / _STATE).write_text(json.dumps(content, indent=2) + "\n")
        sums = {name: _sha256(unfinished / name) for name in (_VARIABLES, _STATE)}
        (unfinished / _SUMS).write_text(json.dumps(sums, indent=2) + "\n")
        for name in (_VARIABLES, _STATE, _SUMS, "."):
            _flush_to_disk(unfinished / name)
        unfinished.rename(path)
        _flush_to_disk(directory)
    except OSError as error:
        left = [str(path) for _, path in checkpoints(directory)]
        raise OSError(
            f"The checkpoint of step {step} could not be written to {str(directory)!r}: {error}. "
            f"The newest intact checkpoint: {left[-1] if left else 'none'}"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return path


def find_newest(directory: str | os.PathLike) -> StoredCheckpoint | None:
    """Returns the newest intact checkpoint, and logs a warning for each damaged one that is newer.

    Returns:
        The checkpoint; `None` if the directory has none.

    Raises:
        ValueError: if all checkpoints are damaged, or there is one in the old format without
            checksums.
    """
    found = checkpoints(directory)
    if old := sorted(pathlib.Path(directory).glob("step-*.weights.h5")):
        raise ValueError(
            "A checkpoint must be a directory with checksums. Received: a file in the old format, "
            f"{str(old[-1])!r}. `model.load_weights` can still load it"
        )
    damaged = []
    for step, path in reversed(found):
        problem = find_damage(path)
        if problem is None:
            return StoredCheckpoint(step, path / _VARIABLES, read_state(path))
        damaged.append(f"{path}: {problem}")
        _LOG.warning("Skipping a damaged checkpoint: %s", damaged[-1])
    if damaged:
        raise ValueError(
            "Resuming needs an intact checkpoint. Received: only damaged ones. "
            f"{'; '.join(damaged)}. To start over, delete them or use another directory"
        )
    return None


def read_state(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a checkpoint's JSON file."""
    return json.loads((path / _STATE).read_text())


def find_damage(path: pathlib.Path) -> str | None:
    """Compares a checkpoint with its checksums; returns the problem, or `None` if it is intact."""
    try:
        sums = json.loads((path / _SUMS).read_text())
        for name in (_VARIABLES, _STATE):
            if not (path / name).is_file():
                return f"{name} is missing"
            if _sha256(path / name) != sums.get(name):
                return f"{name} does not match its SHA-256"
    except (OSError, ValueError, AttributeError) as error:
        return f"{_SUMS} cannot be read: {error}"
    return None


def remove_all_but(directory: pathlib.Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints."""
    for _, path in checkpoints(directory)[:-keep]:
        _discard(path)


def remove_unfinished(directory: pathlib.Path) -> None:
    """Deletes what killed processes have left behind; no other process may be writing there."""
    for pattern in ("unfinished-*", "removed-*"):
        for path in directory.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def _discard(path: pathlib.Path) -> None:
    # Renamed first, so that a half-deleted directory does not look like a damaged checkpoint.
    removed = path.with_name(f"removed-{os.getpid()}-{path.name}")
    path.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _flush_to_disk(path: pathlib.Path) -> None:
    """Waits until a file, or the entries of a directory, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
