"""The color space Lab: known values, its inverse, precision, channels for networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers import ABChannels, LabToRGB, Lightness, RGBToLab


def twin(rgb):
    """Lab of sRGB in [0, 1] by the definitions of the two standards, in float64."""
    matrix = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    lab = []
    for pixel in np.asarray(rgb, np.float64).reshape(-1, 3):
        linear = [u / 12.92 if u <= 0.04045 else ((u + 0.055) / 1.055) ** 2.4 for u in pixel]
        relative = matrix @ linear / (matrix @ np.ones(3))
        x, y, z = (
            t ** (1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29 for t in relative
        )
        lab.append((116 * y - 16, 500 * (x - y), 200 * (y - z)))
    return np.reshape(lab, np.shape(rgb))


def colors():
    """Returns random colors, dark ones, and the corners of the cube, (n, 3)."""
    generator = np.random.default_rng(0)
    corners = [[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)]
    random = generator.random((200, 3))
    return np.concatenate([random, 0.05 * random, corners]).astype(np.float32)


def test_the_primaries_have_their_published_values():
    lab = RGBToLab()(np.eye(3, dtype=np.float32))
    published = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab, published, atol=0.01)


def test_values_equal_the_definitions():
    np.testing.assert_allclose(RGBToLab()(colors()), twin(colors()), atol=2e-3)


def test_values_equal_those_of_scikit_image():
    skimage = pytest.importorskip("skimage.color")
    np.testing.assert_allclose(RGBToLab()(colors()), skimage.rgb2lab(colors()), atol=0.01)


def test_a_gray_has_no_color():
    gray = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, axis=1)
    lab = RGBToLab()(gray).numpy()
    np.testing.assert_allclose(lab[:, 1:], 0, atol=1e-4)
    assert lab[0, 0] == pytest.approx(0, abs=1e-5)
    assert lab[-1, 0] == pytest.approx(100)
    assert np.all(np.diff(lab[:, 0]) > 0)


def test_the_inverse_restores_colors():
    np.testing.assert_allclose(LabToRGB()(RGBToLab()(colors())), colors(), atol=1e-5)


def test_the_inverse_clips_what_srgb_cannot_show():
    rgb = LabToRGB()(np.array([[50.0, 127.0, 127.0], [120.0, 0.0, 0.0], [-5.0, 0.0, 0.0]])).numpy()
    assert rgb.min() == 0
    assert 1 - 1e-6 < rgb.max() <= 1
    assert np.all(np.isfinite(rgb))


def test_channels_for_networks_are_scaled_lab_values():
    images = colors()[:200].reshape(2, 10, 10, 3)
    lab = twin(images)
    np.testing.assert_allclose(Lightness()(images), lab[..., :1] / 100, atol=1e-5)
    np.testing.assert_allclose(ABChannels()(images), lab[..., 1:] / 110, atol=2e-5)


@pytest.mark.parametrize("layer", [RGBToLab, Lightness, ABChannels])
def test_half_precision_does_not_round_the_images(layer):
    images = keras.Input((4, 4, 3))
    exact = keras.Model(images, layer()(images))
    keras.config.set_dtype_policy("mixed_bfloat16")
    images = keras.Input((4, 4, 3))
    mixed = keras.Model(images, layer()(images))
    pixels = colors()[:32].reshape(2, 4, 4, 3)
    assert mixed(pixels).dtype == "float32"
    np.testing.assert_array_equal(mixed(pixels), exact(pixels))


def test_gradients_are_finite_for_black_and_white():
    pixels = tf.constant([[0.0, 0, 0], [1, 1, 1], [0, 0, 1]])
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        there_and_back = LabToRGB()(RGBToLab()(pixels))
    assert np.all(np.isfinite(tape.gradient(there_and_back, pixels)))


@pytest.mark.parametrize("layer", [RGBToLab, LabToRGB, Lightness, ABChannels])
def test_other_numbers_of_channels_are_refused(layer):
    with pytest.raises(ValueError, match=rf"`{layer.__name__}` needs images with 3 channels.*4, 1"):
        layer()(np.ones((2, 4, 4, 1)))
