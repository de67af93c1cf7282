"""The linear probe: its loss against a NumPy reference, missing labels, and the stopped gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers import LinearProbe


def features(count=6, dim=4, seed=0):
    return np.random.default_rng(seed).normal(3, 2, (count, dim)).astype("float32")


def built_probe(classes=3, dim=4):
    probe = LinearProbe(classes)
    probe.build((None, dim))
    return probe


def twin(probe, x, labels):
    """Returns the logits and each image's loss, which is zero without a label."""
    normal = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    logits = normal @ np.asarray(probe.dense.kernel) + np.asarray(probe.dense.bias)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    losses = [-logs[i, label] if label >= 0 else 0.0 for i, label in enumerate(labels)]
    return logits, np.array(losses)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2], [0, -1, 2, -1, -1, 1], [-1] * 6])
def test_the_loss_is_the_cross_entropy_of_images_with_labels(labels):
    probe = built_probe()
    x = features()
    logits, losses = twin(probe, x, labels)
    loss = probe.loss(tf.constant(x), tf.constant(labels, tf.int64))
    assert float(loss) == pytest.approx(losses.mean(), rel=1e-5, abs=1e-7)
    right = [logits[i].argmax() == label for i, label in enumerate(labels) if label >= 0]
    expected = np.mean(right) if right else 0.0
    assert float(probe.accuracy.result()) == pytest.approx(expected)


def test_accuracy_counts_images_over_batches():
    probe = built_probe()
    right = []
    for seed, labels in enumerate([[0, 1, 2, 0, 1, 2], [1, -1, -1, -1, -1, -1]]):
        logits, _ = twin(probe, features(seed=seed), labels)
        probe.loss(tf.constant(features(seed=seed)), tf.constant(labels))
        right += [logits[i].argmax() == label for i, label in enumerate(labels) if label >= 0]
    assert float(probe.accuracy.result()) == pytest.approx(np.mean(right))


def test_no_gradient_reaches_the_features():
    probe = built_probe()
    x = tf.Variable(features())
    with tf.GradientTape() as tape:
        loss = probe.loss(x, tf.constant([0, 1, 2, 0, 1, 2]))
    gradient, kernel = tape.gradient(loss, [x, probe.dense.kernel.value])
    assert gradient is None
    assert np.abs(kernel).max() > 1e-3


def test_an_image_without_a_label_is_ignored():
    probe = built_probe()
    with tf.GradientTape() as tape:
        loss = probe.loss(tf.constant(features()), tf.constant([-1] * 6))
    np.testing.assert_array_equal(tape.gradient(loss, probe.dense.kernel.value), np.zeros((4, 3)))


def test_learns_separable_features():
    probe = built_probe()
    labels = np.arange(60) % 3
    x = features(60)
    x[np.arange(60), labels] += 20
    optimizer = keras.optimizers.SGD(0.5)
    for _ in range(30):
        probe.accuracy.reset_state()
        with tf.GradientTape() as tape:
            loss = probe.loss(tf.constant(x), tf.constant(labels))
        variables = [v.value for v in probe.trainable_variables]
        optimizer.apply(tape.gradient(loss, variables), probe.trainable_variables)
    assert float(probe.accuracy.result()) > 0.95


def test_the_scale_of_the_features_does_not_matter():
    first, second = built_probe(), built_probe()
    second.set_weights(first.get_weights())
    labels = tf.constant([0, 1, 2, 0, 1, 2])
    loss = float(first.loss(tf.constant(features()), labels))
    assert float(second.loss(tf.constant(100 * features() + 7), labels)) == pytest.approx(
        loss, 1e-3
    )


def test_learns_two_variables():
    assert [v.name for v in built_probe().trainable_variables] == ["kernel", "bias"]


def test_logits_are_float32():
    keras.config.set_dtype_policy("mixed_float16")
    assert built_probe()(features()).dtype == tf.float32


def test_configuration_round_trip():
    assert LinearProbe.from_config(LinearProbe(7).get_config()).classes == 7


def test_rejects_a_single_class():
    with pytest.raises(ValueError, match=r"`classes` must be at least 2\. Received: classes=1"):
        LinearProbe(1)
