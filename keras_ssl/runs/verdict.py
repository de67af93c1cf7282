"""Says whether a trained encoder is better than the baselines, and what to try if it is not."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ssl.data import Source
from keras_ssl.data.classes import class_name, join_names

_PROTOCOLS = {"knn": "kNN", "linear": "linear"}
_SIGMAS = 2.0  # a difference of two standard errors has a chance of 5% among equal encoders
_ADVICE = (
    "What to try: more training steps (self-supervised methods need thousands); --method simclr if "
    "there were fewer than about 1,000; --policy centred for centered objects such as drawings or "
    "characters; a smaller network or a larger batch; more images."
)


def describe_classes(train: Source, test: Source) -> list[str]:
    """Returns lines about the classes of the evaluation: their number, names and sizes.

    Args:
        train: labeled training images.
        test: labeled test images with the same numbers of classes.

    Example:
        >>> describe_classes(digits("train"), digits("test"))[0]
        'Classes: 10 (0, 1, 2, 3, 4, 5, 6, 7 and 2 more), 140 to 146 training images each'
    """
    if not train.has_labels or not test.has_labels:
        return []  # `measure` refuses them
    numbers, counts = _count(train)
    _, test_counts = _count(test)
    names = [class_name(int(number), train.class_names) for number in numbers]
    few, many = counts.min(), counts.max()
    images = f"{few}" if few == many else f"{few} to {many}"
    lines = [f"Classes: {len(names)} ({join_names(names)}), {images} training images each"]
    share = test_counts.max() / test_counts.sum()
    line = f"Always predicting the most frequent class is right for {share:.1%} of the test images"
    if share > 2 / len(test_counts) or share > 0.6:
        line += "; compare mean-per-class accuracies, for which it is right for " + (
            f"{1 / len(test_counts):.1%}"
        )
    return [*lines, line + "."]


def verdict(
    rows: Mapping[str, Mapping[str, Any]], test: Source, name: str = "trained"
) -> list[str]:
    """Compares the mean-per-class accuracy of one encoder with that of all others.

    Args:
        rows: from `keras_ssl.runs.report.measure`.
        test: the test images of the measurement.
        name: row of the encoder that is judged. Without it, or without other rows, there is no verdict.

    Returns:
        Lines to print: one per baseline, and what to try if the encoder does not beat all of them. An
        encoder beats another if its linear accuracy is higher by at least two standard errors, which
        depend on the number of test images.
    """
    if name not in rows or len(rows) < 2:
        return []
    numbers, counts = _count(test)
    sizes = {
        test.class_names[number] if test.class_names else str(number): int(count)
        for number, count in zip(numbers, counts, strict=True)
    }
    lines, beaten = [], True
    for baseline in rows:
        if baseline == name:
            continue
        parts = []
        for protocol, title in _PROTOCOLS.items():
            difference, error = _difference(rows[name][protocol], rows[baseline][protocol], sizes)
            parts.append(f"{title} {100 * difference:+.1f} ± {100 * _SIGMAS * error:.1f}")
            if protocol == "linear":
                better = difference > _SIGMAS * error
                worse = difference < -_SIGMAS * error
        word = "better than" if better else "worse than" if worse else "not distinguishable from"
        lines.append(f"The {name} encoder is {word} {baseline}: {', '.join(parts)} points.")
        beaten = beaten and better
    return lines if beaten else [*lines, _ADVICE]


def _difference(
    row: Mapping[str, Any], other: Mapping[str, Any], sizes: Mapping[str, int]
) -> tuple[float, float]:
    """Returns the difference of two mean-per-class accuracies and its standard error."""
    variance = sum(
        accuracy * (1 - accuracy) / max(sizes.get(label, 1), 1)
        for each in (row, other)
        for label, accuracy in each["per_class"].items()
    )
    classes = len(row["per_class"])
    return row["mean_per_class"] - other["mean_per_class"], float(np.sqrt(variance)) / classes


def _count(source: Source) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(source.labels)
    return np.unique(labels[labels >= 0], return_counts=True)
