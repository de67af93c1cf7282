"""Cosine regression against BYOL's equation 2, the distance of embeddings of length 1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.losses import CosineRegression


def twin(targets, predictions):
    """The squared distance of each pair of normalised embeddings."""

    def unit(vectors):
        vectors = np.asarray(vectors, "float64")
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return ((unit(predictions) - unit(targets)) ** 2).sum(axis=1)


def embeddings(batch=4, dim=5, seed=0):
    values = np.random.default_rng(seed).normal(size=(2, batch, dim)).astype("float32")
    return values[0], values[1]


def test_value_is_the_papers():
    z, p = embeddings()
    assert float(CosineRegression()(z, p)) == pytest.approx(twin(z, p).mean(), rel=1e-5)
    by_image = CosineRegression().call(tf.constant(z), tf.constant(p))
    np.testing.assert_allclose(by_image, twin(z, p), rtol=1e-5)


@pytest.mark.parametrize("which", [0, 1], ids=["targets", "predictions"])
def test_gradients_are_those_of_the_twin(which):
    values = embeddings()
    variables = [tf.Variable(value) for value in values]
    with tf.GradientTape() as tape:
        loss = CosineRegression()(*variables)
    gradient = tape.gradient(loss, variables[which]).numpy()
    exact = [value.astype("float64") for value in values]
    for place in np.ndindex(*values[which].shape):
        around = []
        for step in (1e-5, -1e-5):
            moved = [value.copy() for value in exact]
            moved[which][place] += step
            around.append(twin(*moved).mean())
        assert gradient[place] == pytest.approx((around[0] - around[1]) / 2e-5, abs=2e-6)


@pytest.mark.parametrize(("factor", "expected"), [(3.0, 0.0), (-0.5, 4.0)])
def test_equal_and_opposite_directions(factor, expected):
    z, _ = embeddings()
    assert float(CosineRegression()(z, factor * z)) == pytest.approx(expected, abs=1e-6)


def test_orthogonal_embeddings():
    assert float(CosineRegression()(np.eye(3)[:2], np.eye(3)[1:])) == pytest.approx(2.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_embeddings_are_compared_in_float32(dtype):
    low = [tf.cast(value, dtype) for value in embeddings()]
    loss = CosineRegression()(*low)
    assert loss.dtype == tf.float32
    exact = twin(*(tf.cast(value, "float32") for value in low)).mean()
    assert float(loss) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_embeddings_of_length_zero_have_a_finite_gradient(jit_compile):
    zeros = [tf.Variable(tf.zeros((4, 3))) for _ in range(2)]

    @tf.function(jit_compile=jit_compile)
    def gradients():
        with tf.GradientTape() as tape:
            loss = CosineRegression()(*zeros)
        return loss, tape.gradient(loss, zeros)

    loss, values = gradients()
    assert float(loss) == pytest.approx(2.0)
    assert all(np.all(np.isfinite(value)) for value in values)


def test_round_trip():
    loss = CosineRegression(name="regression")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is CosineRegression
    assert again.name == "regression"


@pytest.mark.parametrize("shapes", [((4, 3), (4, 2)), ((4, 3), (5, 3)), ((3,), (3,))])
def test_rejects_mismatched_shapes(shapes):
    with pytest.raises(ValueError, match=r"must have the same shape \(batch, dim\)\. Received: "):
        CosineRegression()(*(np.ones(shape, "float32") for shape in shapes))
