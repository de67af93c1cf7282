"""of_lightness: a network of one channel that takes images in color."""

import keras
import numpy as np
import pytest

from keras_ssl import export
from keras_ssl.backbones import ResNet, SmallResNet, Tiny, maps, of_lightness
from keras_ssl.backbones.of_lightness import sees_only_lightness
from keras_ssl.layers import LabToRGB, Lightness

SHAPE = (16, 16, 3)
GRAY = (16, 16, 1)


def images(seed=0):
    return np.random.default_rng(seed).random((2, *SHAPE), np.float32)


@pytest.fixture(scope="module")
def network():
    return Tiny(GRAY, features=16)


@pytest.fixture(scope="module")
def backbone(network):
    return of_lightness(network)


def test_the_features_are_those_of_the_lightness(network, backbone):
    lightness = Lightness()(images())
    np.testing.assert_array_equal(backbone(images()), network(lightness))
    assert backbone.name == "tiny_of_lightness"
    assert backbone.input_shape == (None, *SHAPE)
    assert [v.trainable for v in backbone.weights] == [v.trainable for v in network.weights]


def test_color_has_no_effect(backbone):
    generator = np.random.default_rng(1)
    ab = 10 * generator.random((2, *SHAPE[:2], 2), np.float32)
    light = 40 + 20 * generator.random((2, *SHAPE[:2], 1), np.float32)
    gray = LabToRGB()(np.concatenate([light, 0 * ab], axis=-1))
    colored = LabToRGB()(np.concatenate([light, ab], axis=-1))
    assert np.abs(gray - colored).max() > 0.02
    np.testing.assert_allclose(backbone(gray), backbone(colored), atol=1e-5)
    assert np.abs(backbone(gray) - backbone(images())).max() > 1e-2


def test_the_network_is_copied(network):
    backbone = of_lightness(network)
    before = network.get_weights()
    for weight in backbone.weights:
        weight.assign(weight + 1)
    for weight, old in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_blocks_are_found_by_their_names(network, backbone):
    found = maps(backbone, "block2")(images())
    np.testing.assert_array_equal(found, maps(network, "block2")(Lightness()(images())))


@pytest.mark.parametrize(
    "network",
    [
        lambda: ResNet(18, width=0.125, input_shape=(None, None, 1), stem="small"),
        lambda: SmallResNet(4, GRAY),
        lambda: keras.Sequential(
            [keras.Input(GRAY), keras.layers.Flatten(), keras.layers.Dense(3)]
        ),
        pytest.param(
            lambda: keras.applications.MobileNetV2(
                (32, 32, 1), alpha=0.35, include_top=False, weights=None, pooling="avg"
            ),
            marks=pytest.mark.large,
        ),
    ],
)
def test_other_networks(network):
    network = network()
    side = network.input_shape[1] or 16
    pixels = np.random.default_rng(0).random((2, side, side, 3), np.float32)
    backbone = of_lightness(network)
    expected = network(Lightness()(pixels))
    np.testing.assert_allclose(backbone(pixels), expected, atol=1e-6)


def test_saving_keeps_it(backbone, tmp_path):
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(loaded(images()), backbone(images()))
    assert sees_only_lightness(loaded)


@pytest.mark.large
def test_export_keeps_it(backbone, tmp_path):
    artefact = export.load(export.saved_model(backbone, tmp_path / "artefact"))
    np.testing.assert_allclose(artefact(images()), backbone(images()), atol=1e-6)


def test_mixed_precision_does_not_round_the_images():
    keras.utils.set_random_seed(0)
    exact = of_lightness(Tiny(GRAY, features=16))
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = of_lightness(Tiny(GRAY, features=16))
    pixels = (0.7 + 0.001 * images()).astype(np.float32)  # differences below a step of bfloat16
    light = keras.Model(mixed.input, mixed.get_layer("lightness").output)(pixels)
    np.testing.assert_array_equal(light, Lightness()(pixels))
    mixed.set_weights(exact.get_weights())
    np.testing.assert_allclose(mixed(pixels), exact(pixels), rtol=0.05, atol=0.02)


def test_it_is_told_from_other_backbones(backbone):
    assert sees_only_lightness(backbone)
    assert not sees_only_lightness(Tiny(SHAPE))
    both = keras.Input(SHAPE)
    joined = keras.layers.Concatenate()([Tiny(SHAPE)(both), backbone(both)])
    assert not sees_only_lightness(keras.Model(both, joined))


def test_networks_that_cannot_be_used_are_refused(network):
    with pytest.raises(TypeError, match=r"`backbone` must be a keras\.Model.*'resnet18'"):
        of_lightness("resnet18")
    with pytest.raises(ValueError, match=r"images of 1 channel, .*'tiny' for .*None, 16, 16, 3"):
        of_lightness(Tiny(SHAPE))
    with pytest.raises(ValueError, match="functional or sequential model with one input"):
        of_lightness(Subclassed())
    with pytest.raises(ValueError, match=r"one vector per image.*\(None, 8, 8, 8\)"):
        of_lightness(maps(network, "block2"))


class Subclassed(keras.Model):
    def call(self, images):
        return images
