"""Gaussian blur against a slow convolution with zero padding."""

import numpy as np
import pytest
from scipy import stats

from keras_ssl.augment import RandomBlur
from keras_ssl.augment.random import uniform


def twin(image, sigma, reach):
    """Weighted sum over the neighbours of each pixel, with zero padding."""
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2.0 * sigma**2))
    taps /= taps.sum()
    height, width, _ = image.shape
    padded = np.pad(image.astype(np.float64), [(reach, reach), (reach, reach), (0, 0)])
    result = np.zeros(image.shape)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            result += taps[dy] * taps[dx] * padded[dy : dy + height, dx : dx + width]
    return result


@pytest.mark.parametrize(
    ("height", "width", "reach"), [(40, 40, 2), (32, 32, 1), (59, 30, 2), (60, 30, 3)]
)
def test_equals_the_slow_convolution(noise, keys, height, width, reach):
    images, blur = noise(4, height, width), RandomBlur(probability=1.0)
    found = blur(images, keys=keys(4)).numpy()
    sigmas = 0.1 + 1.9 * uniform(keys(4), blur.draws).numpy()[:, 1]
    for image, blurred, sigma in zip(images, found, sigmas, strict=True):
        np.testing.assert_allclose(blurred, twin(image, sigma, reach), atol=1e-5)


def test_padding_is_black(keys):
    blurred = RandomBlur(probability=1.0, sigma=(2.0, 2.0))(
        np.ones((1, 40, 40, 1), np.float32), keys=keys(1)
    ).numpy()[0, ..., 0]
    assert blurred[20, 20] == pytest.approx(1.0, abs=1e-5)
    assert blurred[0, 0] < blurred[0, 20] < 0.8


def test_the_kernel_is_a_tenth_of_the_height_made_odd(keys):
    for height, taps in ((19, 1), (20, 3), (39, 3), (40, 5), (224, 23)):
        point = np.zeros((1, height, height, 1), np.float32)
        point[0, height // 2, height // 2] = 1.0
        blurred = RandomBlur(probability=1.0, sigma=(2.0, 2.0))(point, keys=keys(1)).numpy()
        assert np.count_nonzero(blurred[0, :, height // 2, 0]) == taps


def test_rate_and_sigma(keys):
    count = 10_000
    point = np.zeros((count, 20, 20, 1), np.float32)
    point[:, 10, 10] = 1.0
    blurred = RandomBlur()(point, keys=keys(count)).numpy()
    centre, side = blurred[:, 10, 10, 0], blurred[:, 10, 11, 0]
    changed = RandomBlur().draws == 2 and uniform(keys(count), 2).numpy()[:, 0] < 0.5
    assert changed.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(count))
    np.testing.assert_array_equal(blurred[~changed], point[~changed])
    # The neighbour's weight gives sigma: side / centre = exp(-1 / (2 sigma^2)). Below a sigma of
    # about 0.25, float32 is not precise enough.
    ratio = side[changed].astype(np.float64) / centre[changed]
    sigma = np.sqrt(-1 / (2 * np.log(np.maximum(ratio, 1e-30))))
    assert sigma.max() == pytest.approx(2.0, abs=0.01)
    assert (sigma < 0.3).mean() == pytest.approx(0.2 / 1.9, abs=0.02)
    visible = sigma[sigma > 0.3]
    assert stats.kstest(visible, "uniform", args=(0.3, 1.7)).pvalue > 1e-3


@pytest.mark.parametrize("sigma", [(0, 1), (-1, 1), (2, 1)])
def test_rejects_a_bad_range(sigma):
    with pytest.raises(ValueError, match="`sigma` must be a range of positive numbers"):
        RandomBlur(sigma=sigma)


def test_rejects_a_bad_probability():
    with pytest.raises(ValueError, match=r"`probability` must lie in \[0, 1\]"):
        RandomBlur(probability=2)
