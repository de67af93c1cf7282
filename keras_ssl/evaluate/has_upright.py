"""Whether images have an upright: can a turn by 90, 180 or 270 degrees be seen?"""

import numpy as np
import tensorflow as tf

from keras_ssl import augment
from keras_ssl.data import Source
from keras_ssl.evaluate.inputs import prepare
from keras_ssl.evaluate.logistic import fit

__all__ = ["has_upright", "turn_accuracy"]

_IMAGES = 400
_LEAST_IMAGES = 300  # with fewer, chance and an upright differ by too few standard errors
_SIDE = 32  # pixels
_LARGE_SIDE = 256  # pixels; of larger images, every n-th pixel is used
_FILTERS = ((5, 32), (3, 64))  # size and number, in each convolution of the random network
_GRID = 4  # rows and columns of the pooled feature maps
_INVERSE_L2 = 0.001  # the best of 0.001, 0.01 and 0.1 on CIFAR-10 and Imagenette
_TURNS = 4
_SIGMAS = 2.0


def has_upright(source: Source, images: int = _IMAGES) -> bool:
    """Returns whether images have an upright, without which they cannot teach a network rotations.

    Each of a few hundred images is turned by 0, 90, 180 and 270 degrees. The images have no upright
    if a linear classifier on the features of a random network finds the turn no more often than by
    chance, within two standard errors. This takes a second, besides reading the images.

    Anything that shows how the camera was held counts as an upright: in pictures from one microscope,
    light that always comes from the same side is enough.

    Args:
        source: images, of which a sample is used.
        images: number of images in the sample, at most. With fewer than 300 the test could miss
            the upright of photographs, and the result is True.

    Example:
        >>> has_upright(keras_ssl.data.digits("train"))
        True

    Source: ours. In samples of 400 images of CIFAR-10 or Imagenette, the accuracy was at least four
    standard errors above chance; in CIFAR-10 images turned at random, 1 of 60 samples exceeded two.
    """
    if min(images, len(source)) < _LEAST_IMAGES:
        return True
    accuracy, error = turn_accuracy(source, images)
    return accuracy > 1 / _TURNS + _SIGMAS * error


def turn_accuracy(source: Source, images: int = _IMAGES) -> tuple[float, float]:
    """Returns how often a linear classifier on random features finds the quarter turn of an image.

    The classifier is trained on one half of the images and tested on the other.

    Args:
        source: images, of which a sample is used.
        images: number of images in the sample, at most.

    Returns:
        The accuracy, 0 to 1, and its standard error over the test images. Chance is 0.25.

    Raises:
        ValueError: if there are fewer than four images.

    Example:
        >>> accuracy, error = turn_accuracy(keras_ssl.data.digits("train"))
        >>> accuracy > 0.8
        True
    """
    if min(images, len(source)) < _TURNS:
        raise ValueError(
            f"At least four images are needed. Received: images={images}, and {len(source)} in "
            f"{source.name!r}"
        )
    pictures = _read(source, images)  # (n, side, side, channels)
    pictures = pictures[np.random.default_rng(0).permutation(len(pictures))]
    pictures -= pictures.mean(axis=(1, 2), keepdims=True)
    turned = [np.rot90(pictures, turn, (1, 2)).copy() for turn in range(_TURNS)]
    features = np.stack([_random_features(images) for images in turned], axis=1)  # (n, turns, dim)
    right = _test(*np.array_split(features, 2))  # (n / 2,)
    return float(right.mean()), float(right.std(ddof=1) / np.sqrt(len(right)))


def _read(source: Source, count: int) -> np.ndarray:
    """Returns central squares of images that are spread over a source; of a stream, the first."""
    if source.random_access:
        count = min(count, len(source))
        chosen = np.linspace(0, len(source) - 1, count).astype(np.int64)
        dataset = source.subset(chosen).dataset()
    else:
        dataset = source.dataset().take(count)
    shape = (None, _SIDE, _SIDE, source.image_shape[2])
    crop = augment.evaluation(_SIDE)

    def shrink(image):
        # To resize millions of pixels takes longer than to decode them.
        step = tf.maximum(1, tf.reduce_min(tf.shape(image)[:2]) // _LARGE_SIDE)
        return crop(image[::step, ::step])

    # With an augmentation, images are made small one by one; a batch of large ones takes gigabytes.
    batches, _ = prepare(dataset, shape, count, shrink, source.name)
    return next(iter(batches))[0].numpy()


def _random_features(images: np.ndarray) -> np.ndarray:
    """Returns (n, dim) features of a random network of two convolutions, whose places are kept."""
    random = np.random.default_rng(0)
    x = tf.constant(images)
    for size, filters in _FILTERS:
        kernel = random.normal(size=(size, size, x.shape[-1], filters)).astype(np.float32)
        kernel /= np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)))
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
    cell = x.shape[1] // _GRID
    x = tf.nn.avg_pool2d(x, cell, cell, "VALID")  # (n, grid, grid, filters)
    return x.numpy().reshape(len(x), -1)


def _test(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Returns the share of the four turns of each test image that are found, (n_test,)."""
    dim = train.shape[-1]
    values = train.reshape(-1, dim)
    mean, std = values.mean(axis=0), values.std(axis=0)
    std[std < 1e-6] = 1
    turns = np.tile(np.arange(_TURNS), len(train))
    classifier = fit((values - mean) / std, turns, _TURNS, _INVERSE_L2, max_iter=100)
    scores = ((test - mean) / std) @ classifier.weights + classifier.bias  # (n_test, turns, turns)
    return np.mean(np.argmax(scores, axis=-1) == np.arange(_TURNS), axis=1)
