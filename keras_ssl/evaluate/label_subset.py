"""Chooses a reproducible, class-balanced subset of the labels for few-label training."""

import numpy as np

from keras_ssl.evaluate.few_labels import draw


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
    if not 0 < share <= 1:
        # The message names the argument of `finetune`, the public caller.
        raise ValueError(f"`labels` must be in (0, 1]. Received: labels={share}")
    labels = np.asarray(labels)
    labeled = np.flatnonzero(labels >= 0)
    if labeled.size == 0:
        raise ValueError("There must be labeled images. Received: no image with a label")
    if share == 1:
        return labeled
    _, sizes = np.unique(labels[labeled], return_counts=True)
    per_class = max(1, round(share * labeled.size / sizes.size))
    return labeled[draw(labels[labeled], min(per_class, int(sizes.min())), seed, number=0)]
