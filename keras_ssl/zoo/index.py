"""The index of pretrained encoders: descriptions, and the SHA-256 of every file."""

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
_REQUIRED_TEXTS = ("description", "recipe", "licence")


def available() -> dict[str, dict[str, Any]]:
    """Lists the encoders that `keras_ssl.zoo.load` can load by name.

    Returns:
        A dictionary from names to entries. An entry has `description`, `recipe` (the command that
        trained the encoder), `licence`, `accuracy` (by protocol, measured at export),
        `preprocessing`, `bytes`, and `files` with the `bytes` and `sha256` of each.

    Example:
        >>> sorted(keras_ssl.zoo.available()["digits-simclr"]["accuracy"])
        ['knn', 'linear']
    """
    return read_entries(PACKAGED) if PACKAGED.is_file() else {}


def read_entries(file: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Returns the entries of an index file, by name."""
    return json.loads(file.read_text(encoding="utf-8"))["models"]


def index(
    folder: str | os.PathLike, about: Mapping[str, Mapping[str, str]] | None = None
) -> pathlib.Path:
    """Writes index.json for the exported models in a folder.

    Each directory in the folder that `keras_ssl.export.saved_model` wrote becomes an entry, after its
    files are compared with its manifest. Texts of an existing index.json are kept. For the
    saved_models folder of a clone of keras_ssl, the index is also written to the package.

    Args:
        folder: folder of exported models.
        about: maps names to the texts of an entry: `description`, `recipe` (the command that trained
            the model) and `licence`. Required for models that are not in the index yet.

    Returns:
        The path of index.json.

    Raises:
        FileNotFoundError: if the folder has no exported model.
        ValueError: if a file differs from its manifest, or a text is missing.

    Example:
        >>> about = {"tiny": {"description": "Untrained", "recipe": "none", "licence": "Apache-2.0"}}
        >>> index("saved_models", about).name
        'index.json'
    """
    folder = pathlib.Path(folder).expanduser().resolve()
    found = find_exports(folder)
    file = folder / INDEX
    existing = read_entries(file) if file.is_file() else {}
    models = {}
    for name, directory in found.items():
        texts = {**existing.get(name, {}), **(about or {}).get(name, {})}
        if missing := [key for key in _REQUIRED_TEXTS if not texts.get(key)]:
            raise ValueError(
                f"`about` must have {', '.join(_REQUIRED_TEXTS)} for every new model. "
                f"Received: no {', '.join(missing)} for {name!r}"
            )
        models[name] = {key: texts[key] for key in _REQUIRED_TEXTS} | _build_entry(directory)
    text = json.dumps({"format": 1, "models": models}, indent=2) + "\n"
    for target in (file, PACKAGED) if folder == CLONE else (file,):
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, target)
    return file


def find_exports(folder: str | os.PathLike) -> dict[str, pathlib.Path]:
    """Returns the exports in a folder, by the names of their directories, in order.

    Raises:
        FileNotFoundError: if there is none.
    """
    folder = pathlib.Path(folder).expanduser().resolve()
    found = {d.name: d for d in sorted(folder.glob("*")) if all((d / f).is_file() for f in FILES)}
    if not found:
        raise FileNotFoundError(
            "`folder` must contain models exported by keras_ssl.export.saved_model. "
            f"Received: folder={str(folder)!r}, without any"
        )
    return found


def _build_entry(directory: pathlib.Path) -> dict[str, Any]:
    verify(directory)
    paths = sorted(file for file in directory.rglob("*") if file.is_file())
    files = {
        file.relative_to(directory).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
        }
        for file in paths
    }
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return {
        "accuracy": dict(_find_accuracies(metrics)),
        "preprocessing": json.loads((directory / "preprocessing.json").read_text(encoding="utf-8")),
        "bytes": sum(entry["bytes"] for entry in files.values()),
        "files": files,
    }


def _find_accuracies(metrics: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yields each `accuracy` with the dotted path of keys that leads to it, such as "knn"."""
    if not isinstance(metrics, Mapping):
        return
    if "rows" in metrics:  # a table of several encoders; the trained one was exported
        rows = metrics["rows"]
        yield from _find_accuracies(rows.get("trained", list(rows.values())[-1]), name)
        return
    if isinstance(metrics.get("accuracy"), float):
        yield name or "accuracy", round(metrics["accuracy"], 4)
    for key, value in metrics.items():
        yield from _find_accuracies(value, f"{name}.{key}" if name else key)
