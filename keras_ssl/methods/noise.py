"""Noise that a method adds to a batch, drawn from the keys of its images."""

import math

import tensorflow as tf

from keras_ssl.augment import random


def gaussian(images: tf.Tensor, keys: tf.Tensor, amount: float) -> tf.Tensor:
    """Adds normal noise of standard deviation `amount` to each value; does not clip."""
    count = math.prod(images.shape[1:])
    # Box-Muller: a radius and an angle make two independent normal numbers.
    half = (count + 1) // 2
    draws = random.uniform(keys, 2 * half)  # (batch, 2 * half)
    radius = tf.sqrt(-2.0 * tf.math.log1p(-draws[:, :half]))
    angle = 2.0 * math.pi * draws[:, half:]
    normal = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=-1)[:, :count]
    noise = tf.reshape(normal, (-1, *images.shape[1:]))
    return images + amount * tf.cast(noise, images.dtype)


def masking(images: tf.Tensor, keys: tf.Tensor, amount: float) -> tf.Tensor:
    """Sets each pixel to zero with probability `amount`, in all channels."""
    return tf.where(_pixels(images, keys)[..., None] < amount, 0.0, images)


def salt_and_pepper(images: tf.Tensor, keys: tf.Tensor, amount: float) -> tf.Tensor:
    """Sets each pixel to zero or one, with probability `amount / 2` each, in all channels."""
    draws = _pixels(images, keys)[..., None]
    return tf.where(draws < amount / 2, 0.0, tf.where(draws < amount, 1.0, images))


def _pixels(images: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Returns a number in [0, 1) for each pixel, (batch, height, width)."""
    height, width = images.shape[1:3]
    return tf.reshape(random.uniform(keys, height * width), (-1, height, width))


NOISES = {"gaussian": gaussian, "masking": masking, "salt-and-pepper": salt_and_pepper}
"""Functions (images, keys, amount) -> images, by the names of noises."""
