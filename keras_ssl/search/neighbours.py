"""Finds and draws the nearest neighbors of an image by their features."""

import os
import pathlib
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLUMNS = 5


@dataclass(frozen=True)
class Neighbour:
    """A near neighbor of a query image.

    Attributes:
        index: row of the image in the feature file.
        name: name of the image.
        similarity: cosine similarity of its features to the query's, in [-1, 1].
    """

    index: int
    name: str
    similarity: float


def nearest(
    query: np.ndarray,
    features: np.ndarray,
    names: np.ndarray,
    count: int = 10,
    leave_out: int | None = None,
) -> list[Neighbour]:
    """Returns the images whose features have the highest cosine similarity to a query.

    Args:
        query: features of the query, (dim,).
        features: features of the images, (n, dim).
        names: names of the images, (n,).
        count: number of neighbors, positive. If there are fewer images, all are returned.
        leave_out: row to exclude, such as that of the query itself.

    Returns:
        The neighbors, nearest first.

    Raises:
        ValueError: if the query has another number of features, or `count` is not positive.

    Example:
        >>> nearest(np.array([1.0, 0.0]), np.eye(2), np.array(["a", "b"]), count=1)
        [Neighbour(index=0, name='a', similarity=1.0)]
    """
    if count < 1:
        raise ValueError(f"`count` must be positive. Received: count={count}")
    if query.shape != features.shape[1:]:
        raise ValueError(
            f"The query must have {features.shape[1]} features, like the images. "
            f"Received: {query.shape}"
        )
    similarities = _normalize(features) @ _normalize(query[None])[0]
    order = np.argsort(-similarities, kind="stable")
    if leave_out is not None:
        order = order[order != leave_out]
    return [Neighbour(int(row), str(names[row]), float(similarities[row])) for row in order[:count]]


def draw_neighbours(
    query: np.ndarray,
    name: str,
    neighbours: list[Neighbour],
    images: list[np.ndarray],
    path: str | os.PathLike,
) -> pathlib.Path:
    """Draws the query on the left, and its neighbors on the right, nearest first.

    Args:
        query: query image, uint8 (height, width, channels).
        name: name of the query.
        neighbours: result of `nearest`.
        images: images of the neighbors, in the same order and format. Sizes may differ.
        path: PNG file to write.

    Returns:
        `path`.
    """
    rows = -(-len(neighbours) // _COLUMNS)
    figure = Figure(
        figsize=(3.4 + 2.1 * _COLUMNS, 0.3 + 2.3 * max(rows, 1.5)), layout="constrained"
    )
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(3.4, 2.1 * _COLUMNS)))
    left.suptitle("Query")
    right.suptitle("Nearest, by the cosine of their features")
    _show(left.subplots(), query, _shorten(name, 40))
    axes = np.asarray(right.subplots(rows, _COLUMNS, squeeze=False)).reshape(-1)
    for axis in axes[len(neighbours) :]:
        axis.set_axis_off()
    for axis, neighbour, image in zip(axes, neighbours, images, strict=False):
        _show(axis, image, f"{neighbour.similarity:.3f}\n{_shorten(neighbour.name, 26)}")
    figure.savefig(path, dpi=100)
    return pathlib.Path(path)


def _show(axis: Axes, image: np.ndarray, title: str) -> None:
    axis.imshow(image, cmap="gray_r" if image.shape[-1] == 1 else None)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=8)


def _shorten(name: str, max_length: int) -> str:
    """Shortens a name to its end, where names in one folder differ."""
    return name if len(name) <= max_length else f"…{name[-max_length + 1 :]}"


def _normalize(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
