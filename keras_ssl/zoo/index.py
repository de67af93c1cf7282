"""The list of the networks that come with keras_ssl: what they are, and the SHA-256 of their files."""

import json
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from keras_ssl.export.manifest import sha256, verify
from keras_ssl.export.publish import FILES

INDEX = "index.json"
PACKAGED = pathlib.Path(__file__).with_name(INDEX)
CLONE = pathlib.Path(__file__).parents[2] / "saved_models"
_TOLD = ("description", "recipe", "licence")


def available() -> dict[str, dict[str, Any]]:
    """Returns what `keras_ssl.zoo.load` knows by name.

    Returns:
        By name: `description`, `recipe` (the command that trained it), `licence`, `accuracy` (by
        protocol, as measured when it was exported), `preprocessing`, `bytes` and `files`, each with
        its `bytes` and `sha256`.

    Example:
        >>> sorted(keras_ssl.zoo.available()["digits-simclr"]["accuracy"])
        ['knn', 'linear']
    """
    return entries(PACKAGED) if PACKAGED.is_file() else {}


def entries(file: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Returns the networks of an index file."""
    return json.loads(file.read_text(encoding="utf-8"))["models"]


def index(
    folder: str | os.PathLike, about: Mapping[str, Mapping[str, str]] | None = None
) -> pathlib.Path:
    """Writes index.json for the artefacts in a folder.

    Every directory in it that `keras_ssl.export.saved_model` wrote becomes an entry; its files are
    compared with its manifest first. What an earlier index.json tells of a network stays. In a clone
    of keras_ssl, the index of its saved_models is also written into the package.

    Args:
        folder: of the artefacts.
        about: by name, what an artefact does not know: `description`, `recipe` (the command that
            trained it) and `licence`. Needed for networks that the index does not have yet.

    Returns:
        The path of index.json.

    Raises:
        FileNotFoundError: if the folder holds no artefact.
        ValueError: if a file is not the one that was exported, or `about` lacks a network or word.

    Example:
        >>> about = {"tiny": {"description": "Untrained", "recipe": "none", "licence": "Apache-2.0"}}
        >>> index("saved_models", about).name
        'index.json'
    """
    folder = pathlib.Path(folder).expanduser().resolve()
    found = {d.name: d for d in sorted(folder.glob("*")) if all((d / f).is_file() for f in FILES)}
    if not found:
        raise FileNotFoundError(
            "`folder` must hold artefacts of keras_ssl.export.saved_model. "
            f"Received: folder={str(folder)!r}, without any"
        )
    file = folder / INDEX
    known = entries(file) if file.is_file() else {}
    models = {}
    for name, directory in found.items():
        told = {**known.get(name, {}), **(about or {}).get(name, {})}
        if missing := [word for word in _TOLD if not told.get(word)]:
            raise ValueError(
                f"`about` must tell {', '.join(_TOLD)} of every new network. Received: nothing on "
                f"{', '.join(missing)} of {name!r}"
            )
        models[name] = {word: told[word] for word in _TOLD} | _entry(directory)
    text = json.dumps({"format": 1, "models": models}, indent=2) + "\n"
    for place in (file, PACKAGED) if folder == CLONE else (file,):
        draft = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, place)
    return file


def _entry(directory: pathlib.Path) -> dict[str, Any]:
    verify(directory)
    listed = sorted(file for file in directory.rglob("*") if file.is_file())
    files = {
        file.relative_to(directory).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
        }
        for file in listed
    }
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return {
        "accuracy": dict(_accuracies(metrics)),
        "preprocessing": json.loads((directory / "preprocessing.json").read_text(encoding="utf-8")),
        "bytes": sum(entry["bytes"] for entry in files.values()),
        "files": files,
    }


def _accuracies(metrics: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yields each `accuracy` with the name of the protocol that it stands in."""
    if not isinstance(metrics, Mapping):
        return
    if "rows" in metrics:  # a table of several encoders: the trained one is the artefact
        rows = metrics["rows"]
        yield from _accuracies(rows.get("trained", list(rows.values())[-1]), name)
        return
    if isinstance(metrics.get("accuracy"), float):
        yield name or "accuracy", round(metrics["accuracy"], 4)
    for key, value in metrics.items():
        yield from _accuracies(value, f"{name}.{key}" if name else key)
