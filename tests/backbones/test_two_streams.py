"""two_streams: a network of the lightness beside one of the color."""

import keras
import numpy as np
import pytest

from keras_ssl import export
from keras_ssl.backbones import Tiny, maps, two_streams
from keras_ssl.backbones.two_streams import stream_sizes
from keras_ssl.layers import ABChannels, LabToRGB, Lightness

SHAPE = (16, 16, 3)


def images(seed=0):
    return np.random.default_rng(seed).random((2, *SHAPE), np.float32)


def lab(light, ab):
    """Returns RGB images of constant lightness or of constant color."""
    return LabToRGB()(np.concatenate([light, ab], axis=-1).astype(np.float32))


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(0)
    return Tiny((16, 16, 1), features=24), Tiny((16, 16, 2), features=32)


@pytest.fixture(scope="module")
def backbone(networks):
    return two_streams(*networks)


def test_the_joined_features_are_the_networks_own_to_the_bit(networks, backbone):
    lightness, color = networks
    expected = np.concatenate(
        [lightness(Lightness()(images())), color(ABChannels()(images()))], axis=1
    )
    np.testing.assert_array_equal(backbone(images()), expected)
    assert stream_sizes(backbone) == (24, 32)
    assert backbone.output_shape == (None, 56)


def test_each_network_is_blind_to_the_channels_of_the_other(backbone):
    generator = np.random.default_rng(1)
    ab = generator.uniform(-5, 5, (2, *SHAPE[:2], 2))
    light = generator.uniform(40, 60, (2, *SHAPE[:2], 1))
    one = backbone(lab(light, ab)).numpy()
    other_color = backbone(lab(light, -ab)).numpy()
    other_light = backbone(lab(100 - light, ab)).numpy()
    np.testing.assert_allclose(other_color[:, :24], one[:, :24], atol=1e-5)
    assert np.abs(other_color - one)[:, 24:].max() > 1e-3
    np.testing.assert_allclose(other_light[:, 24:], one[:, 24:], atol=1e-5)
    assert np.abs(other_light - one)[:, :24].max() > 1e-3


def test_blocks_of_both_networks_are_found(networks, backbone):
    light = maps(backbone, "lightness_block3")
    np.testing.assert_array_equal(
        light(images()), maps(networks[0], "block3")(Lightness()(images()))
    )
    assert len(light.trainable_weights) == len(networks[0].trainable_weights)
    assert maps(backbone, "color_block3")(images()).shape == (2, 4, 4, 32)


def test_saving_keeps_it(backbone, tmp_path):
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(loaded(images()), backbone(images()))
    assert stream_sizes(loaded) == (24, 32)


@pytest.mark.large
def test_export_keeps_it(backbone, tmp_path):
    artefact = export.load(export.saved_model(backbone, tmp_path / "artefact"))
    np.testing.assert_allclose(artefact(images()), backbone(images()), atol=1e-6)


def test_networks_that_cannot_be_used_are_refused(networks):
    lightness, color = networks
    with pytest.raises(ValueError, match=r"`lightness` must take images of 1 channel,"):
        two_streams(color, lightness)
    with pytest.raises(ValueError, match=r"`color` must take images of 2 channels,"):
        two_streams(lightness, lightness)
    with pytest.raises(ValueError, match=r"same size\..*\(16, 16\) of `lightness`, \(8, 8\)"):
        two_streams(lightness, Tiny((8, 8, 2)))
    with pytest.raises(
        ValueError, match=r"must be made by keras_ssl\.backbones\.two_streams.*'tiny'"
    ):
        stream_sizes(Tiny(SHAPE))
