"""The masked error against its definition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.losses import MaskedError


def images(batch=3):
    generator = np.random.default_rng(0)
    target, made = generator.random((2, batch, 4, 5, 2), np.float32)
    mask = generator.random((batch, 4, 5)) < 0.4
    return target, made, mask


def test_value_is_the_mean_over_images_of_the_mean_in_the_mask():
    target, made, mask = images()
    expected = [np.mean((t - m)[k] ** 2) for t, m, k in zip(target, made, mask, strict=True)]
    assert float(MaskedError()(target, made, mask)) == pytest.approx(np.mean(expected), rel=1e-5)
    rows = MaskedError().call((tf.constant(target), tf.constant(mask)), tf.constant(made))
    np.testing.assert_allclose(rows, expected, rtol=1e-5)


def test_pixels_outside_of_the_mask_have_no_gradient():
    target, made, mask = images()
    pair = tf.constant(target), tf.constant(made)
    with tf.GradientTape() as tape:
        tape.watch(pair)
        loss = MaskedError()(*pair, mask)
    for gradient in tape.gradient(loss, pair):
        assert np.all(gradient.numpy()[~mask] == 0)
        assert np.all(gradient.numpy()[mask] != 0)


def test_an_empty_mask_has_no_error():
    target, made, mask = images()
    assert float(MaskedError()(target, made, np.zeros_like(mask))) == 0


def test_refuses_shapes_that_do_not_match():
    target, made, mask = images()
    with pytest.raises(ValueError, match=r"without channels.*made.shape=\(2, 4, 5, 2\)"):
        MaskedError()(target, made[:2], mask)
    with pytest.raises(ValueError, match=r"mask.shape=\(3, 4\)"):
        MaskedError()(target, made, mask[..., 0])


def test_round_trip():
    loss = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(MaskedError(name="hole"))
    )
    assert loss.name == "hole"
