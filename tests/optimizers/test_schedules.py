import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.optimizers import LARS, WarmupCosine, scaled_learning_rate


def twin(step, peak, total_steps, warmup_steps, final):
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = min(1, (step - warmup_steps) / (total_steps - warmup_steps))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


@pytest.mark.parametrize(
    "arguments", [(0.4, 100, 10, 0.0), (1.0, 50, 0, 0.1), (3.0, 20, 19, 0.0), (0.5, 1, 0, 0.5)]
)
def test_equals_its_twin_at_every_step(arguments):
    schedule = WarmupCosine(*arguments)
    compiled = tf.function(schedule)
    for step in range(arguments[1] + 5):
        expected = twin(step, *arguments)
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-6)
        assert float(compiled(tf.constant(step, "int64"))) == pytest.approx(expected, abs=1e-6)


def test_ends_of_the_schedule():
    schedule = WarmupCosine(peak=0.4, total_steps=100, warmup_steps=10, final=0.05)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == 0
    assert np.argmax(rates) == 10
    assert rates[10] == pytest.approx(0.4)
    assert rates[100] == pytest.approx(0.05)
    assert float(schedule(10_000)) == pytest.approx(0.05)
    assert float(WarmupCosine(0.4, 100)(0)) == pytest.approx(0.4)


def test_drives_an_optimizer():
    optimizer = LARS(WarmupCosine(1.0, total_steps=10, warmup_steps=4))
    variable = keras.Variable([[1.0]])
    received = []
    for _ in range(6):
        received.append(float(optimizer.learning_rate))
        optimizer.apply([tf.ones((1, 1))], [variable])
    expected = [twin(step, 1.0, 10, 4, 0.0) for step in range(6)]
    np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_configuration_makes_the_same_schedule():
    schedule = WarmupCosine(0.4, 100, 10, 0.01)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(copy) is WarmupCosine
    assert copy.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 10), "`peak` must be positive. Received: peak=0.0"),
        ((1.0, 0), "`total_steps` must be positive. Received: total_steps=0"),
        ((1.0, 10, 10), "less than `total_steps`. Received: warmup_steps=10, total_steps=10"),
        ((1.0, 10, -1), "`warmup_steps` must be at least 0"),
        ((1.0, 10, 0, 2.0), "`final` must be between 0 and `peak`. Received: final=2.0, peak=1.0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(*arguments)


def test_scaled_learning_rate():
    assert scaled_learning_rate(0.3, 512) == pytest.approx(0.6)
    assert scaled_learning_rate(0.3, 4096) == pytest.approx(4.8)
    assert scaled_learning_rate(0.075, 4096, "sqrt") == pytest.approx(4.8)
    assert scaled_learning_rate(0.075, 100, rule="sqrt") == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.3, 256, "cube"), "`rule` must be 'linear' or 'sqrt'. Received: rule='cube'"),
        ((0.3, 0), "`batch_size` must be at least 1. Received: batch_size=0"),
        ((-0.3, 256), "`base` must be positive. Received: base=-0.3"),
    ],
)
def test_scaled_learning_rate_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        scaled_learning_rate(*arguments)
