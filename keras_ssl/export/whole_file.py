"""Writes a file atomically: readers see the complete file or none."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, overwrite: bool) -> Iterator[pathlib.Path]:
    """Yields a draft next to `path`, and moves it to `path` if the block ends without an error.

    After an error, the draft is deleted and `path` is unchanged.

    Args:
        path: file to write. Missing parent directories are created.
        overwrite: whether to replace an existing file.

    Raises:
        FileExistsError: if `path` is a directory, or a file that may not be replaced.
        ValueError: if `path` is not local.

    Example:
        >>> with whole_file("network.onnx", overwrite=False) as draft:
        ...     draft.write_bytes(b"...")
    """
    if "://" in os.fspath(path):
        raise ValueError(f"`path` must be a local file. Received: path={path}")
    target = pathlib.Path(path).expanduser().resolve()
    if target.is_dir():
        raise FileExistsError(f"`path` must be a file. Received: {target}, a directory")
    if target.exists() and not overwrite:
        raise FileExistsError(
            f"`path` already exists. Expected: a new path, or overwrite=True. Received: {target}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}{target.suffix}")
    try:
        yield draft
        with draft.open("rb+") as written:
            os.fsync(written.fileno())  # a power failure leaves the old or the new file
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
