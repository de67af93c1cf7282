"""What an evaluation returns: `Result` for one run, `FewLabels` for repeated draws of few labels."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

__all__ = ["FewLabels", "Result"]

_TOP = 5


@dataclass(frozen=True)
class Result:
    """The outcome of one protocol.

    Attributes:
        protocol: "knn" or "linear".
        accuracy: share of the test images whose class was predicted, 0 to 1.
        top5: share of the test images whose class is among the five best, 0 to 1; `None` where
            there are fewer than six classes.
        train_size: labelled images that the classifier saw.
        test_size: images that it was tested on.
        settings: every setting of the protocol, defaults included.
        collapsed: the features are so nearly constant that an accuracy says nothing about them.

    Example:
        >>> print(Result("knn", 0.875, 0.99, 50000, 10000, {"k": 200}))
        knn: 87.50 % (top 5: 99.00 %), 50,000 train and 10,000 test images, k=200
    """

    protocol: str
    accuracy: float
    top5: float | None
    train_size: int
    test_size: int
    settings: dict[str, Any] = field(default_factory=dict)
    collapsed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a dictionary that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f" (top 5: {self.top5:.2%})".replace("%", " %")
        text = (
            f"{self.protocol}: {100 * self.accuracy:.2f} %{top5}, "
            f"{self.train_size:,} train and {self.test_size:,} test images"
        )
        return text + _describe(self.settings) + _warn(self.collapsed)


@dataclass(frozen=True)
class FewLabels:
    """The outcome of repeated evaluations, each with its own draw of a few labels per class.

    Attributes:
        protocol: "knn" or "linear".
        per_class: labelled images per class.
        accuracies: one accuracy per draw, 0 to 1. Draw i holds the same images for every encoder
            that is evaluated with the same seed on the same labels.
        train_size: labelled images of one draw, over all classes.
        test_size: images that each draw was tested on.
        settings: every setting of the protocol, defaults included.
        collapsed: the features are so nearly constant that an accuracy says nothing about them.

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

    @property
    def mean(self) -> float:
        """Mean accuracy over the draws."""
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the accuracy over the draws; `None` for a single draw."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes, mean and spread as a dictionary that JSON can hold."""
        return {**asdict(self), "mean": self.mean, "std": self.std}

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
    """Returns the classes with the highest scores, best first; the lower class wins a tie.

    Args:
        scores: (n, classes).

    Returns:
        (n, min(5, classes)) integers.
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]


def accuracies(best: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, float | None]:
    """Returns the accuracy and, from six classes on, the top-5 accuracy of `best_classes`."""
    hits = best == labels[:, None]  # (n, 5)
    return float(hits[:, 0].mean()), float(hits.any(axis=1).mean()) if classes > _TOP else None
