"""Costs of networks that can be counted by hand."""

import keras
import pytest

from keras_ssl.backbones import Tiny
from keras_ssl.evaluate import cost


def dense(units, side):
    images = keras.Input((side, side, 1))
    flat = keras.layers.Flatten()(images)
    return keras.Model(images, keras.layers.Dense(units, use_bias=False)(flat))


def test_a_layer_costs_what_it_multiplies():
    found = cost(dense(units=10, side=4), batches=1)
    assert found.parameters == 160
    assert found.flops == 2 * 160
    assert found.bytes > 4 * 160
    assert found.images_per_second > 0


def test_convolutions_are_counted_over_all_pixels():
    images = keras.Input((None, None, 3))
    network = keras.Model(
        images, keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(8, 3, use_bias=False)(images))
    )
    products = 6 * 6 * 3 * 3 * 3 * 8
    assert cost(network, batches=1, image_size=8).flops == pytest.approx(2 * products, rel=0.01)
    with pytest.raises(ValueError, match=r"`image_size` must be given.*Received"):
        cost(network)


def test_numbers_fit_json():
    keys = {"parameters", "flops", "bytes", "images_per_second"}
    assert cost(Tiny((8, 8, 3)), batches=1).to_dict().keys() == keys
