"""Distillation against the paper's equation 2."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.losses import Distillation

rng = np.random.default_rng(0)
TEACHER = rng.normal(size=(5, 4)) * 3
STUDENT = rng.normal(size=(5, 4)) * 3


def twin(teacher, student, temperature):
    """The paper's equation 2, one image at a time."""
    losses = []
    for t, s in zip(teacher / temperature, student / temperature, strict=True):
        p, q = (np.exp(x) / np.exp(x).sum() for x in (t, s))
        losses.append(-sum(p[y] * np.log(q[y]) for y in range(len(p))))
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_value_is_the_papers(temperature):
    loss = Distillation(temperature, reduction=None)(
        TEACHER.astype("float32"), STUDENT.astype("float32")
    )
    np.testing.assert_allclose(loss, twin(TEACHER, STUDENT, temperature), rtol=1e-5, atol=1e-6)


def test_only_the_student_gets_a_gradient():
    teacher, student = (tf.constant(x, tf.float32) for x in (TEACHER, STUDENT))
    with tf.GradientTape() as tape:
        tape.watch([teacher, student])
        loss = Distillation(2.0, reduction="sum")(teacher, student)
    to_teacher, to_student = tape.gradient(loss, [teacher, student])
    assert to_teacher is None
    expected = (tf.nn.softmax(student / 2) - tf.nn.softmax(teacher / 2)) / 2
    np.testing.assert_allclose(to_student, expected, atol=1e-6)


def test_images_can_be_weighted():
    weights = np.array([0, 0, 1, 0, 0], "float32")
    loss = Distillation(reduction="sum")(TEACHER, STUDENT, sample_weight=weights)
    np.testing.assert_allclose(loss, twin(TEACHER, STUDENT, 1.0)[2], rtol=1e-5)


def test_a_hard_teacher_in_half_precision_stays_finite():
    scores = tf.constant([[60.0, -60.0]], tf.float16)
    assert np.isfinite(Distillation(0.1)(scores, -scores))


def test_configuration_round_trip():
    loss = keras.losses.deserialize(keras.losses.serialize(Distillation(0.3)))
    assert loss.temperature == 0.3


def test_bad_arguments_are_rejected():
    with pytest.raises(ValueError, match=r"must be positive\. Received: temperature=0"):
        Distillation(0)
    with pytest.raises(ValueError, match=r"same classes.*Received: teacher_logits.shape=\(5, 4\)"):
        Distillation()(TEACHER, STUDENT[:, :3])
