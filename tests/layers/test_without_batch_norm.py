"""Layer normalization in place of batch normalization: places, weights, independence of the batch."""

import keras
import numpy as np
import pytest

from keras_ssl.backbones import SmallResNet, Tiny
from keras_ssl.layers import without_batch_norm
from keras_ssl.layers.without_batch_norm import LayerNorm, batch_norms

SHAPE = (8, 8, 3)


def images(count=4):
    return np.random.default_rng(0).random((count, *SHAPE), np.float32)


def test_every_batch_norm_is_replaced_and_other_weights_are_kept():
    network = SmallResNet(4, SHAPE)
    for weight in network.weights:
        weight.assign(np.random.default_rng(1).uniform(0.5, 1, weight.shape))
    copy = without_batch_norm(network)
    norms = [layer for layer in copy.layers if isinstance(layer, LayerNorm)]
    assert len(norms) == len(batch_norms(network)) == 7
    assert batch_norms(copy) == []
    assert copy.count_params() == sum(w.shape.num_elements() for w in network.trainable_weights)
    for own, other in zip(copy.weights, network.trainable_weights, strict=True):
        np.testing.assert_array_equal(own, other)


def test_channels_are_normalized_at_each_place():
    network = Tiny(SHAPE, features=16)
    copy = without_batch_norm(network)
    names = [layer.name for layer in copy.layers]
    assert names == [layer.name for layer in network.layers]
    end = names.index("block1_norm")
    both = [copy.layers[place].output for place in (end - 1, end)]
    before, after = keras.Model(copy.input, both)(images())
    mean = np.mean(before, axis=-1, keepdims=True)
    deviation = np.sqrt(np.var(before, axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(after, (before - mean) / deviation, atol=1e-4)


def test_the_result_does_not_depend_on_the_batch():
    copy = without_batch_norm(Tiny(SHAPE, features=16))
    both = copy(images(), training=True)
    np.testing.assert_allclose(copy(images()[:1], training=True), both[:1], atol=1e-6)
    np.testing.assert_allclose(copy(images(), training=False), both, atol=1e-6)


def test_gammas_that_start_at_zero_still_do():
    config = without_batch_norm(SmallResNet(4, SHAPE)).get_config()
    copy = keras.Model.from_config(config)  # new weights
    gammas = [np.unique(layer.gamma) for layer in copy.layers if isinstance(layer, LayerNorm)]
    assert sum(np.array_equal(gamma, [0]) for gamma in gammas) == 2


def test_a_model_without_batch_norm_is_returned():
    network = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()])
    assert without_batch_norm(network) is network


@keras.saving.register_keras_serializable(package="test_without_batch_norm")
class Block(keras.layers.Layer):
    def build(self, shape):
        self.norm = keras.layers.BatchNormalization()
        self.norm.build(shape)

    def call(self, x, training=False):
        return self.norm(x, training=training)


def test_refuses_batch_norm_that_cannot_be_replaced():
    inputs = keras.Input(SHAPE)
    network = keras.Model(inputs, keras.layers.Flatten()(Block()(inputs)), name="nested")
    with pytest.raises(ValueError, match=r"Received: 'nested', in which 1 of 1 batch norm"):
        without_batch_norm(network)
