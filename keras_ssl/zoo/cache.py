"""Artefacts from elsewhere in a folder of this machine, each whole or not there."""

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
    """Returns the cache: `KERAS_SSL_CACHE`, or keras_ssl in the user's cache folder."""
    if chosen := os.environ.get("KERAS_SSL_CACHE"):
        return pathlib.Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return pathlib.Path(home).expanduser() / "keras_ssl"


def cached(
    source: str, sha256: str | None, fetch: Callable[[pathlib.Path], None]
) -> tuple[pathlib.Path, bool]:
    """Returns the directory that was fetched from a source, and whether it was fetched just now.

    Several processes may ask at once: one fetches, the others wait.

    Args:
        source: URL or path, the name under which it is kept, together with `sha256`.
        sha256: what was asked for.
        fetch: called with an empty directory that it fills; an error leaves nothing behind.

    Example:
        >>> cached("https://example.org/tiny", None, lambda path: None)[1]
        True
    """
    digest = hashlib.sha256(f"{source} {sha256}".encode()).hexdigest()[:16]
    word = re.sub(r"[^\w.-]+", "-", source.rstrip("/").rpartition("/")[2])[:40].strip(".-")
    root = folder()
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"{word or 'model'}-{digest}"
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


def copied(
    content: IO[bytes], file: pathlib.Path, most_bytes: int, name: str, sha256: str | None = None
) -> str:
    """Writes a stream to a file, and returns its SHA-256.

    Args:
        content: what to read.
        file: to write; its folder is made.
        most_bytes: that may come.
        name: of the file, for messages.
        sha256: that it must have, in hexadecimal.

    Raises:
        ValueError: if it is longer, or another file.
    """
    digest, left = hashlib.sha256(), most_bytes
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as out:
        while chunk := content.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise ValueError(
                    f"The file is longer than it should be. Expected: {name} of at most {most_bytes} "
                    "bytes. Received: more"
                )
            digest.update(chunk)
            out.write(chunk)
    check(name, sha256, digest.hexdigest())
    return digest.hexdigest()


def check(name: str, expected: str | None, received: str) -> None:
    """Raises ValueError if a file's SHA-256 is not the expected one; `None` expects any."""
    if expected is not None and expected.lower() != received:
        raise ValueError(
            "The file is another one than expected, and is not loaded. "
            f"Expected: {name} with SHA-256 {expected}. Received: {name} with SHA-256 {received}"
        )
