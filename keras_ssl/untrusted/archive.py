"""Unpacking archives of strangers: plain files below one directory, and no more bytes than agreed."""

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

_MOST_FILES = 1000
_CHUNK = 2**20  # the largest read that unpacking needs


def unpack(
    archive: str | os.PathLike, directory: str | os.PathLike, most_bytes: int = 2**32
) -> None:
    """Unpacks a .zip, .tar, .tar.gz or .tgz file; its content decides which, not its name.

    Regular files and directories only. Everything is checked before it is written: names, kinds,
    sizes. Owners, modes and times are not taken over.

    Args:
        archive: the file.
        directory: empty, made where it is missing. What was written before an error stays there.
        most_bytes: of all files, unpacked.

    Raises:
        ValueError: if it is no such archive, is damaged, or holds a link, a device, a name that leads
            outside of the directory, a name twice, more than 1,000 files or more bytes than agreed.

    Example:
        >>> unpack("encoder.tar.gz", "encoder")
    """
    source = pathlib.Path(archive)
    target = pathlib.Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    members = _of_zip if zipfile.is_zipfile(source) else _of_tar
    left, seen = most_bytes, set[str]()
    try:
        for name, size, content in members(source, most_bytes):
            if name in seen or len(seen) == _MOST_FILES:
                raise _refusal(source, "each file once, and at most 1,000", repr(name))
            seen.add(name)
            left -= size
            if left < 0:
                raise _refusal(source, f"at most {most_bytes} bytes unpacked", f"more at {name!r}")
            _write(content, target.joinpath(*pathlib.PurePosixPath(name).parts), size)
    except _DAMAGED as error:
        raise _refusal(source, "a whole .zip, .tar or .tar.gz file", repr(error)) from error


_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, RuntimeError)


def _refusal(archive: pathlib.Path, expected: str, received: str) -> ValueError:
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


def _of_zip(source: pathlib.Path, most_bytes: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(source) as file:
        for member in file.infolist():
            kind = member.external_attr >> 28  # of Unix; 0 where the archive does not say
            if not is_safe_name(member.filename) or kind not in (0, 4, 8):
                raise _refusal(source, "plain files below a directory", repr(member.filename))
            if not member.is_dir():
                with file.open(member) as content:  # gives no more than `file_size` bytes
                    yield member.filename, member.file_size, content


def _of_tar(source: pathlib.Path, most_bytes: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    with source.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        plain_bytes: Any = gzip.open(raw) if zipped else raw  # noqa: SIM115 (all it holds is `raw`)
        stream = _Bounded(plain_bytes, 2 * most_bytes + 2**24)
        with tarfile.open(fileobj=cast(Any, stream), mode="r:") as file:
            for member in file:
                plain = (member.isreg() and not member.issparse()) or member.isdir()
                if not is_safe_name(member.name) or not plain:
                    raise _refusal(source, "plain files below a directory", repr(member.name))
                if member.isreg():
                    content = file.extractfile(member)
                    if content is None:
                        raise _refusal(source, "files with content", repr(member.name))
                    yield member.name, member.size, content


class _Bounded:
    """A stream without large reads: a header's own size is what `tarfile` would read in one piece."""

    def __init__(self, stream: IO[bytes], most_bytes: int):
        self._stream = stream
        self._most_bytes = most_bytes

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK or self._stream.tell() + size > self._most_bytes:
            raise tarfile.ReadError(f"a part of {size} bytes at {self._stream.tell()}")
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if whence != 0 or not 0 <= position <= self._most_bytes:
            raise tarfile.ReadError(f"a part at {position}")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()
