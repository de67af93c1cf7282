"""Checkpoints on disk: each a directory that is whole or absent, and is verified when it is read."""

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
    """A checkpoint that was found whole.

    Attributes:
        step: training steps taken.
        variables: file of the variables of model and optimizer.
        state: what else was saved, from JSON.
    """

    step: int
    variables: pathlib.Path
    state: dict[str, Any]


def checkpoints(directory: str | os.PathLike) -> list[tuple[int, pathlib.Path]]:
    """Returns (steps taken, path) of each checkpoint in a directory, the oldest first."""
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
    """Writes a checkpoint beside its place and renames it: a crash leaves what was there before.

    An intact checkpoint of the same step is kept instead.

    Args:
        directory: where checkpoints are kept.
        step: training steps taken.
        save: writes the file of variables.
        content: what else belongs to the checkpoint, for JSON.

    Raises:
        OSError: if it cannot be written, such as on a full disk; says which checkpoint is left.
    """
    path = directory / f"step-{step:08d}"
    if path.exists():
        if what_is_wrong(path) is None:
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
            _to_disk(unfinished / name)
        unfinished.rename(path)
        _to_disk(directory)
    except OSError as error:
        left = [str(path) for _, path in checkpoints(directory)]
        raise OSError(
            f"The checkpoint of step {step} could not be written to {str(directory)!r}: {error}. "
            f"Intact and the one to go on from: {left[-1] if left else 'none, there was none yet'}"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return path


def newest(directory: str | os.PathLike) -> StoredCheckpoint | None:
    """Returns the newest checkpoint that is intact; names those that are not in the log.

    Returns:
        The checkpoint; `None` where there is none at all.

    Raises:
        ValueError: if there are checkpoints, and all are damaged, or of before they had checksums.
    """
    found = checkpoints(directory)
    if old := sorted(pathlib.Path(directory).glob("step-*.weights.h5")):
        raise ValueError(
            "Checkpoints are directories since keras_ssl has checksums. Received a file of before: "
            f"{str(old[-1])!r}. `model.load_weights` reads it"
        )
    damaged = []
    for step, path in reversed(found):
        problem = what_is_wrong(path)
        if problem is None:
            return StoredCheckpoint(step, path / _VARIABLES, state(path))
        damaged.append(f"{path}: {problem}")
        _LOG.warning("A checkpoint is damaged, and the one before it is used. %s", damaged[-1])
    if damaged:
        raise ValueError(
            "A run goes on from an intact checkpoint. Received: only damaged ones. "
            f"{'; '.join(damaged)}. To begin anew, remove them or take another directory"
        )
    return None


def state(path: pathlib.Path) -> dict[str, Any]:
    """Returns what was saved beside the weights."""
    return json.loads((path / _STATE).read_text())


def what_is_wrong(path: pathlib.Path) -> str | None:
    """Returns what is wrong with a checkpoint, compared with its checksums; `None` if it is intact."""
    try:
        sums = json.loads((path / _SUMS).read_text())
        for name in (_VARIABLES, _STATE):
            if not (path / name).is_file():
                return f"{name} is missing"
            if _sha256(path / name) != sums.get(name):
                return f"{name} is not what was written (SHA-256)"
    except (OSError, ValueError, AttributeError) as error:
        return f"{_SUMS} cannot be read: {error}"
    return None


def remove_all_but(directory: pathlib.Path, keep: int) -> None:
    """Removes the oldest checkpoints beyond `keep`."""
    for _, path in checkpoints(directory)[:-keep]:
        _discard(path)


def remove_litter(directory: pathlib.Path) -> None:
    """Removes what writers that were killed have left; nobody else may be writing there."""
    for pattern in ("unfinished-*", "removed-*"):
        for path in directory.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def _discard(path: pathlib.Path) -> None:
    # Renamed first: killed half-way, it is not taken for a damaged checkpoint.
    removed = path.with_name(f"removed-{os.getpid()}-{path.name}")
    path.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _to_disk(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a directory, would survive a power cut."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
