"""Compares the features that another runtime computes with those of Keras."""

import numpy as np


def check_agreement(
    expected: np.ndarray, received: np.ndarray, min_cosine: float, name: str
) -> float:
    """Returns the smallest cosine similarity between the expected and received features of an image.

    The similarity of two zero vectors is 1.

    Args:
        expected: features from Keras, (images, features).
        received: features from the exported file, (images, features).
        min_cosine: cosine similarity that every image must exceed.
        name: name of the exported file in messages.

    Raises:
        RuntimeError: if the shapes differ, an image does not exceed `min_cosine`, or a feature is not
            finite.

    Example:
        >>> check_agreement(np.eye(2), np.eye(2), 0.9999, "network.onnx")
        1.0
    """
    if expected.shape != received.shape:
        raise RuntimeError(
            f"The features of {name} have the wrong shape, so nothing was written. "
            f"Expected: {expected.shape}. Received: {received.shape}"
        )
    cosine = float(np.min(_cosines(expected.astype("float64"), received.astype("float64"))))
    if not cosine > min_cosine:
        raise RuntimeError(
            f"The features of {name} differ from those of the network, so nothing was written. "
            f"Expected: a cosine similarity above {min_cosine} for each of {len(expected)} images. "
            f"Received: {cosine:.6f}"
        )
    return cosine


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = (a == 0).all(axis=1) & (b == 0).all(axis=1)
    products = np.sum(a * b, axis=1) / np.where(lengths == 0, 1.0, lengths)
    return np.where(both_zero, 1.0, products)
