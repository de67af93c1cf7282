"""Blockwise sums against the full similarity matrix in float64, with several block sizes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.losses import InfoNCE, NTXent, blockwise
from tests.tiers import rest_large


def unit(rows, dim=8, seed=0, dtype="float32"):
    values = np.random.default_rng(seed).normal(size=(rows, dim))
    return tf.constant(values / np.linalg.norm(values, axis=1, keepdims=True), dtype)


def full_matrix(q, c, temperature, left_out):
    """NumPy reference in float64: (value, gradient of the weighted sum for q, for c)."""
    q, c = (np.asarray(x, "float64") for x in (q, c))
    similarity = np.where(left_out, -np.inf, q @ c.T / temperature)
    largest = similarity.max(axis=1, keepdims=True)
    values = np.log(np.exp(similarity - largest).sum(axis=1)) + largest[:, 0]
    p = np.exp(similarity - values[:, None]) * weights(len(q), "float64").numpy()[:, None]
    return values, p @ c / temperature, p.T @ q / temperature


def weights(rows, dtype="float32"):
    return tf.constant(np.random.default_rng(9).uniform(0.5, 2, rows), dtype)


def assert_near(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("temperature", rest_large([0.025, 0.1, 1.0]))
@pytest.mark.parametrize("rows", [12, 13], ids=["side divides", "side does not"])
def test_log_sum_of_others(rows, temperature, compiled):
    z = unit(rows)

    @tf.function(jit_compile=compiled)
    def both(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            values = blockwise.log_sum_of_others(z, temperature, sides=(4, 3))
            total = tf.reduce_sum(values * weights(rows))
        return values, tape.gradient(total, z)

    values, to_q, to_c = full_matrix(z, z, temperature, np.eye(rows, dtype=bool))
    assert_near(both(z), (values, to_q + to_c))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("left_out", ["nothing", "own", "excluded", "both"])
def test_log_sum_over_columns(left_out, compiled):
    q, c = unit(5), unit(23, seed=1)
    own = tf.constant([3, 7, 22, 0, 11])
    excluded = np.random.default_rng(2).random((5, 23)) < 0.3
    arguments = {
        "own": own if left_out in ("own", "both") else None,
        "excluded": tf.constant(excluded) if left_out in ("excluded", "both") else None,
    }
    mask = np.zeros((5, 23), bool)
    if arguments["own"] is not None:
        mask |= np.arange(23) == own.numpy()[:, None]
    if arguments["excluded"] is not None:
        mask |= excluded

    @tf.function(jit_compile=compiled)
    def both(q, c):
        with tf.GradientTape() as tape:
            tape.watch([q, c])
            values = blockwise.log_sum_over_columns(
                q, c, 0.2, block=20, **arguments
            )  # of 4 columns
            total = tf.reduce_sum(values * weights(5))
        return values, *tape.gradient(total, [q, c])

    assert_near(both(q, c), full_matrix(q, c, 0.2, mask))


def test_a_row_without_any_candidate_has_no_gradient():
    q, c = unit(2), unit(3, seed=1)
    with tf.GradientTape() as tape:
        tape.watch([q, c])
        values = blockwise.log_sum_over_columns(
            q, c, 0.2, excluded=tf.constant([[True] * 3, [False] * 3])
        )
        total = tf.reduce_sum(tf.where([False, True], values, 0.0))
    for gradient in tape.gradient(total, [q, c]):
        assert np.isfinite(gradient).all()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blockwise, "MAX_UNBLOCKED", 16)


def loss_and_gradients(loss, *embeddings, **arguments):
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        value = loss(*embeddings, **arguments)
    return value, *tape.gradient(value, embeddings)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5])
def test_nt_xent_is_the_same_in_blocks(temperature, monkeypatch):
    z = unit(24), unit(24, seed=1)
    expected = loss_and_gradients(NTXent(temperature), *z)
    monkeypatch.setattr(blockwise, "MAX_UNBLOCKED", 16)
    assert_near(loss_and_gradients(NTXent(temperature), *z), expected)


def test_a_large_batch_in_square_blocks(monkeypatch):
    z = unit(1100), unit(1100, seed=1)  # 2,200 rows: blocks of 550
    found = loss_and_gradients(NTXent(0.1), *z)
    monkeypatch.setattr(blockwise, "MAX_UNBLOCKED", 10**9)
    assert_near(found, loss_and_gradients(NTXent(0.1, dtype="float64"), *z))


@pytest.mark.parametrize("masked", [False, True])
def test_info_nce_is_the_same_in_blocks(masked, monkeypatch):
    values = unit(6), unit(6, seed=1), unit(31, seed=2)
    excluded = np.random.default_rng(3).random((6, 31)) < 0.5 if masked else None
    expected = loss_and_gradients(InfoNCE(0.2), *values, excluded=excluded)
    monkeypatch.setattr(blockwise, "MAX_UNBLOCKED", 16)
    assert_near(loss_and_gradients(InfoNCE(0.2), *values, excluded=excluded), expected)


def test_two_replicas_use_all_negatives(two_replicas, small_blocks):
    views = unit(8), unit(8, seed=1)
    expected = loss_and_gradients(NTXent(0.1), *views)

    @tf.function
    def step():
        def replica(context=None):
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = [view[number * 4 : number * 4 + 4] for view in views]
            own = [tf.ensure_shape(view, (4, 8)) for view in own]
            return loss_and_gradients(NTXent(0.1), *own)

        return two_replicas.run(replica)

    per_replica = [two_replicas.experimental_local_results(value) for value in step()]
    assert_near([sum(per_replica[0])], expected[:1])
    for found, full_gradient in zip(per_replica[1:], expected[1:], strict=True):
        assert_near([tf.concat(found, axis=0)], [full_gradient])


def sizes(graph):
    """Returns the sizes of all tensors in a graph and in its loop bodies."""
    functions = [graph, *(f.graph for f in graph._functions.values())]
    shapes = [out.shape for each in functions for op in each.get_operations() for out in op.outputs]
    return [int(np.prod(shape)) for shape in shapes if shape.is_fully_defined()]


@pytest.mark.parametrize("temperature", [0.01, 0.025])
def test_opposite_candidates_only(temperature):
    q = unit(4)
    c = -tf.repeat(q[:1], 9, axis=0)
    value = blockwise.log_sum_over_columns(q, c, temperature, block=12)
    expected, *_ = full_matrix(q, c, temperature, np.zeros((4, 9), bool))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_an_unknown_batch_with_excluded_candidates(small_blocks):
    spec = [tf.TensorSpec((None, 8)), tf.TensorSpec((None, 8)), tf.TensorSpec((31, 8))]

    @tf.function(input_signature=[*spec, tf.TensorSpec((None, 31), tf.bool)])
    def loss(q, k, negatives, excluded):
        return InfoNCE(0.2)(q, k, negatives, excluded=excluded)

    values = unit(6), unit(6, seed=1), unit(31, seed=2)
    excluded = tf.constant(np.random.default_rng(3).random((6, 31)) < 0.5)
    expected = InfoNCE(0.2)(*values, excluded=excluded)
    assert float(loss(*values, excluded)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_no_tensor_holds_all_similarities(temperature, monkeypatch):
    rows = 4096

    @tf.function
    def both(z_1, z_2):
        return loss_and_gradients(NTXent(temperature), z_1, z_2)

    spec = tf.TensorSpec((rows // 2, 8), tf.float32)
    largest = max(sizes(both.get_concrete_function(spec, spec).graph))
    assert largest <= rows * rows / 8
    monkeypatch.setattr(blockwise, "MAX_UNBLOCKED", rows * rows)  # shows that the check can fail

    @tf.function
    def at_once(z_1, z_2):
        return loss_and_gradients(NTXent(temperature), z_1, z_2)

    assert max(sizes(at_once.get_concrete_function(spec, spec).graph)) == rows * rows


def test_half_precision_is_computed_in_float32(small_blocks):
    z = [tf.cast(view, "float16") for view in (unit(24), unit(24, seed=1))]
    value = NTXent(0.05)(*z)
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx(float(NTXent(0.05)(*(tf.cast(v, "float32") for v in z))))


def test_embeddings_of_length_zero_have_gradients(small_blocks):
    z = tf.zeros((24, 8))
    value, *gradients = loss_and_gradients(NTXent(0.1), z, z)
    assert float(value) == pytest.approx(np.log(47), rel=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_float64_losses_stay_float64(small_blocks):
    keras.config.set_floatx("float64")
    try:
        z = unit(24, dtype="float64"), unit(24, seed=1, dtype="float64")
        assert NTXent(0.1, dtype="float64")(*z).dtype == tf.float64
    finally:
        keras.config.set_floatx("float32")
