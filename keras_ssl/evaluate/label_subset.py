"""Chooses a reproducible, class-balanced subset of the labels for few-label training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_ssl.evaluate.few_labels import draw


@dataclass(frozen=True)
class LabelCounts:
    """How many labels a share of them is.

    Args:
        asked: the share that was asked for, in (0, 1].
        images: number of images that keep their labels.
        labeled: number of labeled images.
        per_class: number per class; `None` if all labels are kept.
        limit: label of the smallest class, if its size limits the number per class.
    """

    asked: float
    images: int
    labeled: int
    per_class: int | None = None
    limit: int | None = None

    @property
    def share(self) -> float:
        """The share of the labels that is used: `asked` if it differs by rounding only."""
        exact = self.asked * self.labeled
        classes = self.images / (self.per_class or self.images)
        return self.asked if abs(exact - self.images) <= classes / 2 else self.images / self.labeled

    def describe(self, class_names: Sequence[str] | None = None) -> str:
        """Returns a line if the smallest class limits the number; otherwise an empty string.

        Args:
            class_names: names of the labels 0, 1, ...
        """
        if self.limit is None:
            return ""
        name = repr(class_names[self.limit]) if class_names else str(self.limit)
        return (
            f"Labels: {self.images} of {self.labeled} ({self.share:.1%}) instead of "
            f"{self.asked:.1%}, because every class keeps the same number and class {name} has "
            f"only {self.per_class}. A share of 1 uses all labels"
        )


def count_labels(labels: np.ndarray, share: float) -> LabelCounts:
    """Returns how many labels `label_subset` keeps.

    Args:
        labels: see `label_subset`.
        share: see `label_subset`.

    Raises:
        ValueError: see `label_subset`.

    Example:
        >>> count_labels(np.array([0] * 97 + [1] * 3), share=0.5).images
        6
    """
    if not 0 < share <= 1:
        # The message names the argument of `finetune`, the public caller.
        raise ValueError(f"`labels` must be in (0, 1]. Received: labels={share}")
    labels = np.asarray(labels)
    names, sizes = np.unique(labels[labels >= 0], return_counts=True)
    total = int(sizes.sum())
    if total == 0:
        raise ValueError("There must be labeled images. Received: no image with a label")
    if share == 1:
        return LabelCounts(1.0, total, total)
    wanted, smallest = max(1, round(share * total / sizes.size)), int(sizes.min())
    limit = int(names[sizes.argmin()]) if wanted > smallest else None
    per_class = min(wanted, smallest)
    return LabelCounts(share, per_class * sizes.size, total, per_class, limit)


def label_subset(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Returns the sorted indices of the images that keep their labels.

    Every class keeps the same number of labels: the number closest to `share`, but at least one and at
    most the size of the smallest class. With the same seed, a smaller share is a subset of a larger
    one. A share of 1 keeps all labels, even if the classes are unbalanced.

    Args:
        labels: integers, (n,), -1 for unlabeled images.
        share: fraction of the labeled images to keep, in (0, 1]; 0.01 is 1%.
        seed: random seed, not negative.

    Raises:
        ValueError: if `share` is out of range, or no image has a label.

    Example:
        >>> label_subset(np.arange(1000) % 10, share=0.01).size
        10

    Source: Zhai et al. 2019, and SimCLR's class-balanced 1% and 10% subsets of ImageNet.
    """
    per_class = count_labels(labels, share).per_class
    labels = np.asarray(labels)
    labeled = np.flatnonzero(labels >= 0)
    if per_class is None:
        return labeled
    return labeled[draw(labels[labeled], per_class, seed, number=0)]
