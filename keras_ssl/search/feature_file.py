"""Reads and writes image features and names in one .npz or .parquet file."""

import json
import os
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_ssl.export.whole_file import whole_file

EXTENSIONS = (".npz", ".parquet")
_ABOUT = "keras_ssl"


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """Contents of a feature file.

    Attributes:
        features: (n, dim) float32.
        names: (n,) image names: file paths relative to their folder, or indices.
        labels: (n,) int64, -1 for an unlabeled image; `None` if no image has a label.
        about: metadata such as the data and the network. Must be JSON-serializable.

    Example:
        >>> FeatureFile(np.eye(2, dtype="float32"), np.array(["a.jpg", "b.jpg"])).names[1]
        'b.jpg'
    """

    features: np.ndarray
    names: np.ndarray
    labels: np.ndarray | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def class_name(self, row: int) -> str:
        """Returns an image's class name; its label if classes have no names; "" if unlabeled."""
        if self.labels is None or self.labels[row] < 0:
            return ""
        label, names = int(self.labels[row]), self.about.get("class_names")
        return str(names[label] if names else label)


def write_features(content: FeatureFile, path: pathlib.Path) -> None:
    """Writes a feature file atomically. An existing file is replaced.

    Args:
        content: features, names, labels and metadata.
        path: file to write, .npz or .parquet.

    Raises:
        ImportError: if `path` ends in .parquet and pyarrow is not installed.
        ValueError: if `path` has another extension.
    """
    check_extension(path)
    with whole_file(path, overwrite=True) as draft:
        if path.suffix == ".npz":
            _write_npz(content, draft)
        else:
            _write_parquet(content, draft)


def read_features(path: str | os.PathLike) -> FeatureFile:
    """Reads a file that `write_features` wrote.

    Args:
        path: .npz or .parquet file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ImportError: if `path` ends in .parquet and pyarrow is not installed.
        ValueError: if `path` has another extension, or the file has other contents.

    Example:
        >>> read_features("features.npz").features.shape
        (1797, 64)
    """
    path = pathlib.Path(path)
    check_extension(path)
    if not path.is_file():
        raise FileNotFoundError(
            "The feature file does not exist. Expected: a file that `keras-ssl embed` wrote. "
            f"Received: {str(path)!r}"
        )
    try:
        return _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    except (KeyError, ValueError) as error:
        raise ValueError(
            "The file must have been written by `keras-ssl embed`, with `features` and `names`. "
            f"Received: {str(path)!r}. {error}"
        ) from error


def check_extension(path: pathlib.Path) -> None:
    """Raises if `path` has an unsupported extension, or pyarrow is needed and not installed."""
    if path.suffix not in EXTENSIONS:
        raise ValueError(f"The file must end in {' or '.join(EXTENSIONS)}. Received: {str(path)!r}")
    if path.suffix == ".parquet":
        _pyarrow()


def _write_npz(content: FeatureFile, path: pathlib.Path) -> None:
    columns = {"features": content.features, "names": np.asarray(content.names, dtype=np.str_)}
    if content.labels is not None:
        columns["labels"] = content.labels
    with path.open("wb") as file:  # given a path, NumPy would add an extension
        columns[_ABOUT] = np.array(json.dumps(content.about))
        np.savez(file, **columns)  # type: ignore[arg-type]


def _read_npz(path: pathlib.Path) -> FeatureFile:
    with np.load(path, allow_pickle=False) as file:
        labels = file["labels"] if "labels" in file.files else None
        about = json.loads(str(file[_ABOUT])) if _ABOUT in file.files else {}
        return FeatureFile(file["features"], file["names"], labels, about)


def _write_parquet(content: FeatureFile, path: pathlib.Path) -> None:
    arrow, parquet = _pyarrow()
    flat = arrow.array(np.ascontiguousarray(content.features).reshape(-1), arrow.float32())
    columns: dict[str, Iterable] = {"name": arrow.array([str(name) for name in content.names])}
    if content.labels is not None:
        columns["label"] = arrow.array(content.labels)
    columns["features"] = arrow.FixedSizeListArray.from_arrays(flat, content.features.shape[1])
    table = arrow.table(columns)
    parquet.write_table(table.replace_schema_metadata({_ABOUT: json.dumps(content.about)}), path)


def _read_parquet(path: pathlib.Path) -> FeatureFile:
    _, parquet = _pyarrow()
    table = parquet.read_table(path)
    column = table.column("features").combine_chunks()
    features = column.flatten().to_numpy().reshape(len(table), -1)
    labels = table.column("label").to_numpy() if "label" in table.column_names else None
    names = np.array(table.column("name").to_pylist(), dtype=np.str_)
    about = json.loads((table.schema.metadata or {}).get(_ABOUT.encode(), b"{}"))
    return FeatureFile(features, names, labels, about)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f'Parquet files need pyarrow: pip install "keras_ssl[parquet]". {error}'
        ) from error
    return pyarrow, pyarrow.parquet
