"""Decoder and Discriminator: sizes, layers and errors."""

import keras
import numpy as np
import pytest

from keras_ssl.layers import Decoder, Discriminator
from tests.tiers import rest_large


def shapes_of(layer):
    return [tuple(weight.shape) for weight in layer.weights if weight.name == "kernel"]


@pytest.mark.parametrize(
    ("image", "inputs"),
    rest_large(
        [
            ((9, 14, 1), (6,)),  # cut off: the layers make 10 x 14
            ((8, 8, 3), (2, 2, 5)),
            ((3, 2, 1), (6,)),
            ((32, 32, 3), (7, 4, 6)),
        ],
        2,
    ),
)
def test_images_have_the_size_that_was_asked_for(image, inputs):
    decoder = Decoder(image, filters=2)
    made = decoder(np.ones((2, *inputs), "float32"))
    assert made.shape == decoder.compute_output_shape((2, *inputs)) == (2, *image)


def test_each_layer_doubles_the_side_and_halves_the_filters():
    decoder = Decoder((32, 32, 3), filters=4)
    decoder.build((None, 10))
    assert shapes_of(decoder) == [
        (10, 4 * 4 * 32),
        (4, 4, 16, 32),  # transposed: the outputs come first
        (4, 4, 8, 16),
        (4, 4, 4, 8),
        (3, 3, 4, 3),
    ]


def test_filters_grow_up_to_512():
    decoder = Decoder((64, 64, 1), filters=256)
    decoder.build((None, 8, 8, 5))
    assert shapes_of(decoder)[:2] == [(4, 4, 512, 5), (4, 4, 512, 512)]


def test_the_activation_limits_the_pixels():
    code = 100 * np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    keras.utils.set_random_seed(0)
    free = Decoder((8, 8, 1), filters=2)(code)
    keras.utils.set_random_seed(0)
    limited = Decoder((8, 8, 1), filters=2, activation="sigmoid")(code)
    np.testing.assert_allclose(limited, keras.ops.sigmoid(free), rtol=1e-5)
    assert np.min(free) < 0


@pytest.mark.parametrize(
    ("image", "inputs", "filters"), [((32, 32, 3), (4, 4, 64), 4), ((8, 8, 3), (4, 4, 4), 4)]
)
def test_the_discriminator_ends_with_four_pixels(image, inputs, filters):
    network = Discriminator(filters)
    assert network(np.ones((2, *image), "float32")).shape == (2, 1)
    depth = len(shapes_of(network)) - 1
    assert filters * 2 ** (depth - 1) * 16 == shapes_of(network)[-1][0]


@pytest.mark.parametrize("layer", [Decoder((8, 8, 1), 2, "sigmoid"), Discriminator(3)])
def test_round_trip(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


def test_refuses_what_it_cannot_make():
    with pytest.raises(ValueError, match=r"`image_shape` must be .* Received: .*\(None, 8, 3\)"):
        Decoder((None, 8, 3))
    for cls in (lambda filters: Decoder((8, 8, 3), filters), Discriminator):
        with pytest.raises(ValueError, match=r"`filters` must be at least 1\. Received: filters=0"):
            cls(0)
    for sides in ((None, None), (16, 16)):
        with pytest.raises(ValueError, match=r"not larger than the image\. Received: a map of"):
            Decoder((8, 8, 3)).build((None, *sides, 4))
