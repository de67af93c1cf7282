import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_ssl.callbacks.not_finite import all_finite, first_not_finite
from keras_ssl.methods import SimCLR

IMAGES = 40  # more than one chunk


def images(seed=0):
    return tf.random.stateless_uniform((IMAGES, 8, 8, 1), [seed, 1])


def method(backbone):
    model = SimCLR(backbone, layers.Dense(6, name="projector_dense"))
    model.predictor = model.build_head(layers.Dense(6, name="predictor_dense"), model.projector)
    model.other = model.build_head(layers.Dense(3, name="other_dense"))
    return model


def broken_at(place):
    """Returns a model with the first values that are not finite at `place`."""
    x = pixels = keras.Input((8, 8, 1))
    if place == "output":
        x = layers.Rescaling(np.inf, name="scaled")(x)
    if place == "nested":
        inner = [
            keras.Input((8, 8, 1)),
            layers.Rescaling(-1.0, name="inner_first"),
            layers.Rescaling(np.inf, name="inner_scaled"),
        ]
        x = keras.Sequential(inner, name="inner")(layers.Rescaling(2.0)(x))
    x = layers.Dense(8, name="dense")(layers.Flatten()(x))
    model = method(keras.Model(pixels, x))
    variables = {
        "weights": model.backbone.get_layer("dense").bias,
        "projector": model.projector.bias,
        "predictor": model.predictor.bias,
        "other": model.other.bias,
    }
    if place in variables:
        variables[place].assign(np.inf * np.ones(variables[place].shape))
    return model


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("view", "view 2 of the last batch is not finite"),
        ("output", "layer 'scaled' of the backbone: its output for the last batch is, with finite"),
        ("weights", "layer 'dense' of the backbone: its weights 'dense/bias' are not finite"),
        ("nested", "layer 'inner_scaled' of the backbone: its output for the last batch is"),
        ("projector", "'projector_dense' of the projector: its weights 'projector_dense/bias' are"),
        ("predictor", "'predictor_dense' of the predictor: its weights 'predictor_dense/bias' are"),
        ("other", "layer 'other_dense': its weights 'other_dense/bias' are not finite"),
        ("nowhere", "all weights are finite, and so are the outputs for the last batch"),
    ],
)
def test_every_place_is_found(place, message):
    model = broken_at(place)
    view_1, view_2 = images(1), images(2)
    if place == "view":
        broken = (tf.range(IMAGES) == IMAGES - 1)[:, None, None, None]
        view_2 = tf.where(broken, np.nan, view_2)
    assert message in first_not_finite(model, (view_1, view_2))


def test_the_first_of_several_is_named():
    model = broken_at("output")
    model.projector.bias.assign(np.full(6, np.nan))
    assert "'scaled' of the backbone: its output" in first_not_finite(model, (images(),))
    # Without images there are no outputs.
    assert "'projector_dense' of the projector: its weights" in first_not_finite(model, ())


def test_an_image_among_many():
    """An output that overflows for the last image only."""
    x = pixels = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Rescaling(1e30, name="scaled")(x))
    model = method(keras.Model(pixels, layers.Dense(8)(x)))
    last = (tf.range(IMAGES) == IMAGES - 1)[:, None, None, None]
    loud = tf.where(last, 1e30, images())
    assert "'scaled' of the backbone: its output" in first_not_finite(model, (images(), loud))
    assert "all weights are finite" in first_not_finite(model, (images(),))


class Encoder(keras.Model):
    """A subclassed network, whose inner outputs are not accessible."""

    def __init__(self, scale=1.0):
        super().__init__(name="encoder")
        self.flatten = layers.Flatten()
        self.first = layers.Dense(8, name="first")
        self.second = layers.Dense(8, name="second")
        self.scale = scale

    def call(self, pixels):
        return self.scale * self.second(self.first(self.flatten(pixels)))


def test_a_subclassed_backbone():
    encoder = Encoder()
    encoder(images())
    assert "all weights are finite" in first_not_finite(encoder, (images(),))
    encoder.second.bias.assign(np.full(8, np.inf))
    found = first_not_finite(encoder, (images(),))
    assert found == (
        "layer 'encoder/second' of the model: its weights 'encoder/second/bias' are not finite"
    )
    unbounded = Encoder(scale=np.inf)
    unbounded(images())
    assert "layer 'encoder' of the model: its output is, with" in first_not_finite(
        unbounded, (images(),)
    )


def test_integers_are_finite():
    values = [tf.constant([1, 2]), tf.constant([1.0, 2.0])]
    assert all_finite(values)
    assert not all_finite([*values, tf.constant([1.0, np.nan], tf.float16)])
    assert all_finite([])
