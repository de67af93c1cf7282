"""Moving statistics in the first steps of training."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import augment, data
from keras_ssl.evaluate.feature_statistics import feature_std
from keras_ssl.layers import BatchNorm, ProjectionHead
from keras_ssl.layers.early_momentum import early_momentum
from keras_ssl.methods import SimCLR
from keras_ssl.optimizers import SGD, WarmupCosine
from keras_ssl.presets import build_backbone

STEPS = 5
VIEWS = np.random.default_rng(0).normal(3.0, 2.0, (STEPS, 2, 4, 3, 3, 2)).astype("float32")


def network(norm):
    """Batch normalization of the pixels themselves, so that its statistics are those of the views."""
    images = keras.Input((3, 3, 2))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(norm(images)))


def fit(norm, has_early_momentum=True, **settings):
    keras.utils.set_random_seed(0)
    model = SimCLR(network(norm), ProjectionHead(4))
    model.has_early_momentum = has_early_momentum
    model.compile("sgd", **settings)
    batches = tf.data.Dataset.from_tensor_slices((VIEWS[:, 0], VIEWS[:, 1]))
    model.fit(batches, verbose=0)
    return norm


def moving_average(momentums):
    """Returns the moving mean and variance after one batch of both views for each momentum."""
    mean, variance = np.zeros(2), np.ones(2)
    for views, momentum in zip(VIEWS.astype("float64"), momentums, strict=True):
        pixels = views.reshape(-1, 2)
        mean = momentum * mean + (1 - momentum) * pixels.mean(axis=0)
        variance = momentum * variance + (1 - momentum) * pixels.var(axis=0)
    return mean, variance


def rule(momentum):
    return [min(momentum, (1 + step) / (10 + step)) for step in range(STEPS)]


def assert_statistics(norm, momentums):
    mean, variance = moving_average(momentums)
    np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-4)


@pytest.mark.parametrize("kind", [BatchNorm, keras.layers.BatchNormalization])
@pytest.mark.parametrize("momentum", [0.999, 0.2])
def test_the_statistics_follow_the_rule(kind, momentum):
    norm = fit(kind(momentum=momentum))
    assert_statistics(norm, rule(momentum))
    assert norm.momentum == momentum  # of the layer, which is saved
    assert norm.get_config()["momentum"] == momentum


def test_several_steps_per_execution_each_have_their_own_momentum():
    assert_statistics(fit(BatchNorm(momentum=0.999), steps_per_execution=2), rule(0.999))


def test_without_the_rule_the_momentum_is_constant():
    assert_statistics(fit(BatchNorm(momentum=0.9), has_early_momentum=False), [0.9] * STEPS)


def test_the_rule_ends_at_the_momentum_of_the_layer():
    layer = BatchNorm(momentum=0.9)
    layer.build((None, 2))
    pixels = keras.ops.convert_to_tensor([[1.0, 1.0], [3.0, 3.0]])
    for steps, expected in ((79, 1 - 80 / 89), (80, 0.1), (10**9, 0.1)):
        layer.moving_mean.assign([0.0, 0.0])
        with early_momentum(layer, tf.constant(steps, tf.int64)):
            layer(pixels, training=True)
        np.testing.assert_allclose(layer.moving_mean, 2 * np.full(2, expected), rtol=1e-5)


def test_double_precision():
    layer = keras.layers.BatchNormalization(momentum=0.999, dtype="float64")
    layer.build((None, 2))
    with early_momentum(layer, tf.constant(0, tf.int64)):
        layer(keras.ops.ones((4, 2), "float64"), training=True)
    np.testing.assert_allclose(layer.moving_mean, [0.9, 0.9], rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_layers_that_take_or_keep_everything_are_left_alone(momentum):
    norm = BatchNorm(momentum=momentum)
    assert_statistics(fit(norm), [momentum] * STEPS)


def test_subclasses_with_their_own_call_keep_their_momentum():
    class Own(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            assert self.momentum == 0.5
            return super().call(inputs, training=training, mask=mask)

    assert_statistics(fit(Own(momentum=0.5)), [0.5] * STEPS)


def test_the_momentum_is_restored_after_an_error():
    layer = BatchNorm(momentum=0.9)
    step = early_momentum(layer, tf.constant(0))
    step.__enter__()
    assert layer.momentum != 0.9
    assert not step.__exit__(RuntimeError, RuntimeError(), None)  # raises it again
    assert layer.momentum == 0.9


def test_replicas_agree_with_one_device(two_replicas):
    expected = fit(BatchNorm(momentum=0.999))
    with two_replicas.scope():
        norm = fit(BatchNorm(momentum=0.999))
    np.testing.assert_allclose(norm.moving_mean, expected.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, expected.moving_variance, rtol=1e-5)


def compare_modes(backbone, batches):
    """Returns spread and mean length of the features of the last batch, in training / in inference."""
    model = SimCLR(backbone, ProjectionHead(32))
    steps = int(batches.cardinality())
    # At the end the weights stand still. At a high rate, statistics of past weights cannot agree.
    model.compile(SGD(WarmupCosine(0.03, steps, steps // 10)))
    model.fit(batches, verbose=0)
    images = tf.concat(model.last_batch, axis=0)
    with keras.StatelessScope():  # keeps the moving statistics
        training = np.asarray(backbone(images, training=True))
    inference = np.asarray(backbone(images, training=False))
    lengths = [np.linalg.norm(features, axis=1).mean() for features in (training, inference)]
    spreads = [feature_std(features) for features in (training, inference)]
    return spreads[1] / spreads[0], lengths[1] / lengths[0]


def test_inference_agrees_with_training_after_12_steps():
    keras.utils.set_random_seed(0)
    x = images = keras.Input((8, 8, 1))
    for _ in range(3):
        x = keras.layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.999)(x))
    backbone = keras.Model(images, keras.layers.Flatten()(x))
    views = data.views(data.digits("train"), augment.centred(8), batch_size=32, seed=0)
    spread, length = compare_modes(backbone, views.take(12))
    assert 0.8 < spread < 1.25
    assert 0.8 < length < 1.25


CIFAR10 = pathlib.Path(__file__).parents[3] / "shared" / "data" / "cifar10.npz"


@pytest.mark.large
@pytest.mark.skipif(not CIFAR10.is_file(), reason="needs CIFAR-10")
@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0"])
def test_networks_of_keras_agree_after_50_steps(name):
    keras.utils.set_random_seed(0)
    with np.load(CIFAR10) as file:
        pixels = file["x_train"][:1600]
    policy = augment.simclr(32, strength=0.5, blur=False)
    views = data.views(data.arrays(pixels), policy, batch_size=32, seed=0)
    spread, length = compare_modes(build_backbone(name, 1.0, (32, 32, 3)), views)
    # Maps of one pixel, and dropout, make the statistics of a batch noisy.
    assert 0.5 < spread < 1.5
    assert 0.5 < length < 2.0
