"""`in_chunks` against plain calls of the network on each chunk."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.backbones import Tiny
from keras_ssl.layers import SplitBatchNorm, in_chunks, split_batch_norm
from keras_ssl.layers.in_chunks import check_chunks, sequential_passes
from tests.tiers import rest_large

SHAPE = (6, 6, 3)
BATCH = 8
CHUNKS = 4


def images(seed=0, batch=BATCH):
    return tf.constant(np.random.default_rng(seed).random((batch, *SHAPE), np.float32))


def network(*extra):
    layers = keras.layers
    convolution = layers.Conv2D(4, 3, activation="gelu")
    return keras.Sequential(
        [keras.Input(SHAPE), convolution, *extra, layers.Flatten(), layers.Dense(5)]
    )


def loss_of(features):
    # Every feature has a different weight, so that errors cannot cancel.
    factors = tf.reshape(tf.range(tf.size(features), dtype=tf.float32), tf.shape(features)) / 10
    return tf.reduce_sum(tf.sin(factors) * tf.cast(features, tf.float32))


def run_in_chunks(net, chunks, values=None):
    """Returns the features and gradients of `in_chunks`."""
    with tf.GradientTape() as tape:
        features = in_chunks(net, images() if values is None else values, chunks)
        loss = loss_of(features)
    return [features, *tape.gradient(loss, net.trainable_variables)]


def run_chunk_by_chunk(net):
    with tf.GradientTape() as tape:
        parts = [net(part, training=True) for part in tf.split(images(), CHUNKS)]
        features = tf.concat(parts, axis=0)
        loss = loss_of(features)
    return [features, *tape.gradient(loss, net.trainable_variables)]


def values_of(variables):
    return [np.asarray(variable).copy() for variable in variables]


def assert_equal(first, second, tolerance=1e-5):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


def in_graph(function):
    return tf.function(function, autograph=False)


WRAPPERS = [lambda function: function, in_graph, compiled]


@pytest.fixture(params=["loop", "unrolled"])
def replicas(request, monkeypatch):
    """One replica, which runs chunks in a loop, or several, which unroll them (simulated)."""
    if request.param == "unrolled":
        monkeypatch.setattr(distribute, "replica_count", lambda: 2)


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.usefixtures("replicas")
def test_features_and_gradients_are_those_of_the_full_batch(wrap):
    net = network()
    assert_equal(wrap(run_in_chunks)(net, CHUNKS), run_in_chunks(net, 1))


@pytest.mark.parametrize("wrap", rest_large(WRAPPERS))
@pytest.mark.usefixtures("replicas")
def test_dropout_masks_are_equal_in_the_recomputation(wrap):
    net = network(keras.layers.Dropout(0.5))
    start = values_of(net.non_trainable_variables)
    expected = wrap(run_chunk_by_chunk)(net)  # XLA has other random numbers
    state = values_of(net.non_trainable_variables)
    assert np.any(state[0] != start[0])
    net.non_trainable_variables[0].assign(start[0])
    assert_equal(wrap(run_in_chunks)(net, CHUNKS), expected)
    # The generator advanced once per chunk, and no mask is repeated.
    assert_equal(values_of(net.non_trainable_variables), state, 0)


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.usefixtures("replicas")
def test_moving_statistics_are_updated_once_with_the_mean_of_the_chunks(wrap):
    norm = keras.layers.BatchNormalization(momentum=0.9)
    net = network(norm)
    norm.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    start = values_of(norm.non_trainable_variables)
    expected = run_chunk_by_chunk(net)
    maps = tf.split(net.layers[0](images()), CHUNKS)
    means = np.mean([np.mean(part, axis=(0, 1, 2)) for part in maps], axis=0)
    variances = np.mean([np.var(part, axis=(0, 1, 2)) for part in maps], axis=0)
    for variable, value in zip(norm.non_trainable_variables, start, strict=True):
        variable.assign(value)
    assert_equal(wrap(run_in_chunks)(net, CHUNKS), expected, 1e-4)
    assert_equal([norm.moving_mean], [0.9 * start[0] + 0.1 * means])
    assert_equal([norm.moving_variance], [0.9 * start[1] + 0.1 * variances])


def test_batch_norm_equals_split_batch_norm():
    net = Tiny(SHAPE, features=8)
    split = split_batch_norm(net, groups=CHUNKS)
    assert_equal(run_in_chunks(net, CHUNKS), run_in_chunks(split, 1), 1e-4)
    assert_equal(values_of(net.weights), values_of(split.weights))


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_chunks_share_the_groups_of_split_batch_normalisation(groups):
    net = split_batch_norm(Tiny(SHAPE, features=8), groups)
    start = net.get_weights()
    expected = run_in_chunks(net, 1, images(batch=16))
    moved = net.get_weights()
    net.set_weights(start)
    assert_equal(run_in_chunks(net, 2, images(batch=16)), expected, 1e-4)
    assert_equal(net.get_weights(), moved)


def test_chunks_must_divide_the_groups():
    net = split_batch_norm(Tiny(SHAPE, features=8), groups=2)
    with pytest.raises(ValueError, match="groups=2, 1 replicas, batch per replica 8, chunks=4"):
        in_chunks(net, images(), CHUNKS)
    # The error leaves no state behind.
    assert net(images(), training=True).shape == (BATCH, 8)
    assert SplitBatchNorm(2)(tf.ones((4, 3)), training=True).shape == (4, 3)


def test_frozen_weights_do_not_change():
    net = network(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5))
    net.layers[0].trainable = False
    before = values_of(net.layers[0].variables)
    assert len(run_in_chunks(net, CHUNKS)) == 1 + 4  # gamma, beta, kernel, bias
    assert_equal(values_of(net.layers[0].variables), before, 0)


class Penalised(keras.layers.Conv2D):
    """Its penalty is a mean over the batch, so it is the same for chunks and the full batch."""

    def call(self, inputs):
        self.add_loss(tf.reduce_mean(inputs**2))
        return super().call(inputs)


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.usefixtures("replicas")
def test_penalties_count_once(wrap):
    net = network(Penalised(4, 1, kernel_regularizer=keras.regularizers.L2(0.5)))

    def penalties(chunks):
        with tf.GradientTape() as tape:
            for _ in range(2):  # the second call resets the penalties of the first
                in_chunks(net, images(), chunks)
            assert len(net.losses) == 2
            loss = tf.add_n(net.losses)
        return [loss, *tape.gradient(loss, net.trainable_variables[:3])]

    assert_equal(wrap(penalties)(CHUNKS), penalties(1))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(dtype):
    keras.config.set_dtype_policy(dtype)
    net = network()
    found, expected = run_in_chunks(net, CHUNKS), run_in_chunks(net, 1)
    assert [value.dtype for value in found] == [value.dtype for value in expected]
    assert_equal(*([np.asarray(v, np.float32) for v in part] for part in (found, expected)), 0.05)


# Execution order, which decides what is in memory at the same time


class Log(keras.layers.Layer):
    """Records when its outputs and its gradients are computed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, inputs):
        def note(letter, values):
            def write(number):
                self.seen.append(f"{letter}{int(number)}")
                return np.float32(0)

            # Not `py_function`, which has its own ordering. The first pixel is the image's number.
            return tf.numpy_function(write, [values[0, 0, 0, 0]], tf.float32, stateful=False)

        @tf.custom_gradient
        def noted(x):
            y = tf.ensure_shape(x + note("f", x), x.shape)
            return y, lambda upstream: upstream + note("b", y)  # as a ReLU's gradient needs y

        return noted(inputs)


