"""Unpacks untrusted archives: only regular files inside one directory, up to a size limit."""

import gzip
import os
import pathlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

from keras_ssl.untrusted.names import is_safe_name

_MAX_FILES = 1000
_CHUNK = 2**20  # the largest read that unpacking needs


def unpack(
    archive: str | os.PathLike, directory: str | os.PathLike, most_bytes: int = 2**32
) -> None:
    """Unpacks a .zip, .tar, .tar.gz or .tgz file. The format is detected from the content.

    Only regular files and directories are allowed. The name, type and size of each member are checked
    before it is written. Owners, modes and times are ignored.

    Args:
        archive: archive file.
        directory: empty directory; created if it is missing. If a member is refused, the members
            before it remain there.
        most_bytes: largest allowed total size of the unpacked files, in bytes.

    Raises:
        ValueError: if the file is damaged or has another format, or if it contains a link, a device, a
            name that leads outside the directory, a duplicate name, more than 1,000 files or more than
            `most_bytes`.

    Example:
        >>> unpack("encoder.tar.gz", "encoder")
    """
    source = pathlib.Path(archive)
    target = pathlib.Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    members = _zip_members if zipfile.is_zipfile(source) else _tar_members
    left, seen = most_bytes, set[str]()
    try:
        for name, size, content in members(source, most_bytes):
            if name in seen or len(seen) == _MAX_FILES:
                raise _unsafe_error(source, "each name once, and at most 1,000 files", repr(name))
            seen.add(name)
            left -= size
            if left < 0:
                raise _unsafe_error(
                    source, f"at most {most_bytes} bytes unpacked", f"more, at {name!r}"
                )
            _write(content, target.joinpath(*pathlib.PurePosixPath(name).parts), size)
    except _READ_ERRORS as error:
        raise _unsafe_error(source, "a complete .zip, .tar or .tar.gz file", repr(error)) from error


_READ_ERRORS = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, RuntimeError)


def _unsafe_error(archive: pathlib.Path, expected: str, received: str) -> ValueError:
    return ValueError(
        f"The archive cannot be unpacked safely. Expected: {expected}. "
        f"Received: {str(archive)!r} with {received}"
    )


def _write(content: IO[bytes], file: pathlib.Path, size: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as out:
        shutil.copyfileobj(content, out, _CHUNK)
        if out.tell() != size:
            raise EOFError(f"{file.name} ends after {out.tell()} of {size} bytes")


def _zip_members(source: pathlib.Path, most_bytes: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(source) as file:
        for member in file.infolist():
            kind = member.external_attr >> 28  # Unix file type; 0 if the archive does not record it
            if not is_safe_name(member.filename) or kind not in (0, 4, 8):
                raise _unsafe_error(
                    source, "regular files inside the directory", repr(member.filename)
                )
            if not member.is_dir():
                with file.open(member) as content:  # returns at most `file_size` bytes
                    yield member.filename, member.file_size, content


def _tar_members(source: pathlib.Path, most_bytes: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    with source.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        uncompressed: Any = gzip.open(raw) if compressed else raw  # noqa: SIM115 (closing `raw` is enough)
        stream = _BoundedStream(uncompressed, 2 * most_bytes + 2**24)
        with tarfile.open(fileobj=cast(Any, stream), mode="r:") as file:
            for member in file:
                allowed = (member.isreg() and not member.issparse()) or member.isdir()
                if not is_safe_name(member.name) or not allowed:
                    raise _unsafe_error(
                        source, "regular files inside the directory", repr(member.name)
                    )
                if member.isreg():
                    content = file.extractfile(member)
                    if content is None:
                        raise _unsafe_error(source, "files with content", repr(member.name))
                    yield member.name, member.size, content


class _BoundedStream:
    """A stream that refuses large reads: `tarfile` reads a header of any size in one piece."""

    def __init__(self, stream: IO[bytes], most_bytes: int):
        self._stream = stream
        self._most_bytes = most_bytes

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK or self._stream.tell() + size > self._most_bytes:
            raise tarfile.ReadError(f"a read of {size} bytes at {self._stream.tell()}")
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if whence != 0 or not 0 <= position <= self._most_bytes:
            raise tarfile.ReadError(f"a seek to {position}")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()
