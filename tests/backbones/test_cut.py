"""Encoders that end at a block."""

import keras
import numpy as np
import pytest

from keras_ssl.backbones import ResNet, Tiny, ViT, block_names, cut, maps, two_streams

SHAPE = (16, 16, 3)


def images(count=2):
    return np.random.default_rng(0).random((count, *SHAPE), np.float32)


def test_features_are_means_of_the_feature_maps():
    backbone = ResNet(18, width=1 / 16, input_shape=SHAPE)
    assert block_names(backbone) == ["stem", "block1", "block2", "block3", "block4"]
    for block in block_names(backbone):
        expected = np.mean(maps(backbone, block)(images()), axis=(1, 2))
        np.testing.assert_allclose(cut(backbone, block)(images()), expected, atol=1e-6)
    np.testing.assert_array_equal(cut(backbone, "block4")(images()), backbone(images()))


def test_the_weights_are_shared_and_later_blocks_are_gone():
    backbone = Tiny(SHAPE, features=16)
    encoder = cut(backbone, "block2")
    assert [w.path for w in encoder.weights] == [
        w.path for w in backbone.weights if "block3" not in w.path
    ]
    before = np.array(encoder(images()))
    backbone.get_layer("block1_conv").kernel.assign_add(np.ones((3, 3, 3, 4)))
    assert np.abs(encoder(images()) - before).max() > 0.01


def test_tokens_are_pooled_and_normalized_as_those_of_the_last_block():
    for pooling in ("token", "mean"):
        backbone = ViT(patch=8, dim=16, depth=12, heads=2, input_shape=SHAPE, pooling=pooling)
        assert block_names(backbone) == [f"block{number}" for number in range(1, 13)]
        np.testing.assert_array_equal(cut(backbone, "block12")(images()), backbone(images()))
        tokens = keras.Model(backbone.input, backbone.get_layer("block3").output)(images())
        pooled = tokens[:, 0] if pooling == "token" else np.mean(tokens[:, 1:], axis=1)
        centred = pooled - np.mean(pooled, axis=-1, keepdims=True)
        expected = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(cut(backbone, "block3")(images()), expected, atol=1e-5)


def test_two_streams_are_joined():
    streams = [Tiny((16, 16, channels), features=16) for channels in (1, 2)]
    backbone = two_streams(*streams)
    assert block_names(backbone) == ["block1", "block2", "block3"]
    assert cut(backbone, "block2").output_shape == (None, 16)
    np.testing.assert_allclose(cut(backbone, "block3")(images()), backbone(images()), atol=1e-6)


def test_saving_keeps_the_original_and_the_cut(tmp_path):
    for backbone in (ViT(patch=8, dim=16, depth=3, heads=2, input_shape=SHAPE), Tiny(SHAPE)):
        encoder = cut(backbone, "block2")
        for network in (backbone, encoder):
            network.save(tmp_path / "network.keras")
            loaded = keras.models.load_model(tmp_path / "network.keras")
            np.testing.assert_array_equal(loaded(images()), network(images()))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Tiny(SHAPE), "Expected: block1, block2, block3. Received: block='block4' for 'tiny'"),
        (
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="a"),
            "a functional network",
        ),
    ],
)
def test_a_block_that_is_not_there_is_refused(network, expected):
    with pytest.raises(ValueError, match="must be a block of the network") as error:
        cut(network, "block4")
    assert expected in str(error.value)


def test_a_block_of_vectors_is_refused():
    inputs = keras.Input(SHAPE)
    vectors = keras.layers.GlobalAveragePooling2D(name="block1")(inputs)
    with pytest.raises(
        ValueError, match=r"feature maps .* or tokens .*, which returns \(None, 3\)"
    ):
        cut(keras.Model(inputs, vectors), "block1")
