"""Holes that a method cuts into a batch of images, drawn from the keys of the images."""

import functools

import numpy as np
import tensorflow as tf

from keras_ssl.augment import random

_SHARES = (0.2, 0.3)  # least and largest share of the pixels in a random hole
_CELLS = 8  # an image has about so many cells of noise along each side
_MARGIN = 2  # further cells, so that the noise is the same near the border


def center_hole(images: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Returns a (batch, height, width) mask of the central half of each side; it ignores the keys."""
    height, width = images.shape[1:3]
    rows, columns = np.arange(height), np.arange(width)
    inside = [
        (place >= side // 4) & (place < side // 4 + max(1, side // 2))
        for place, side in ((rows, height), (columns, width))
    ]
    mask = tf.constant(inside[0][:, None] & inside[1])
    return tf.tile(mask[None], [tf.shape(images)[0], 1, 1])


def random_region(images: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Returns a (batch, height, width) mask of irregular holes that cover 20 to 30 % of an image.

    Noise is smoothed, and its largest values are the hole. The share is drawn evenly.
    """
    height, width = images.shape[1:3]
    cells = _CELLS + 2 * _MARGIN
    draws = random.uniform(keys, cells * cells + 1)
    noise = tf.reshape(draws[:, 1:], (-1, cells, cells))
    down, across = (tf.constant(_smoothing(side)) for side in (height, width))
    smooth = tf.einsum("yr,brc,xc->byx", down, noise, across)  # (batch, height, width)
    ordered = tf.sort(tf.reshape(smooth, (-1, height * width)), direction="DESCENDING")
    least, largest = _SHARES
    count = tf.cast(tf.round((least + (largest - least) * draws[:, 0]) * height * width), tf.int32)
    threshold = tf.gather(ordered, tf.maximum(count - 1, 0), axis=1, batch_dims=1)
    return smooth >= threshold[:, None, None]


@functools.lru_cache
def _smoothing(side: int) -> np.ndarray:
    """Returns a (side, cells) matrix that interpolates between cells by a Gaussian of half a cell."""
    cells = np.arange(-_MARGIN, _CELLS + _MARGIN) + 0.5
    places = (np.arange(side) + 0.5) * _CELLS / side
    weights = np.exp(-2 * (places[:, None] - cells) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


REGIONS = {"random": random_region, "center": center_hole}
"""Functions (images, keys) -> mask, by the names of regions."""
