"""The manifest of an export: SHA-256 of every file, to detect damaged and exchanged files."""

import hashlib
import json
import os
import pathlib
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.export.publish import MANIFEST

_NOT_LISTED = {MANIFEST, "README.md"}  # a model card may be edited
_CHUNK = 2**20  # bytes


def write_manifest(directory: pathlib.Path) -> None:
    """Writes manifest.json: format, versions, and size and SHA-256 of each file except README.md.

    Args:
        directory: directory of a complete export.
    """
    files = {
        file.relative_to(directory).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
        }
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name not in _NOT_LISTED
    }
    content = {
        "format": 1,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "files": files,
    }
    (directory / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def verify(directory: str | os.PathLike) -> None:
    """Compares the files of an export with its manifest.

    Files that are not in the manifest are ignored.

    Args:
        directory: directory of the export.

    Raises:
        ValueError: if a file is missing or differs; the message names the first.

    Example:
        >>> verify(saved_model(keras_ssl.backbones.Tiny(), "saved_models/tiny"))
    """
    directory = pathlib.Path(directory)
    for name, expected in _files(directory).items():
        file = directory / name
        if not file.is_file():
            raise ValueError(
                f"The export lacks a file that is in its manifest. Expected: {name}, "
                f"{expected['bytes']} bytes. Received: {str(directory)!r} without it"
            )
        size, digest = file.stat().st_size, sha256(file)
        if digest != expected["sha256"]:
            raise ValueError(
                "A file is not the one that was exported, so the export is not loaded. "
                f"Expected: {name} with {expected['bytes']} bytes and SHA-256 {expected['sha256']}. "
                f"Received: {str(file)!r} with {size} bytes and SHA-256 {digest}"
            )


def sha256(file: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(directory: pathlib.Path) -> dict[str, dict[str, Any]]:
    file = directory / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        files = content["files"]
        is_valid = content["format"] == 1 and all(
            {"bytes", "sha256"} <= entry.keys() and _is_below(name) for name, entry in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"manifest.json must list the files of the export. Received: {str(file)!r}, which "
            f"cannot be read: {error!r}"
        ) from error
    if not is_valid:
        raise ValueError(
            "manifest.json must have format 1, and list files below its directory with `bytes` and "
            f"`sha256`. Received: {str(file)!r}"
        )
    return files


def _is_below(name: str) -> bool:
    path = pathlib.PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
