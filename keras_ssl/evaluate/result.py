"""What an evaluation returns: `Result` for one run, `FewLabels` for repeated draws of few labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

__all__ = ["FewLabels", "Result"]

_TOP = 5


@dataclass(frozen=True)
class Result:
    """The result of one evaluation protocol.

    Attributes:
        protocol: "knn" or "linear"; "finetune" or "supervised" for a `Finetuned`.
        accuracy: top-1 accuracy on the test images, 0 to 1.
        top5: top-5 accuracy on the test images, 0 to 1; `None` if there are fewer than six
            classes.
        train_size: number of labeled training images.
        test_size: number of test images.
        settings: all settings of the protocol, including defaults.
        collapsed: whether the features are nearly constant, so that the accuracy is meaningless.
        mean_per_class: accuracy of each class, averaged over the classes of the test images, 0 to 1.
            Unlike `accuracy`, it is low for a classifier that always predicts the most frequent class.
        per_class: the accuracy of each class of the test images: name, or number, -> 0 to 1.

    Example:
        >>> print(Result("knn", 0.875, None, 50000, 10000, {"k": 200}, mean_per_class=0.86))
        knn: 87.50 % (mean per class: 86.00 %), 50,000 train and 10,000 test images, k=200
    """

    protocol: str
    accuracy: float
    top5: float | None
    train_size: int
    test_size: int
    settings: dict[str, Any] = field(default_factory=dict)
    collapsed: bool = False
    mean_per_class: float | None = None
    per_class: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a JSON-serializable dictionary."""
        return asdict(self)

    def __str__(self) -> str:
        others = {"top 5": self.top5, "mean per class": self.mean_per_class}
        known = [
            f"{name}: {100 * value:.2f} %" for name, value in others.items() if value is not None
        ]
        top5 = f" ({'; '.join(known)})" if known else ""
        text = (
            f"{self.protocol}: {100 * self.accuracy:.2f} %{top5}, "
            f"{self.train_size:,} train and {self.test_size:,} test images"
        )
        return text + _describe(self.settings) + _warn(self.collapsed)


@dataclass(frozen=True)
class FewLabels:
    """The result of repeated evaluations, each on a different random draw of a few labels.

    Attributes:
        protocol: "knn" or "linear".
        per_class: labeled images per class.
        accuracies: one accuracy per draw, 0 to 1. For a given seed and given labels, draw i contains
            the same images for every encoder.
        train_size: labeled images in one draw, over all classes.
        test_size: number of test images.
        settings: all settings of the protocol, including defaults.
        collapsed: whether the features are nearly constant, so that the accuracy is meaningless.
        mean_per_class_accuracies: the mean-per-class accuracy of each draw, 0 to 1; see `Result`.

    Example:
        >>> print(FewLabels("knn", 10, [0.5, 0.7], 100, 10000, {"k": 100}))
        knn, 10 labels per class: 60.00 % +- 14.14 % over 2 draws, 10,000 test images, k=100
    """

    protocol: str
    per_class: int
    accuracies: list[float]
    train_size: int
    test_size: int
    settings: dict[str, Any] = field(default_factory=dict)
    collapsed: bool = False
    mean_per_class_accuracies: list[float] = field(default_factory=list)

    @property
    def mean_per_class(self) -> float | None:
        """Mean-per-class accuracy, averaged over the draws; `None` if it was not measured."""
        if not self.mean_per_class_accuracies:
            return None
        return float(np.mean(self.mean_per_class_accuracies))

    @property
    def mean(self) -> float:
        """Mean accuracy over the draws."""
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the accuracy over the draws; `None` for a single draw."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes and properties as a JSON-serializable dictionary."""
        properties = {"mean": self.mean, "std": self.std, "mean_per_class": self.mean_per_class}
        return {**asdict(self), **properties}

    def __str__(self) -> str:
        spread = "" if self.std is None else f" +- {100 * self.std:.2f} %"
        draws, labels = len(self.accuracies), self.per_class
        text = (
            f"{self.protocol}, {labels} label{'s' * (labels != 1)} per class: "
            f"{100 * self.mean:.2f} %{spread} over {draws} draw{'s' * (draws != 1)}, "
            f"{self.test_size:,} test images"
        )
        return text + _describe(self.settings) + _warn(self.collapsed)


def _describe(settings: dict[str, Any]) -> str:
    return "".join(f", {name}={value}" for name, value in settings.items())


def _warn(collapsed: bool) -> str:
    return " [collapsed: the features are constant]" if collapsed else ""


def best_classes(scores: np.ndarray) -> np.ndarray:
    """Returns the five classes with the highest scores, best first; ties go to the lower class.

    Args:
        scores: (n, classes).

    Returns:
        Integers, (n, min(5, classes)).
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]


def accuracies(best: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, float | None]:
    """Returns the top-1 and top-5 accuracy of `best_classes`.

    The top-5 accuracy is `None` if there are fewer than six classes.
    """
    hits = best == labels[:, None]  # (n, 5)
    return float(hits[:, 0].mean()), float(hits.any(axis=1).mean()) if classes > _TOP else None


def class_accuracies(
    best: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None
) -> dict[str, float]:
    """Returns the top-1 accuracy of each class that has test images; its name, or number, is the key.

    Args:
        best: (n, <= 5), from `best_classes`.
        labels: (n,).
        class_names: names of labels 0, 1, ...

    Example:
        >>> class_accuracies(np.array([[0], [0], [0]]), np.array([0, 0, 1]))
        {'0': 1.0, '1': 0.0}
    """
    hits = best[:, 0] == labels
    numbers = np.unique(labels)
    names = [class_names[number] if class_names else str(number) for number in numbers]
    return {
        name: float(hits[labels == number].mean())
        for name, number in zip(names, numbers, strict=True)
    }


def mean_accuracy(per_class: dict[str, float]) -> float:
    """Returns the mean of `class_accuracies`."""
    return float(np.mean(list(per_class.values())))


def score(
    protocol: str,
    best: np.ndarray,
    labels: np.ndarray,
    classes: int,
    class_names: Sequence[str] | None,
    train_size: int,
    settings: dict[str, Any],
    collapsed: bool,
) -> Result:
    """Returns the `Result` of predictions.

    Args:
        protocol: name of the protocol.
        best: (n, <= 5), from `best_classes`.
        labels: (n,), the labels of the test images.
        classes: number of classes.
        class_names: names of labels 0, 1, ...
        train_size: see `Result`.
        settings: see `Result`.
        collapsed: see `Result`.
    """
    accuracy, top5 = accuracies(best, labels, classes)
    per_class = class_accuracies(best, labels, class_names)
    mean = mean_accuracy(per_class)
    return Result(
        protocol, accuracy, top5, train_size, len(labels), settings, collapsed, mean, per_class
    )
