"""Noise to train on, for `--smoke`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_ssl.data import Source


def noise() -> "tuple[Source, Source]":
    """Returns 64 training and 32 test images of noise, of 36 x 32 pixels, with four classes."""
    import numpy as np

    from keras_ssl import data

    pixels = np.random.default_rng(0).integers(0, 256, (96, 36, 32, 3), np.uint8)
    labels = np.arange(96) % 4
    return data.arrays(pixels[:64], labels[:64]), data.arrays(pixels[64:], labels[64:])


def moving_noise() -> "Source":
    """Returns 64 clips of noise, of 36 x 32 pixels, which moves by two pixels from frame to frame."""
    import numpy as np

    from keras_ssl import data

    pixels = np.random.default_rng(0).integers(0, 256, (64, 36, 32, 3), np.uint8)
    return data.clip_arrays(np.stack([np.roll(pixels, 2 * n, axis=2) for n in range(4)], axis=1))
