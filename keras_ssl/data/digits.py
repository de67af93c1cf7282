"""The built-in data set: scikit-learn's handwritten digits, 8 x 8 pixels."""

import numpy as np

from keras_ssl.data.arrays import arrays
from keras_ssl.data.labels import stratified_split
from keras_ssl.data.source import Source


def digits(split: str = "train", seed: int = 0) -> Source:
    """Returns scikit-learn's 1,797 handwritten digits, which need no download.

    The images have 8 x 8 pixels and one channel. Their 17 gray levels are scaled to 0 to 255.
    scikit-learn defines no split; here a random fifth of each class is the test split.

    Args:
        split: "train" (1,437 images), "test" (360) or "all".
        seed: seed of the random split.

    Raises:
        ValueError: if `split` has any other value.

    Example:
        >>> len(digits("train")), len(digits("test"))
        (1437, 360)

    Source: `sklearn.datasets.load_digits`, the test set of UCI's Optical Recognition of
    Handwritten Digits.
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"`split` must be 'train', 'test' or 'all'. Received: split={split!r}")
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    labels = bunch.target
    if split != "all":
        train, test = stratified_split(len(images), labels, 0.2, seed, "digits")
        chosen = train if split == "train" else test
        images, labels = images[chosen], labels[chosen]
    return arrays(images, labels, [str(digit) for digit in range(10)], name=f"digits {split}")
