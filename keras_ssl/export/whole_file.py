"""A file that appears at its place whole and checked, or not at all."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, overwrite: bool) -> Iterator[pathlib.Path]:
    """Gives a draft beside `path`, and moves it there if the block ends without an error.

    Args:
        path: of the file. Missing parents are made.
        overwrite: replace a file that is there.

    Raises:
        FileExistsError: if there is a file that may not be replaced, or a directory.
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
            f"`path` is there already. Expected: a new path, or overwrite=True. Received: {target}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}{target.suffix}")
    try:
        yield draft
        with draft.open("rb+") as written:
            os.fsync(written.fileno())  # a power cut leaves the old file or the new one
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
