"""AdamW with decay on kernels only."""

import keras
import numpy as np
import pytest

from keras_ssl.optimizers import AdamW, WarmupCosine

GENERATOR = np.random.default_rng(0)
SHAPES = [(3, 4), (4,), ()]
GRADIENTS = [[GENERATOR.normal(size=shape) for shape in SHAPES] for _ in range(4)]
START = [GENERATOR.normal(size=shape) for shape in SHAPES]


def adamw(weights, gradients, rate, decay, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """Algorithm 2 of Loshchilov and Hutter, without decay of vectors and scalars."""
    weights = [np.array(weight) for weight in weights]
    m, v = [[np.zeros_like(weight) for weight in weights] for _ in range(2)]
    for step, values in enumerate(gradients, start=1):
        for i, g in enumerate(values):
            m[i] = beta_1 * m[i] + (1 - beta_1) * g
            v[i] = beta_2 * v[i] + (1 - beta_2) * g**2
            m_hat, v_hat = m[i] / (1 - beta_1**step), v[i] / (1 - beta_2**step)
            shrunk = rate * decay * weights[i] if weights[i].ndim > 1 else 0.0
            weights[i] = weights[i] - shrunk - rate * m_hat / (np.sqrt(v_hat) + epsilon)
    return weights


def test_kernels_are_decayed_and_vectors_are_not():
    weights = [keras.Variable(values) for values in START]
    optimizer = AdamW(0.1, weight_decay=0.5)
    for gradients in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients], weights)
    for found, expected in zip(weights, adamw(START, GRADIENTS, 0.1, 0.5), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_is_saved_and_loaded():
    optimizer = AdamW(WarmupCosine(0.1, 10), weight_decay=0.3, clipnorm=1.0)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is AdamW
    assert copy.get_config() == optimizer.get_config()


def test_a_negative_decay_is_refused():
    with pytest.raises(ValueError, match=r"must not be negative\. Received: weight_decay=-1"):
        AdamW(0.1, weight_decay=-1)
