"""DenoisingAutoencoder: its noise and what it converges to. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.backbones import Tiny
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import Decoder
from keras_ssl.methods import DenoisingAutoencoder
from keras_ssl.methods.noise import NOISES

SHAPE = (8, 8, 3)


def keys(count, epoch=0):
    return random.image_keys(0, epoch, np.arange(count), random.METHOD)


def autoencoder(**arguments):
    decoder = Decoder(SHAPE, filters=2)
    return DenoisingAutoencoder(Tiny(SHAPE, features=8), decoder, **arguments)


def noisy(images, epoch=0, noise="masking", amount=0.25):
    return np.asarray(NOISES[noise](tf.constant(images), keys(len(images), epoch), amount))


def test_gaussian_noise_is_normal():
    images = np.full((200, *SHAPE), 0.5, np.float32)
    noise = (noisy(images, noise="gaussian", amount=0.2) - images) / 0.2
    assert noise.mean() == pytest.approx(0, abs=0.02)
    # Variance, symmetry and the fourth moment of the normal distribution.
    for power, moment in ((2, 1), (3, 0), (4, 3)):
        assert (noise**power).mean() == pytest.approx(moment, abs=0.1)
    halves = noise.reshape(200, 2, -1)  # the two numbers that come from one pair of draws
    assert (halves[:, 0] * halves[:, 1]).mean() == pytest.approx(0, abs=0.02)


def test_masking_sets_a_share_of_the_pixels_to_zero():
    images = np.random.default_rng(0).uniform(0.1, 1, size=(100, *SHAPE)).astype("float32")
    masked = noisy(images, noise="masking", amount=0.25)
    gone = masked == 0
    assert gone.mean() == pytest.approx(0.25, abs=0.02)
    assert np.array_equal(gone.any(axis=-1), gone.all(axis=-1))
    np.testing.assert_array_equal(masked[~gone], images[~gone])


def test_salt_and_pepper_are_equally_frequent():
    images = np.full((100, *SHAPE), 0.5, np.float32)
    changed = noisy(images, noise="salt-and-pepper", amount=0.4)
    shares = [(changed == value).all(axis=-1).mean() for value in (0, 0.5, 1)]
    assert shares == pytest.approx([0.2, 0.6, 0.2], abs=0.02)


def test_noise_depends_on_the_key_only():
    images = np.full((4, *SHAPE), 0.5, np.float32)
    first, again, later = (noisy(images, epoch, noise="gaussian") for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - later).max() > 0.1
    assert np.abs(first[0] - first[1]).max() > 0.1  # images have noise of their own


def test_the_loss_is_the_squared_error_to_the_clean_image():
    model = autoencoder(noise="gaussian", amount=0.3)
    images = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    restored = model.reconstruct(model.add_noise(images, keys(4)))
    expected = np.mean((np.asarray(restored) - images) ** 2)
    assert float(model.ssl_loss(images, keys(4))) == pytest.approx(expected, rel=1e-5)


def test_a_linear_network_learns_the_best_linear_filter():
    # Independent pixels N(0, s^2) with noise n^2: the best slope is s^2 / (s^2 + n^2), and its error
    # s^2 n^2 / (s^2 + n^2).
    signal, noise = 0.8, 0.6
    slope = signal**2 / (signal**2 + noise**2)
    shape, layers = (2, 2, 1), keras.layers
    images = signal * np.random.default_rng(0).normal(size=(4096, *shape)).astype("float32")
    backbone = keras.Sequential(
        [keras.Input(shape), layers.Flatten(), layers.Dense(4, use_bias=False)]
    )
    decoder = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, use_bias=False), layers.Reshape(shape)]
    )
    model = DenoisingAutoencoder(backbone, decoder, noise="gaussian", amount=noise)
    model.compile(keras.optimizers.SGD(0.5))
    batches = tf.data.Dataset.from_tensors((images, keys(len(images))))
    logs = model.fit(with_threads(batches.repeat(150)), verbose=0).history
    product = np.asarray(backbone.weights[0]) @ np.asarray(decoder.weights[0])
    np.testing.assert_allclose(product, slope * np.eye(4), atol=0.05)
    final = float(model.ssl_loss(tf.constant(images), keys(len(images))))
    assert final == pytest.approx(signal**2 * noise**2 / (signal**2 + noise**2), rel=0.03)
    assert logs["loss"][0] > final


def test_a_decoder_of_feature_maps():
    model = DenoisingAutoencoder(Tiny(SHAPE, features=8), block="block2")
    assert model.decoder.stack[0].name == "up_1"  # no dense layer
    images = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    assert model.reconstruct(images).shape == (4, *SHAPE)
    assert model.decoder.activation is None


def test_panels_show_view_noise_and_result():
    model = autoencoder()
    images = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    panels = model.panels(images, keys(4))
    assert [panel.title for panel in panels] == ["View", "With noise", "Restored"]
    np.testing.assert_array_equal(panels[0].images, images)
    assert np.mean(panels[1].images == 0) > 0.1


def test_refuses_wrong_arguments():
    with pytest.raises(ValueError, match=r"one of gaussian, masking.*Received: noise='blur'"):
        autoencoder(noise="blur")
    with pytest.raises(ValueError, match=r"`amount` must lie in \[0, 1\]\. Received: amount=2"):
        autoencoder(amount=2)
    with pytest.raises(ValueError, match=r"Expected: \(8, 8, 3\)\. Received: .*\(4, 4, 3\)"):
        DenoisingAutoencoder(Tiny(SHAPE), Decoder((4, 4, 3)))
    with pytest.raises(ValueError, match="layers of the given names"):
        DenoisingAutoencoder(Tiny(SHAPE), block="block7")
    images = keras.Input((None, None, 3))
    free = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    with pytest.raises(ValueError, match="a backbone with a fixed input shape, or `decoder`"):
        DenoisingAutoencoder(free)


def test_refuses_batches_without_keys():
    model = autoencoder()
    model.compile("sgd")
    with pytest.raises(ValueError, match="a tuple of views, "):
        model.fit(tf.data.Dataset.from_tensors((np.ones((4, *SHAPE), "float32"),)), verbose=0)
