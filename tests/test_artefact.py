"""The SavedModel of an export: signatures, training, gradients and precision."""

import json
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export
from keras_ssl.backbones import ResNet, Tiny
from keras_ssl.export import artefact


def random_images(batch=4, side=16, seed=0):
    shape = (batch, side, side, 3)
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def with_statistics(backbone, side=16):
    """Changes the moving statistics from 0 and 1, so that a test notices if they are lost."""
    for seed in range(3):
        backbone(random_images(8, side, seed), training=True)
    return backbone


def statistics(variables):
    return [variable.numpy() for variable in variables if "moving" in variable.name]


@pytest.fixture(scope="module")
def backbone():
    return with_statistics(Tiny((16, 16, 3), features=16))


@pytest.fixture(scope="module")
def exported(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("artefacts") / "tiny"
    return export.saved_model(backbone, path, metrics={"knn": {"accuracy": np.float32(0.5)}})


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_size_is_free(batch, exported):
    network = tf.saved_model.load(exported)
    images = tf.constant(random_images(batch))
    assert network(images).shape == (batch, 16)
    assert network(images, training=True).shape == (batch, 16)
    assert network.signatures["serving_default"](images)["features"].shape == (batch, 16)


@pytest.mark.large
def test_a_resnet_has_a_free_size_and_five_blocks(tmp_path):
    backbone = with_statistics(ResNet(18, width=1 / 16, stem="small", input_shape=(None, None, 3)))
    path = export.saved_model(backbone, tmp_path / "resnet")
    network = tf.saved_model.load(path)
    for side in (16, 20):
        features = backbone(random_images(2, side), training=False)
        np.testing.assert_allclose(network(random_images(2, side)), features, atol=1e-5)
    names = ["block1", "block2", "block3", "block4", "stem"]
    assert sorted(network.signatures["blocks"].structured_outputs) == names
    assert sorted(artefact.block_outputs(export.load(path))) == names
    assert json.loads((path / "preprocessing.json").read_text())["size"] is None


def test_blocks_are_the_outputs_of_the_named_layers(backbone, exported):
    outputs = tf.saved_model.load(exported).signatures["blocks"](tf.constant(random_images()))
    assert sorted(outputs) == ["block1", "block2", "block3"]
    for name, output in outputs.items():
        block = keras.Model(backbone.inputs[0], backbone.get_layer(name).output)
        np.testing.assert_allclose(output, block(random_images(), training=False), atol=1e-5)


def test_training_mode_equals_that_of_the_backbone(backbone, exported):
    network, again = tf.saved_model.load(exported), export.load(exported)
    features = network(random_images(), training=True)
    np.testing.assert_allclose(features, again(random_images(), training=True), atol=1e-5)
    updated, expected = statistics(network.variables), statistics(again.variables)
    assert len(updated) == 6
    for value, other in zip(updated, expected, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)
    assert not np.allclose(updated[0], statistics(backbone.variables)[0])


def test_serving_does_not_change_variables(exported):
    network = tf.saved_model.load(exported)
    before = [variable.numpy() for variable in network.variables]
    network(random_images())
    network.signatures["serving_default"](tf.constant(random_images()))
    network.signatures["blocks"](tf.constant(random_images()))
    for value, variable in zip(before, network.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_gradients_equal_those_of_the_backbone(backbone, exported):
    network = tf.saved_model.load(exported)

    def gradients(call, variables):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(call(random_images(), training=False)))
        return tape.gradient(loss, variables)

    received = gradients(network, list(network.trainable_variables))
    expected = gradients(backbone, [variable.value for variable in backbone.trainable_variables])
    assert len(received) == len(expected) == 9
    for value, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)


def test_fine_tuning_a_loaded_saved_model_lowers_the_loss(exported):
    network, head = tf.saved_model.load(exported), tf.Variable(tf.zeros((16, 1)))
    variables = [*network.trainable_variables, head]
    optimizer = keras.optimizers.SGD(0.05)
    target = random_images().mean((1, 2))[:, :1] * 4
    before, first = statistics(network.variables), variables[0].numpy()
    losses = []
    for _ in range(10):
        with tf.GradientTape() as tape:
            features = network(random_images(), training=True)
            loss = tf.reduce_mean(tf.square(features @ head - target))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert not np.allclose(first, variables[0].numpy())
    for old, new in zip(before, statistics(network.variables), strict=True):
        assert not np.allclose(old, new)


def test_regularization_losses_follow_the_weights(tmp_path):
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    network = tf.saved_model.load(export.saved_model(backbone, tmp_path / "penalized"))
    (penalty,) = network.regularization_losses
    kernel = network.trainable_variables[0]
    np.testing.assert_allclose(penalty(), 0.1 * np.sum(kernel.numpy() ** 2), rtol=1e-5)
    with tf.GradientTape() as tape:
        loss = penalty()
    np.testing.assert_allclose(tape.gradient(loss, kernel), 0.2 * kernel.numpy(), rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_features_are_float32_under_mixed_precision(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        # Unlike in the backbones of keras_ssl, the last layer also computes in half precision.
        tiny = Tiny((16, 16, 3), features=16)
        pooled = keras.layers.GlobalMaxPooling2D()(tiny.get_layer("block3").output)
        backbone = with_statistics(keras.Model(tiny.inputs[0], pooled))
        path = export.saved_model(backbone, tmp_path / "mixed")
    finally:
        keras.config.set_dtype_policy("float32")
    expected = backbone(random_images())
    assert expected.dtype == policy.removeprefix("mixed_")
    network = tf.saved_model.load(path)
    features = network(random_images())
    assert features.dtype == "float32"
    np.testing.assert_allclose(features, tf.cast(expected, "float32"), atol=0.02)
    blocks = network.signatures["blocks"](tf.constant(random_images()))
    assert {output.dtype for output in blocks.values()} == {tf.float32}
    assert network(random_images(), training=True).dtype == "float32"


def test_synchronized_batch_norm_loads_without_a_warning(tmp_path, caplog):
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.BatchNormalization(synchronized=True),
        ]
    )
    path = export.saved_model(backbone, tmp_path / "synchronized")
    with caplog.at_level(logging.WARNING):
        tf.saved_model.load(path)
    assert "custom gradients" not in caplog.text
    assert export.load(path).layers[-1].synchronized
    assert backbone.layers[-1].synchronized
