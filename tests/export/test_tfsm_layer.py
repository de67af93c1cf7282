"""An export as a layer of Keras: which weights and statistics fine-tuning changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export
from keras_ssl.backbones import Tiny


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(32, 16, 16, 3)).astype("float32")


@pytest.fixture(scope="module")
def path(images, tmp_path_factory):
    backbone = Tiny((16, 16, 3), features=16)
    backbone(images, training=True)
    return str(export.saved_model(backbone, tmp_path_factory.mktemp("exports") / "tiny"))


def fine_tune(encoder, images):
    """Returns a trained classifier, and the weights of the encoder before and after."""
    inputs = keras.Input((16, 16, 3))
    features = encoder(inputs)
    features = features["features"] if isinstance(features, dict) else features
    classifier = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer="ones")(features))
    before = [weight.numpy() for weight in encoder.weights]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.SGD(0.1), loss)
    classifier.fit(images, np.arange(32) % 2, batch_size=16, epochs=1, shuffle=False, verbose=0)
    return classifier, before, [weight.numpy() for weight in encoder.weights]


def changed(encoder, before, after, kind):
    """For each weight, whether it changed; `kind` is "moving" for statistics."""
    return [
        not np.array_equal(old, new)
        for weight, old, new in zip(encoder.weights, before, after, strict=True)
        if ("moving" in weight.path) == (kind == "moving")
    ]


def test_the_training_endpoint_fine_tunes_like_the_keras_model(path, images):
    layer = keras.layers.TFSMLayer(
        path, call_endpoint="serving_default", call_training_endpoint="training", dtype="float32"
    )
    classifier, before, after = fine_tune(layer, images)
    assert all(changed(layer, before, after, "moving"))
    assert any(changed(layer, before, after, "trained"))
    expected, _, _ = fine_tune(export.load(path), images)
    np.testing.assert_allclose(classifier(images), expected(images), atol=1e-5)


def test_without_the_training_endpoint_statistics_do_not_move(path, images):
    layer = keras.layers.TFSMLayer(path, call_endpoint="serving_default", dtype="float32")
    _, before, after = fine_tune(layer, images)
    assert not any(changed(layer, before, after, "moving"))
    assert any(changed(layer, before, after, "trained"))


def test_the_training_function_is_not_served(path, images):
    network = tf.saved_model.load(path)
    assert "training" not in network.signatures
    statistics = [v.numpy() for v in network.variables if "moving_mean" in v.name]
    received = network.training(tf.constant(images))["features"]
    assert any(
        not np.array_equal(old, v)
        for old, v in zip(
            statistics,
            [v.numpy() for v in network.variables if "moving_mean" in v.name],
            strict=True,
        )
    )
    again = tf.saved_model.load(path)
    np.testing.assert_allclose(received, again(images, training=True), atol=1e-6)
