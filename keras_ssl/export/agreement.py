"""How near another runtime's features must be to those of Keras."""

import numpy as np


def check_agreement(expected: np.ndarray, received: np.ndarray, least: float, what: str) -> float:
    """Returns the smallest cosine between the features of an image here and there.

    Args:
        expected: (images, features), of Keras.
        received: (images, features), of the written file.
        least: cosine that every image must exceed.
        what: the file's kind, for the message.

    Raises:
        RuntimeError: if one does not, or a feature is not finite.

    Example:
        >>> check_agreement(np.eye(2), np.eye(2), 0.9999, "network.onnx")
        1.0
    """
    if expected.shape != received.shape:
        raise RuntimeError(
            f"The features of {what} have another shape, so nothing was written. "
            f"Expected: {expected.shape}. Received: {received.shape}"
        )
    cosine = float(np.min(_cosines(expected.astype("float64"), received.astype("float64"))))
    if not cosine > least:
        raise RuntimeError(
            f"The features of {what} are not those of the network, so nothing was written. "
            f"Expected: a cosine above {least} for each of {len(expected)} images. "
            f"Received: {cosine:.6f}"
        )
    return cosine


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = (a == 0).all(axis=1) & (b == 0).all(axis=1)
    products = np.sum(a * b, axis=1) / np.where(lengths == 0, 1.0, lengths)
    return np.where(both_zero, 1.0, products)
