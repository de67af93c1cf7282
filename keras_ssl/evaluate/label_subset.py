"""Which images keep their labels where labels are few: balanced over classes, the same for a seed."""

import numpy as np

from keras_ssl.evaluate.few_labels import draw


def label_subset(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Returns the numbers of the images that keep their labels, ascending.

    The same number of every class: the nearest to the share, but at least one, and no more than the
    smallest class has. A smaller share of the same seed is a part of a larger one. All images that have
    a label are returned for a share of 1, balanced or not.

    Args:
        labels: (n,) integers, -1 for images without a label.
        share: of the labelled images, above 0 and at most 1: 0.01 is 1%.
        seed: not negative.

    Raises:
        ValueError: if `share` is out of range, or no image has a label.

    Example:
        >>> label_subset(np.arange(1000) % 10, share=0.01).size
        10

    Source: Zhai et al. 2019 and SimCLR's 1% and 10% of ImageNet, which are balanced over classes.
    """
    if not 0 < share <= 1:
        raise ValueError(f"`labels` must lie above 0 and at most at 1. Received: labels={share}")
    labels = np.asarray(labels)
    known = np.flatnonzero(labels >= 0)
    if known.size == 0:
        raise ValueError("There must be labelled images. Received: no image with a label")
    if share == 1:
        return known
    _, sizes = np.unique(labels[known], return_counts=True)
    wanted = max(1, round(share * known.size / sizes.size))
    return known[draw(labels[known], min(wanted, int(sizes.min())), seed, number=0)]
