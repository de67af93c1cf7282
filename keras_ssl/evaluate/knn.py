"""Weighted k-nearest-neighbor classification on frozen features. Needs no training and no tuning."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.evaluate.features import Features, labelled_pair
from keras_ssl.evaluate.inputs import Images
from keras_ssl.evaluate.result import Result, best_classes, score

__all__ = ["is_collapsed", "knn", "vote"]

logger = logging.getLogger(__name__)

# One block of similarities is 512 x 65536 float32, 128 MiB, independent of the size of the sets. Long
# rows mean fewer blocks, and the cost of selecting the k largest grows with the number of blocks.
_TEST_BLOCK = 512
_BANK_BLOCK = 65536


def knn(
    backbone: keras.Model | None,
    train: Images,
    test: Images,
    k: int = 200,
    temperature: float = 0.1,
    batch_size: int = 256,
    augmentation: Callable | None = None,
    progress: bool = False,
) -> Result:
    """Measures the accuracy of a weighted k-nearest-neighbor classifier on frozen features.

    The k training images with the highest cosine similarity s to a test image vote for their class
    with weight exp(s / temperature).

    Args:
        backbone: built `keras.Model`, images to (batch, dim); `None` if both sets are `Features`.
        train: labeled images that vote; anything that `extract` takes.
        test: labeled images to classify; anything that `extract` takes.
        k: number of neighbors that vote. If there are fewer training images, all of them vote.
        temperature: temperature of the weights, positive. A lower value gives closer neighbors more
            weight.
        batch_size: images per forward pass. Does not affect the result.
        augmentation: see `extract`.
        progress: whether to show progress bars.

    Returns:
        `Result`. Its settings include `k`, the number of neighbors that voted, and `k_requested`.

    Raises:
        ValueError: if a set lacks labels, `k` or `temperature` is not positive, or for the reasons
            given in `extract`.
        RuntimeError: if a variable of the backbone changed.

    Example:
        >>> images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1) * np.ones((4, 4, 3), "u1")
        >>> images[6:, :, :, 0] = 255
        >>> data = (images, np.repeat([0, 1], 6))
        >>> from keras_ssl.evaluate import pixels
        >>> knn(pixels((4, 4, 3)), data, data, k=3).accuracy
        1.0

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination", section 3.4 (k = 200, temperature 0.07). We use temperature 0.1, as the MoCo
    CIFAR-10 notebook and lightly's benchmarks do, so that results can be compared with theirs.
    """
    _check(k, temperature)
    train, test = labelled_pair(backbone, train, test, batch_size, augmentation, progress)
    best, classes = vote(train, test, k, temperature)
    settings = {
        "k": min(k, len(train)),
        "k_requested": k,
        "temperature": temperature,
        "batch_size": batch_size,
        "preprocessing": train.preprocessing,
    }
    collapsed = is_collapsed(train)
    names = train.class_names
    return score("knn", best, test.targets, classes, names, len(train), settings, collapsed)


def _check(k: int, temperature: float) -> None:
    if k < 1:
        raise ValueError(f"`k` must be positive. Received: k={k}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}.")


def vote(train: Features, test: Features, k: int, temperature: float) -> tuple[np.ndarray, int]:
    """Classifies test features by a vote of their nearest neighbors.

    Args:
        train: labeled features that vote.
        test: labeled features to classify.
        k: number of neighbors that vote, at most all of `train`.
        temperature: temperature of the weights, positive.

    Returns:
        The best classes of each test image, (n_test, <= 5), and the total number of classes.
    """
    _check(k, temperature)
    names, voters = np.unique(train.targets, return_inverse=True)
    classes = len(np.union1d(names, test.targets))
    starts = range(0, len(train), _BANK_BLOCK)
    bank = [tf.constant(_normalize(train.values[at : at + _BANK_BLOCK])) for at in starts]
    best = []
    with _exact_float32():
        for start in range(0, len(test), _TEST_BLOCK):
            block = _normalize(test.values[start : start + _TEST_BLOCK])
            similarity, neighbours = _nearest(block, bank, min(k, len(train)))  # (block, k)
            # Scaling the largest weight of each row to 1 keeps the order and avoids overflow at
            # small temperatures.
            weights = np.exp((similarity - similarity[:, :1]) / temperature)
            rows = np.arange(len(block))[:, None] * len(names)
            scores = np.bincount(
                (rows + voters[neighbours]).ravel(), weights.ravel(), len(block) * len(names)
            )
            best.append(best_classes(scores.reshape(len(block), len(names))))
    return names[np.concatenate(best)], classes


def _nearest(
    queries: np.ndarray, bank: Sequence[tf.Tensor], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k largest similarities of each query, (n, k) float64, and their indices."""
    values = tf.zeros((len(queries), 0))
    indices = tf.zeros((len(queries), 0), tf.int32)
    start = 0
    for block in bank:
        similarity = tf.matmul(queries, block, transpose_b=True)  # (n, block)
        top, where = tf.math.top_k(similarity, min(k, len(block)))
        values = tf.concat([values, top], axis=1)
        indices = tf.concat([indices, where + start], axis=1)
        values, where = tf.math.top_k(values, min(k, values.shape[1]))
        indices = tf.gather(indices, where, batch_dims=1)
        start += len(block)
    return values.numpy().astype(np.float64), indices.numpy()


def _normalize(values: np.ndarray) -> np.ndarray:
    norms = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))
    norms[norms == 0] = 1  # zero vectors stay zero
    # Divides in float64 without storing a float64 copy.
    return np.divide(values, norms[:, None], out=np.empty_like(values), casting="same_kind")


@contextlib.contextmanager
def _exact_float32() -> Iterator[None]:
    # TensorFloat-32 on recent GPUs rounds similarities to three digits. The neighbors of a weak
    # encoder differ by less.
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)


def is_collapsed(features: Features) -> bool:
    """Returns whether the features are constant up to scale; logs a warning if they are.

    The spread is the square root of the total variance of the L2-normalized features, computed on
    at most 20,000 images: 0 for constant features, near 1 for evenly spread directions. Its square is
    the mean of 1 - cosine similarity. Below the float32 resolution (1.2e-7), similarities cannot
    distinguish two images.

    Example:
        >>> is_collapsed(Features(np.random.default_rng(0).normal(size=(10, 4))))
        False
    """
    if len(features) < 2:
        return False
    sample = _normalize(features.values[:: max(1, len(features) // 10_000)])
    spread = float(np.sqrt(sample.var(axis=0, dtype=np.float64).sum()))
    collapsed = spread**2 < np.finfo(np.float32).eps
    if collapsed:
        logger.warning(
            "The features of %r are constant: the encoder has collapsed, and its accuracy is "
            "meaningless. Spread of the normalized features: %.1e (1 for evenly spread directions).",
            features.name,
            spread,
        )
    return bool(collapsed)
