"""The spreading loss against a slow twin written from the paper's equations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.losses import NTXent, Spreading


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def twin(z_1, z_2, temperature, weight=1.0, candidates=None):
    """Row by row: -log P(i, partner) - weight * sum over the others of log(1 - P(i, j))."""
    z = unit(np.concatenate([z_1, z_2]))
    candidates = z if candidates is None else unit(candidates)
    count = len(z)
    rows = []
    for i in range(count):
        partner = (i + count // 2) % count
        similarity = np.exp(candidates @ z[i] / temperature)
        total = sum(similarity[k] for k in range(count) if k != i)
        spread = sum(
            np.log(sum(similarity[k] for k in range(count) if k not in (i, j)) / total)
            for j in range(count)
            if j not in (i, partner)
        )
        rows.append(-np.log(similarity[partner] / total) - weight * spread)
    return np.mean(rows)


def embeddings(batch=6, dim=5, seed=0):
    values = np.random.default_rng(seed).normal(size=(2, batch, dim)).astype("float32")
    return values[0], values[1]


def gradients(loss, z_1, z_2):
    pair = tf.constant(z_1), tf.constant(z_2)
    with tf.GradientTape() as tape:
        tape.watch(pair)
        value = loss(*pair)
    return np.concatenate(tape.gradient(value, pair))


@pytest.mark.parametrize(("temperature", "weight"), [(0.05, 1.0), (0.5, 1.0), (0.5, 0.3)])
def test_value_is_the_papers(temperature, weight):
    z_1, z_2 = embeddings()
    expected = twin(z_1, z_2, temperature, weight)
    assert float(Spreading(temperature, weight)(z_1, z_2)) == pytest.approx(expected, rel=1e-4)


def test_gradient_flows_into_the_first_factor_only():
    z_1, z_2 = embeddings(batch=4, dim=3)
    both = np.concatenate([z_1, z_2]).astype(np.float64)
    gradient = gradients(Spreading(0.5), z_1, z_2)
    for place in np.ndindex(*both.shape):
        values = []
        for step in (1e-5, -1e-5):
            moved = both.copy()
            moved[place] += step
            values.append(twin(*np.split(moved, 2), 0.5, candidates=both))
        assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-5, abs=2e-5)


def test_without_the_second_term_it_is_nt_xent():
    z_1, z_2 = embeddings()
    plain = Spreading(0.5, spread_weight=0.0)
    assert float(plain(z_1, z_2)) == pytest.approx(float(NTXent(0.5)(z_1, z_2)), rel=1e-6)


def test_without_the_second_term_the_gradient_is_half_that_of_nt_xent():
    # Where all rows have the same sum, as in two regular pentagons, both factors of a similarity
    # have the same gradient in NT-Xent. Here only the first one has a gradient.
    angles = 2 * np.pi * np.arange(5) / 5 + np.array([[0.0], [0.4]])
    z_1, z_2 = np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype("float32")
    expected = gradients(NTXent(0.5), z_1, z_2) / 2
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(gradients(Spreading(0.5, 0.0), z_1, z_2), expected, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_image_taken_for_another_has_an_exact_loss_and_gradient(jit_compile):
    # 1 - P of the wrong image is about exp(-100), which float32 cannot compute as a difference.
    z_1 = np.eye(4, dtype="float32")
    z_2 = np.roll(z_1, 1, axis=0)  # each view equals a view of another image

    @tf.function(jit_compile=jit_compile)
    def compute():
        pair = tf.constant(z_1), tf.constant(z_2)
        with tf.GradientTape() as tape:
            tape.watch(pair)
            value = Spreading(0.01)(*pair)
        return value, tape.gradient(value, pair)

    value, both = compute()
    assert float(value) == pytest.approx(twin(z_1, z_2, 0.01), rel=1e-5)
    assert np.all(np.isfinite(both))
    assert np.abs(both).max() > 1


def test_one_point_gives_the_logarithm_of_the_candidates():
    z = np.ones((8, 4), "float32")
    expected = np.log(15) - 14 * np.log(14 / 15)
    assert float(Spreading(0.1)(z, z)) == pytest.approx(expected, rel=1e-5)


def test_a_single_image_has_no_loss():
    z_1, z_2 = embeddings(batch=1)
    assert float(Spreading(0.1)(z_1, z_2)) == pytest.approx(0, abs=1e-6)
    assert np.abs(gradients(Spreading(0.1), z_1, z_2)).max() < 1e-6


def test_returns_one_loss_per_image():
    z_1, z_2 = embeddings()
    losses = Spreading(0.5).call(tf.constant(z_1), tf.constant(z_2))
    assert losses.shape == (6,)
    assert float(tf.reduce_mean(losses)) == pytest.approx(twin(z_1, z_2, 0.5), rel=1e-5)


def test_two_replicas_equal_one(two_replicas):
    z_1, z_2 = embeddings(batch=8)
    loss = Spreading(0.5)

    def local(context):
        rows = slice(4 * context.replica_id_in_sync_group, 4 * context.replica_id_in_sync_group + 4)
        return tf.constant(z_1[rows]), tf.constant(z_2[rows])

    inputs = two_replicas.experimental_distribute_values_from_function(local)
    values = two_replicas.experimental_local_results(
        two_replicas.run(lambda pair: loss(*pair), args=(inputs,))
    )
    assert sum(float(value) for value in values) == pytest.approx(twin(z_1, z_2, 0.5), rel=1e-5)


def test_round_trip():
    loss = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Spreading(0.3, 0.5))
    )
    assert (loss.temperature, loss.spread_weight) == (0.3, 0.5)


def test_refuses_numbers_out_of_range():
    with pytest.raises(ValueError, match=r"positive\. Received: temperature=0"):
        Spreading(0)
    with pytest.raises(ValueError, match=r"not be negative\. Received: spread_weight=-1"):
        Spreading(spread_weight=-1)


def test_refuses_views_of_different_batches():
    with pytest.raises(ValueError, match="two views of the same images"):
        Spreading()(np.ones((4, 3), "float32"), np.ones((5, 3), "float32"))
