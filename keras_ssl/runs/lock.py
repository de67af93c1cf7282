"""Prevents two processes from training in the same run directory."""

import contextlib
import pathlib
from collections.abc import Iterator

import filelock

_LOCK = ".lock"


@contextlib.contextmanager
def lock_directory(path: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a run directory. The lock ends with the process.

    Args:
        path: the run directory.

    Raises:
        BlockingIOError: if another process holds the lock.
    """
    lock = filelock.FileLock(path / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise BlockingIOError(
            "Only one process may train in a run directory. "
            f"Received: {str(path)!r}, in which another process is training"
        ) from error
    try:
        yield
    finally:
        lock.release()
