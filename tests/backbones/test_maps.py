"""Feature maps of named blocks."""

import keras
import numpy as np
import pytest

from keras_ssl.backbones import Tiny, maps
from keras_ssl.methods import SimCLR

SHAPE = (16, 16, 3)


def test_the_maps_are_the_outputs_of_the_blocks():
    backbone = Tiny(SHAPE, features=16)
    images = np.random.default_rng(0).random((2, *SHAPE), np.float32)
    first, last = maps(backbone, "block1", "block3")(images)
    assert (first.shape, last.shape) == ((2, 16, 16, 4), (2, 4, 4, 16))
    np.testing.assert_allclose(np.mean(last, axis=(1, 2)), backbone(images), atol=1e-6)
    np.testing.assert_array_equal(maps(backbone, "block3")(images), last)


@pytest.mark.parametrize("name", ["block4", "features", "images"])
def test_a_layer_without_a_feature_map_is_refused(name):
    with pytest.raises(ValueError, match=rf"block1, block2, block3\. Received: '{name}'"):
        maps(Tiny(SHAPE), name)


def test_names_are_needed():
    with pytest.raises(ValueError, match="at least one block"):
        maps(Tiny(SHAPE))


def test_a_method_does_not_save_the_network_twice(tmp_path):
    model = SimCLR(Tiny(SHAPE, features=16))
    images = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    before = [weight.path for weight in model.weights]
    whole = model.feature_maps(images, "block2", training=False)
    assert whole.shape == (4, 8, 8, 8)
    model.chunks = 2
    parts = model.feature_maps(images, "block2", training=False)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert [weight.path for weight in model.weights] == before
    model.compile("sgd")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.chunks = 1
    np.testing.assert_allclose(
        loaded.feature_maps(images, "block2", training=False), whole, atol=1e-6
    )