def numbered(first):
    values = np.zeros((CHUNKS, *SHAPE), np.float32)
    values[:, 0, 0, 0] = np.arange(first, first + CHUNKS)
    return tf.constant(values)


@pytest.mark.parametrize("wrap", WRAPPERS[:2])
@pytest.mark.usefixtures("replicas")
def test_chunks_are_computed_and_backpropagated_one_by_one(wrap):
    log = Log()
    layers = [keras.layers.Conv2D(3, 1), log, keras.layers.Flatten(), keras.layers.Dense(2)]
    net = keras.Sequential([keras.Input(SHAPE), *layers])
    net.layers[0].set_weights([np.eye(3).reshape(1, 1, 3, 3), np.zeros(3)])
    log.seen.clear()

    def two_views():
        with sequential_passes(), tf.GradientTape() as tape:
            views = [in_chunks(net, numbered(first), CHUNKS) for first in (0, 4)]
            loss = tf.reduce_sum(views[0] * views[1])
        return tape.gradient(loss, net.trainable_variables)

    step = wrap(two_views)
    for _ in range(5):  # without a guarantee, this order would occur only by chance
        log.seen.clear()
        step()
        assert log.seen[:8] == [f"f{n}" for n in range(8)]
        again = [set(log.seen[i : i + 2]) for i in range(8, len(log.seen), 2)]
        assert again == [{f"f{n}", f"b{n}"} for n in (4, 5, 6, 7, 0, 1, 2, 3)]


@pytest.mark.parametrize(("count", "computed"), [(1, 2), (2, 2 * CHUNKS)], ids=["loop", "unrolled"])
def test_xla_does_not_merge_the_recomputation_with_the_forward_pass(monkeypatch, count, computed):
    monkeypatch.setattr(distribute, "replica_count", lambda: count)
    net = network(keras.layers.Activation("tanh"))
    step = compiled(lambda values: run_in_chunks(net, CHUNKS, values))
    program = step.experimental_get_compiler_ir(images())(stage="optimized_hlo")
    assert program.count(" tanh(") == computed


def test_a_gradient_that_is_the_same_in_every_chunk(monkeypatch):
    # A bias has such a gradient. The chunks must not wait for each other.
    monkeypatch.setattr(distribute, "replica_count", lambda: 2)
    for _ in range(5):
        net = network(keras.layers.Conv2D(4, 1))

        def step(chunks, net=net):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(in_chunks(net, images(), chunks))
            return tape.gradient(loss, net.trainable_variables)

        assert_equal(in_graph(step)(CHUNKS), step(1))


def test_a_batch_of_unknown_size():
    net = network()
    signature = [tf.TensorSpec((None, *SHAPE))]
    step = tf.function(lambda x: run_in_chunks(net, CHUNKS, x), signature, autograph=False)
    assert_equal(step(images()), run_in_chunks(net, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must divide the batch.*chunks=4"):
        step(images(batch=6))


def test_rejects_chunks_that_do_not_divide_the_batch():
    with pytest.raises(
        ValueError, match=r"must divide the batch of each replica evenly\. Received: chunks=3"
    ):
        in_chunks(network(), images(), 3)
    with pytest.raises(ValueError, match=r"chunks=4, 2 replica\(s\), a batch of 12 images"):
        check_chunks(4, 12, replicas=2)
    check_chunks(3, 12, replicas=2)


@pytest.mark.parametrize("chunks", [0, -1, 2.0, True, "2", None])
def test_rejects_invalid_chunks(chunks):
    with pytest.raises(ValueError, match=rf"integer of at least 1\. Received: chunks={chunks!r}"):
        in_chunks(network(), images(), chunks)
