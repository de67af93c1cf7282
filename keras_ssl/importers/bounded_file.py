"""Files whose reads are checked against their size before any memory is taken."""

import os
import pathlib
from typing import BinaryIO


def existing_file(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a file; raises FileNotFoundError if there is none."""
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file to import. Received: path={path}")
    return path


def bounded(file: BinaryIO) -> "Bounded":
    """Returns a file whose reads can ask for no more than it holds."""
    return Bounded(file, os.fstat(file.fileno()).st_size)


class Bounded:
    """A file that refuses to read more than is left, before any memory is taken for it.

    Args:
        file: opened for reading in binary.
        size: its bytes.
    """

    def __init__(self, file: BinaryIO, size: int):
        self.file = file
        self.size = size

    def read(self, count: int = -1) -> bytes:
        """Returns the next `count` bytes."""
        self.check(count)
        return self.file.read(count)

    def readline(self) -> bytes:
        """Returns the rest of the line."""
        return self.file.readline()

    def tell(self) -> int:
        """Returns the position."""
        return self.file.tell()

    def check(self, count: int) -> None:
        """Raises ValueError if fewer than `count` bytes are left."""
        left = self.size - self.file.tell()
        if count > left:
            raise ValueError(
                f"The file is cut off, or lies about its sizes. Expected: {count} more bytes. "
                f"Received: {left}"
            )
