"""Images and keys shared by the augmentation tests."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment.random import image_keys


@pytest.fixture(scope="session")
def keys():
    """Returns a function that makes (batch, 2) keys of `count` images in one epoch."""

    def make(count, seed=0, epoch=0, view=0, first=0):
        return image_keys(seed, epoch, tf.range(first, first + count, dtype=tf.int64), view)

    return make


@pytest.fixture(scope="session")
def noise():
    """Returns a function that makes (batch, height, width, channels) float32 noise in [0, 1)."""

    def make(count=6, height=16, width=16, channels=3, seed=0):
        shape = (count, height, width, channels)
        return np.random.default_rng(seed).random(shape, np.float32)

    return make
