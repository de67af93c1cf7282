"""Files that check the size of a read before memory is allocated."""

import os
import pathlib
from typing import BinaryIO


def find_file(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a file; raises FileNotFoundError if there is none."""
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file to import. Received: path={path}")
    return path


def limit_reads(file: BinaryIO) -> "BoundedFile":
    """Returns a file that refuses to read beyond its end."""
    return BoundedFile(file, os.fstat(file.fileno()).st_size)


class BoundedFile:
    """A file that refuses to read beyond its end, before memory is allocated.

    Args:
        file: file that is open for binary reading.
        size: size of the file in bytes.
    """

    def __init__(self, file: BinaryIO, size: int):
        self.file = file
        self.size = size

    def read(self, count: int = -1) -> bytes:
        """Returns the next `count` bytes."""
        self.check(count)
        return self.file.read(count)

    def readline(self) -> bytes:
        """Returns the bytes up to the end of the line."""
        return self.file.readline()

    def tell(self) -> int:
        """Returns the current position."""
        return self.file.tell()

    def check(self, count: int) -> None:
        """Raises ValueError if fewer than `count` bytes are left."""
        left = self.size - self.file.tell()
        if count > left:
            raise ValueError(
                f"The file is truncated, or declares wrong sizes. Expected: {count} more bytes. "
                f"Received: {left}"
            )
