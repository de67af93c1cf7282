"""color_prior: how often each color occurs."""

import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.layers import ColorBins, RGBToLab


def noise(count=6, side=8, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def test_the_prior_is_the_mean_code_of_all_pixels():
    images = noise()
    prior = data.color_prior(data.arrays(images))
    codes = ColorBins()(RGBToLab()(images.astype(np.float32) / 255)[..., 1:])
    expected = np.asarray(codes).reshape(-1, 262).mean(axis=0)
    assert sum(prior) == pytest.approx(1)
    # Colors are counted in whole units.
    assert np.abs(prior - expected).sum() < 0.05
    assert max(prior) < 0.05


def test_one_color_has_the_code_of_this_color():
    images = np.full((3, 80, 200, 3), (255, 0, 0), np.uint8)  # a = 80.1, b = 67.2
    prior = np.array(data.color_prior(data.arrays(images)))
    assert np.sum(prior > 0) == 10
    np.testing.assert_array_equal(ColorBins().centers[np.argmax(prior)], [80, 70])


def test_gray_images_do_not_count():
    colors = noise(2)
    gray = np.repeat(noise(4, channels=1), 3, axis=-1)
    both = data.color_prior(data.arrays(np.concatenate([gray, colors])))
    np.testing.assert_allclose(both, data.color_prior(data.arrays(colors)), atol=1e-6)


def test_images_of_other_types_are_scaled():
    images = noise()
    exact = data.color_prior(data.arrays(images))
    floats = data.color_prior(data.arrays((images / 255).astype(np.float32)))
    np.testing.assert_allclose(exact, floats, atol=2e-3)


def test_images_without_color_are_refused():
    with pytest.raises(ValueError, match=r"needs images with 3 channels\. Received: 1"):
        data.color_prior(data.arrays(noise(channels=1)))
    with pytest.raises(ValueError, match=r"needs images in color.*are gray"):
        data.color_prior(data.arrays(np.full((4, 8, 8, 3), 99, np.uint8)))
