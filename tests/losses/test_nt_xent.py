"""NT-Xent against a slow twin written from the paper's equation 1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.losses import NTXent


def twin(z_1, z_2, temperature):
    """Row by row: l(i, j) = -log(exp(s_ij / T) / sum over k != i of exp(s_ik / T))."""
    z = np.concatenate([z_1, z_2]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    count = len(z)
    rows = []
    for i in range(count):
        j = (i + count // 2) % count
        total = sum(np.exp(z[i] @ z[k] / temperature) for k in range(count) if k != i)
        rows.append(-np.log(np.exp(z[i] @ z[j] / temperature) / total))
    return np.mean(rows)


def embeddings(batch=6, dim=5, seed=0):
    values = np.random.default_rng(seed).normal(size=(2, batch, dim)).astype("float32")
    return values[0], values[1]


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_value_is_the_papers(temperature):
    z_1, z_2 = embeddings()
    assert float(NTXent(temperature)(z_1, z_2)) == pytest.approx(
        twin(z_1, z_2, temperature), rel=1e-5
    )


def test_gradient_is_that_of_the_twin():
    z_1, z_2 = embeddings(batch=4, dim=3)
    variable = tf.Variable(z_1)
    with tf.GradientTape() as tape:
        loss = NTXent(0.5)(variable, z_2)
    gradient = tape.gradient(loss, variable).numpy()
    step = 1e-5
    for place in np.ndindex(*z_1.shape):
        up, down = z_1.astype(np.float64), z_1.astype(np.float64)
        up[place] += step
        down[place] -= step
        numeric = (twin(up, z_2, 0.5) - twin(down, z_2, 0.5)) / (2 * step)
        assert gradient[place] == pytest.approx(numeric, abs=2e-5)


def test_returns_one_loss_per_image():
    z_1, z_2 = embeddings()
    losses = NTXent(0.5).call(tf.constant(z_1), tf.constant(z_2))
    # `call` takes what `__call__` has converted; a Keras loss scales by replicas only then.
    assert losses.shape == (6,)
    assert float(tf.reduce_mean(losses)) == pytest.approx(twin(z_1, z_2, 0.5), rel=1e-5)


def test_does_not_depend_on_the_length_of_embeddings():
    z_1, z_2 = embeddings()
    assert float(NTXent(0.5)(10 * z_1, z_2)) == pytest.approx(
        float(NTXent(0.5)(z_1, z_2)), rel=1e-5
    )


def test_one_point_gives_the_logarithm_of_the_candidates():
    z = np.ones((8, 4), "float32")
    assert float(NTXent(0.1)(z, z)) == pytest.approx(np.log(15), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_embeddings_are_compared_in_float32(dtype):
    z_1, z_2 = embeddings()
    low = [tf.cast(z, dtype) for z in (z_1, z_2)]
    loss = NTXent(0.05)(*low)
    assert loss.dtype == tf.float32
    exact = twin(*(tf.cast(z, "float32").numpy() for z in low), 0.05)
    assert float(loss) == pytest.approx(exact, rel=1e-5)


def test_compiles_under_xla():
    z_1, z_2 = embeddings()
    compiled = tf.function(NTXent(0.5), jit_compile=True)
    assert float(compiled(z_1, z_2)) == pytest.approx(twin(z_1, z_2, 0.5), rel=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_collapsed_embeddings_have_a_finite_gradient(jit_compile):
    z = tf.Variable(tf.zeros((4, 3)))

    @tf.function(jit_compile=jit_compile)
    def gradient():
        with tf.GradientTape() as tape:
            loss = NTXent(0.5)(z, z)
        return tape.gradient(loss, z)

    assert np.all(np.isfinite(gradient()))


def test_two_replicas_equal_one(two_replicas):
    z_1, z_2 = embeddings(batch=8)
    loss = NTXent(0.5)

    def local(context):
        rows = slice(4 * context.replica_id_in_sync_group, 4 * context.replica_id_in_sync_group + 4)
        return tf.constant(z_1[rows]), tf.constant(z_2[rows])

    inputs = two_replicas.experimental_distribute_values_from_function(local)

    @tf.function
    def run(pair):
        def replica(pair):
            with tf.GradientTape() as tape:
                tape.watch(pair)
                value = loss(*pair)
            return value, tape.gradient(value, pair[0])

        return two_replicas.run(replica, args=(pair,))

    values, gradients = run(inputs)
    total = sum(float(value) for value in two_replicas.experimental_local_results(values))
    assert total == pytest.approx(twin(z_1, z_2, 0.5), rel=1e-5)

    whole = tf.Variable(z_1)
    with tf.GradientTape() as tape:
        value = loss(whole, z_2)
    joined = tf.concat(two_replicas.experimental_local_results(gradients), axis=0)
    np.testing.assert_allclose(joined, tape.gradient(value, whole), atol=1e-6)


def test_round_trip():
    loss = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(NTXent(0.3)))
    assert loss.temperature == 0.3


@pytest.mark.parametrize("temperature", [0, -1])
def test_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=f"positive. Received: temperature={temperature}"):
        NTXent(temperature)


def test_refuses_views_of_different_batches():
    with pytest.raises(ValueError, match="two views of the same images"):
        NTXent(0.5)(np.ones((4, 3), "float32"), np.ones((5, 3), "float32"))
