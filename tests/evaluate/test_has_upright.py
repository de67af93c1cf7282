"""Images have an upright if a turn by 90 degrees can be seen, and none if it cannot."""

import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.evaluate import has_upright
from keras_ssl.evaluate.has_upright import turn_accuracy


def blobs(shade=0.0, count=400, side=16):
    """Returns noise that is smoothed equally in all directions; the top is brighter by `shade`."""
    noise = np.random.default_rng(0).normal(size=(count, side, side, 3))
    spectrum = np.fft.fft2(noise, axes=(1, 2))
    rows, columns = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    smooth = np.exp(-30 * (rows**2 + columns**2))[None, :, :, None]
    images = np.fft.ifft2(spectrum * smooth, axes=(1, 2)).real
    images = 128 + 60 * images / images.std()
    images += shade * np.linspace(1, -1, side)[None, :, None, None]
    return data.arrays(np.clip(images, 0, 255).astype(np.uint8), name="blobs")


def test_digits_have_an_upright_and_noise_has_none():
    assert has_upright(data.digits("train"))
    accuracy, error = turn_accuracy(blobs())
    assert abs(accuracy - 0.25) <= 2 * error < 0.08
    assert turn_accuracy(blobs()) == (accuracy, error)


def test_light_from_one_side_is_an_upright():
    assert has_upright(blobs(shade=20))


def test_a_few_images_cannot_tell():
    few = blobs().subset(np.arange(299))
    assert has_upright(few)
    assert not has_upright(blobs().subset(np.arange(300)))
    assert has_upright(blobs(), images=299)
    with pytest.raises(ValueError, match=r"four images are needed. Received: images=3, and 300 in"):
        turn_accuracy(blobs().subset(np.arange(300)), 3)
