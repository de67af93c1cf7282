"""A local cache of downloaded and unpacked models. Entries are always complete."""

import hashlib
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Callable
from typing import IO

import filelock

_CHUNK = 2**20


def folder() -> pathlib.Path:
    """Returns the cache folder: `KERAS_SSL_CACHE`, or keras_ssl in the user's cache folder."""
    if chosen := os.environ.get("KERAS_SSL_CACHE"):
        return pathlib.Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return pathlib.Path(home).expanduser() / "keras_ssl"


def fetch_once(
    source: str, sha256: str | None, fetch: Callable[[pathlib.Path], None]
) -> tuple[pathlib.Path, bool]:
    """Returns the cached directory of a source, and whether it was fetched by this call.

    Concurrent processes share one download: one fetches, the others wait.

    Args:
        source: URL or path. Together with `sha256`, it is the key of the cache entry.
        sha256: requested checksum, or `None`.
        fetch: called with an empty directory to fill. If it raises, the directory is deleted.

    Example:
        >>> fetch_once("https://example.org/tiny", None, lambda path: None)[1]
        True
    """
    digest = hashlib.sha256(f"{source} {sha256}".encode()).hexdigest()[:16]
    stem = re.sub(r"[^\w.-]+", "-", source.rstrip("/").rpartition("/")[2])[:40].strip(".-")
    root = folder()
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"{stem or 'model'}-{digest}"
    with filelock.FileLock(root / f".{target.name}.lock"):
        if target.is_dir():
            return target, False
        draft = root / f".{target.name}.{uuid.uuid4().hex[:8]}"
        draft.mkdir()
        try:
            fetch(draft)
            os.rename(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target, True


def save_stream(
    content: IO[bytes], file: pathlib.Path, max_bytes: int, name: str, sha256: str | None = None
) -> str:
    """Writes a stream to a file, and returns the file's SHA-256.

    Args:
        content: stream to read.
        file: file to write. Its folder is created.
        max_bytes: largest allowed size in bytes.
        name: name of the file in error messages.
        sha256: expected checksum in hexadecimal; `None` allows any.

    Raises:
        ValueError: if the stream is too long, or the checksum differs.
    """
    digest, left = hashlib.sha256(), max_bytes
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as out:
        while chunk := content.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise ValueError(
                    f"The file is too long. Expected: {name} with at most {max_bytes} bytes. "
                    "Received: more"
                )
            digest.update(chunk)
            out.write(chunk)
    check_sha256(name, sha256, digest.hexdigest())
    return digest.hexdigest()


def check_sha256(name: str, expected: str | None, received: str) -> None:
    """Raises ValueError if a file's SHA-256 is not the expected one; `None` allows any."""
    if expected is not None and expected.lower() != received:
        raise ValueError(
            "The file has an unexpected checksum, so it is not loaded. "
            f"Expected: {name} with SHA-256 {expected}. Received: {name} with SHA-256 {received}"
        )
