"""Says whether a trained encoder is better than the baselines, and what to try if it is not."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ssl.data import Source
from keras_ssl.data.classes import class_name, join_names

_PROTOCOLS = {"knn": "kNN", "linear": "linear"}
_SIGMAS = 2.0  # a difference of two standard errors has a chance of 5% among equal encoders
_ADVICE = (
    "What to try: more training steps (self-supervised methods need thousands); the method simclr if "
    "there were fewer than about 1,000; the policy centred for centered objects such as drawings or "
    "characters; a smaller network or a larger batch; more images."
)


def describe_classes(train: Source, test: Source, per_class: Sequence[int] = ()) -> list[str]:
    """Returns lines about the classes of the evaluation: their number, names and sizes.

    Args:
        train: labeled training images.
        test: labeled test images with the same numbers of classes.
        per_class: numbers of labels per class that are to be measured. Those that the rarest class does
            not have are named.

    Example:
        >>> describe_classes(digits("train"), digits("test"))[0]
        'Classes: 10 (0, 1, 2, 3, 4, 5, 6, 7 and 2 more), 139 to 146 training images each'
    """
    if not train.has_labels or not test.has_labels:
        return []  # `measure` refuses them
    numbers, counts = _count(train)
    names = [class_name(int(number), train.class_names) for number in numbers]
    few, many = counts.min(), counts.max()
    images = f"{few}" if few == many else f"{few} to {many}"
    lines = [f"Classes: {len(names)} ({join_names(names)}), {images} training images each"]
    if missing := [str(count) for count in per_class if count > few]:
        lines.append(
            f"Not measured: {', '.join(missing)} labels per class, because "
            f"{names[int(counts.argmin())]} has {few} training images."
        )
    _, test_counts = _count(test)
    share = test_counts.max() / test_counts.sum()
    line = f"Always predicting the most frequent class is right for {share:.1%} of the test images"
    if is_unbalanced(test):
        line += f", and for {1 / len(test_counts):.1%} in the mean over classes"
    return [*lines, f"{line}."]


def is_unbalanced(test: Source) -> bool:
    """Returns whether one class has so many test images that the accuracy says little.

    That is, at least two classes, and twice the share of a balanced set, or more than 60%.
    """
    _, counts = _count(test)
    share = counts.max() / counts.sum()
    return len(counts) > 1 and bool(share > 2 / len(counts) or share > 0.6)


def verdict(
    rows: Mapping[str, Mapping[str, Any]], test: Source, name: str = "trained"
) -> list[str]:
    """Compares the mean-per-class accuracy of one encoder with that of all others.

    Args:
        rows: from `keras_ssl.runs.report.measure`.
        test: the test images of the measurement.
        name: row of the encoder that is judged. Without it, or without other rows, there is no verdict.

    Returns:
        Lines to print: one per baseline, and what to try if the encoder does not beat all of them. It
        beats another if it is better in one comparison and worse in none: kNN and linear classifier
        with all labels, and linear classifier with the most of the few labels. A difference counts
        from two standard errors on: with all labels those of the proportions, with few labels that of
        the mean difference over the draws, which are the same for all encoders.

    Source: standard errors of proportions after adding a right and a wrong image to each class (Agresti
    and Coull 1998), so that they are not 0 for a class that is always right.
    """
    if name not in rows or len(rows) < 2:
        return []
    numbers, counts = _count(test)
    sizes = {
        test.class_names[number] if test.class_names else str(number): int(count)
        for number, count in zip(numbers, counts, strict=True)
    }
    lines, beats_all = [], True
    for baseline in rows:
        if baseline == name:
            continue
        parts, words = [], []
        compared = {
            title: _difference(rows[name][protocol], rows[baseline][protocol], sizes)
            for protocol, title in _PROTOCOLS.items()
        }
        for title, (difference, error) in {
            **compared,
            **_few_labels_difference(rows[name], rows[baseline]),
        }.items():
            margin = _SIGMAS * error
            word = "better" if difference > margin else "worse" if difference < -margin else "equal"
            words.append(word)
            parts.append(f"{title} {100 * difference:+.1f} ± {100 * margin:.1f} ({word})")
        lines.append(f"{name.capitalize()} against {baseline}: {', '.join(parts)}")
        beats_all = beats_all and "better" in words and "worse" not in words
    lines[-1] += "\n(points of mean-per-class accuracy ± two standard errors)"
    return lines if beats_all else [*lines, _ADVICE]


def _difference(
    row: Mapping[str, Any], other: Mapping[str, Any], sizes: Mapping[str, int]
) -> tuple[float, float]:
    """Returns the difference of two mean-per-class accuracies and its standard error."""
    variance = 0.0
    for each in (row, other):
        for label, accuracy in each["per_class"].items():
            size = sizes.get(label, 1)
            smoothed = (accuracy * size + 1) / (size + 2)
            variance += smoothed * (1 - smoothed) / (size + 2)
    classes = len(row["per_class"])
    return row["mean_per_class"] - other["mean_per_class"], float(np.sqrt(variance)) / classes


def _few_labels_difference(
    row: Mapping[str, Any], other: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Returns title -> (difference, standard error) of the linear classifier with few labels.

    It is empty if there are fewer than three draws.
    """
    pairs = [
        (one["per_class"], one["mean_per_class_accuracies"], two["mean_per_class_accuracies"])
        for one, two in zip(row.get("few_labels", ()), other.get("few_labels", ()), strict=True)
        if one["protocol"] == "linear"
    ]
    if not pairs:
        return {}
    labels, one, two = max(pairs, key=lambda pair: pair[0])
    differences = np.asarray(one) - np.asarray(two)
    if len(differences) < 3:
        return {}
    error = float(np.std(differences, ddof=1)) / np.sqrt(len(differences))
    return {f"linear with {labels} labels per class": (float(differences.mean()), error)}


def _count(source: Source) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(source.labels)
    return np.unique(labels[labels >= 0], return_counts=True)
