"""Evaluates encoders by the standard protocols, and prints a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import rich
from rich import box
from rich.console import Console
from rich.table import Table

from keras_ssl import evaluate
from keras_ssl.data import Source
from keras_ssl.data.classes import match_source

_PROTOCOLS = ("knn", "linear")
_NEIGHBOURS = 200


def measure(
    encoders: Mapping[str, keras.Model],
    train: Source,
    test: Source,
    per_class: Sequence[int] = (1, 5, 10),
    draws: int = 10,
    seed: int = 0,
    batch_size: int = 256,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Measures each encoder by kNN and linear accuracy, with all labels and with few.

    Args:
        encoders: row name -> network that maps images to features.
        train: labeled training images.
        test: labeled test images. Classes are matched by name; images of classes that `train` lacks are
            left out.
        per_class: numbers of labels per class; numbers that a class does not have are left out.
        draws: number of random draws of few labels, the same for all encoders.
        seed: seed of the draws.
        batch_size: images per forward pass.
        progress: show progress bars.

    Returns:
        Row name -> {"knn": result, "linear": result, "few_labels": [results]}, for JSON.

    Raises:
        ValueError: if a set has no labels.

    Example:
        >>> rows = measure({"pixels": evaluate.pixels((8, 8, 1))}, digits("train"), digits("test"))
        >>> round(rows["pixels"]["knn"]["accuracy"], 2)
        0.92
    """
    labels, _ = _labels(train, "training"), _labels(test, "test")
    test = match_source(train, test)
    sizes = np.unique(labels[labels >= 0], return_counts=True)[1]
    possible = [count for count in per_class if count <= sizes.min()]
    neighbours = count_neighbours(labels)
    rows = {}
    for number, (name, encoder) in enumerate(encoders.items(), 1):
        if progress and len(encoders) > 1:  # with many classes, each of them takes minutes
            rich.print(f"Encoder {number} of {len(encoders)}: {name}")
        seen, unseen = (
            evaluate.extract(encoder, source, batch_size=batch_size, progress=progress)
            for source in (train, test)
        )
        few = [
            result.to_dict()
            for protocol in _PROTOCOLS
            if possible
            for result in evaluate.few_labels(
                None,
                seen,
                unseen,
                per_class=possible,
                draws=draws,
                seed=seed,
                protocol=protocol,
                progress=progress,
            )
        ]
        rows[name] = {
            "knn": evaluate.knn(None, seen, unseen, k=neighbours).to_dict(),
            "linear": evaluate.linear(None, seen, unseen, progress=progress).to_dict(),
            "few_labels": few,
        }
    return rows


def count_neighbours(labels: np.ndarray) -> int:
    """Returns the number of kNN neighbors: 200, or the median size of a class if that is smaller.

    Further neighbors would be of other classes. The median does not depend on a single rare class.

    Args:
        labels: classes of the training images, (n,); -1 for unlabeled images.

    Example:
        >>> count_neighbours(np.array([0, 0, 0, 1, 1, 2, -1]))
        2

    Source: 200 is that of `keras_ssl.evaluate.knn`; the limit is ours.
    """
    sizes = np.unique(labels[labels >= 0], return_counts=True)[1]
    return min(_NEIGHBOURS, int(np.median(sizes)))


def _labels(source: Source, role: str) -> np.ndarray:
    if source.labels is None:
        raise ValueError(
            f"Evaluation needs labeled {role} images: class sub-folders, or arrays with labels. "
            f"Received: {source.name!r}, without labels"
        )
    return source.labels


def show(
    rows: Mapping[str, Mapping[str, Any]],
    console: Console | None = None,
    mean_per_class: bool = False,
):
    """Prints the results of `measure` as a table of accuracies in percent.

    Args:
        rows: the results.
        console: where to print.
        mean_per_class: whether the columns of few labels show the accuracy averaged over classes, as
            for unbalanced classes. The last two columns, with all labels, are top-1 accuracy and mean
            per class.
    """
    first = next(iter(rows.values()))
    counts = sorted({result["per_class"] for result in first["few_labels"]})
    draws = max((len(result["accuracies"]) for result in first["few_labels"]), default=0)
    table = Table(
        title="Accuracy in %, by labels per class"
        + (f" (mean ± std of {draws} draws)" if draws > 1 else " (one draw)" * draws),
        caption=f"kNN: {first['knn']['settings']['k']} neighbors"
        + ("; few labels: mean per class" if mean_per_class and counts else ""),
        box=box.SIMPLE_HEAD,  # with three counts, the table fits into 80 columns
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("encoder")
    table.add_column("protocol")
    for count in counts:
        table.add_column(str(count), justify="right")
    table.add_column("all", justify="right")
    table.add_column("per class", justify="right")  # of all labels
    for name, row in rows.items():
        for protocol in _PROTOCOLS:
            few = {r["per_class"]: r for r in row["few_labels"] if r["protocol"] == protocol}
            key = "mean_per_class_accuracies" if mean_per_class else "accuracies"
            cells = [_mean_and_std(few[count][key]) for count in counts]
            result = row[protocol]
            percent = [f"{100 * result[key]:.1f}" for key in ("accuracy", "mean_per_class")]
            table.add_row(name, protocol, *cells, *percent)
    (console or Console()).print(table)
    if any(row["knn"]["collapsed"] for row in rows.values()):
        (console or Console()).print(
            "The features of at least one encoder have collapsed to a point."
        )


def _mean_and_std(accuracies: Sequence[float]) -> str:
    percent = 100 * np.asarray(accuracies)
    spread = f" ± {np.std(percent, ddof=1):.1f}" if len(percent) > 1 else ""
    return f"{np.mean(percent):.1f}{spread}"
