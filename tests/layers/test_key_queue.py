"""The key queue against a slow NumPy reference that writes row by row."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers import KeyQueue


class Twin:
    def __init__(self, queue):
        self.keys = np.asarray(queue.keys).copy()
        self.pointer = 0

    def enqueue(self, *batches):
        for keys in batches:
            for key in keys:
                self.keys[self.pointer] = key
                self.pointer = (self.pointer + 1) % len(self.keys)


def directions(count, dim=3, seed=0):
    values = np.random.default_rng(seed).normal(size=(count, dim)).astype("float32")
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def assert_same(queue, twin):
    np.testing.assert_array_equal(queue.keys, twin.keys)
    assert np.asarray(queue.pointer) == twin.pointer


def test_starts_full_of_random_directions():
    keys = np.asarray(KeyQueue(2000, 3).keys)
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, rtol=1e-5)
    # Uniform on the sphere: the mean vanishes, each coordinate has variance 1 / dim.
    np.testing.assert_allclose(keys.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(keys.var(axis=0), 1 / 3, atol=0.04)


def test_the_start_follows_the_seed():
    first, again, other, drawn = (KeyQueue(9, 3, seed) for seed in (1, 1, 2, None))
    np.testing.assert_array_equal(first.keys, again.keys)
    assert not np.array_equal(first.keys, other.keys)
    assert not np.array_equal(drawn.keys, KeyQueue(9, 3).keys)


# Batches that divide the queue, do not divide it, fill it, exceed it, and exceed it twice.
@pytest.mark.parametrize("sizes", [(5, 5, 5), (4, 4, 4, 4), (3, 1, 7), (10, 2), (7, 13, 25, 4)])
@pytest.mark.parametrize("graph", [False, True])
def test_the_oldest_keys_are_overwritten(sizes, graph):
    queue = KeyQueue(10, 3, seed=0)
    enqueue = tf.function(queue.enqueue) if graph else queue.enqueue
    twin = Twin(queue)
    for seed, size in enumerate(sizes):
        keys = directions(size, seed=seed)
        enqueue(tf.constant(keys))
        twin.enqueue(keys)
        assert_same(queue, twin)


def test_the_size_of_a_batch_may_be_unknown():
    queue = KeyQueue(10, 3, seed=0)
    enqueue = tf.function(queue.enqueue, input_signature=[tf.TensorSpec((None, 3))])
    twin = Twin(queue)
    for size in (4, 13):
        enqueue(directions(size))
        twin.enqueue(directions(size))
    assert_same(queue, twin)


def test_several_batches_are_stored_in_order():
    queue = KeyQueue(10, 3, seed=0)
    twin = Twin(queue)
    for seed in range(2):
        pair = directions(3, seed=seed), directions(4, seed=10 + seed)
        queue.enqueue(*map(tf.constant, pair))
        twin.enqueue(*pair)
    assert_same(queue, twin)


@pytest.mark.parametrize("accepted", [False, tf.constant(False)])
def test_unaccepted_keys_change_nothing(accepted):
    queue = KeyQueue(10, 3, seed=0)
    twin = Twin(queue)
    queue.enqueue(directions(4), accepted=accepted)
    assert_same(queue, twin)
    queue.enqueue(directions(4), accepted=tf.constant(True))
    twin.enqueue(directions(4))
    assert_same(queue, twin)


def test_compiles_under_xla():
    queue = KeyQueue(10, 3, seed=0)
    twin = Twin(queue)
    enqueue = tf.function(queue.enqueue, jit_compile=True)
    for seed in range(4):
        enqueue(tf.constant(directions(4, seed=seed)), accepted=tf.constant(seed != 2))
        if seed != 2:
            twin.enqueue(directions(4, seed=seed))
    assert_same(queue, twin)


def test_keys_are_float32_for_any_input_dtype():
    keras.config.set_dtype_policy("mixed_float16")
    queue = KeyQueue(10, 3)
    queue.enqueue(tf.cast(directions(4), "float16"))
    assert queue.keys.dtype == "float32"
    np.testing.assert_array_equal(queue.keys[:4], directions(4).astype("float16"))


def test_nothing_is_trainable():
    assert KeyQueue(10, 3).trainable_variables == []


@pytest.mark.parametrize("accepted", [True, False])
def test_keys_of_all_replicas_are_stored_in_order(two_replicas, accepted):
    with two_replicas.scope():
        queue = KeyQueue(10, 3, seed=0)
    single = KeyQueue(10, 3, seed=0)
    twin = Twin(single)

    def halves(values):
        half = len(values) // 2
        return two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[half * context.replica_id_in_sync_group :][:half])
        )

    @tf.function
    def enqueue(first, second):
        def replica(first, second):
            queue.enqueue(first, second, accepted=tf.constant(accepted))

        two_replicas.run(replica, args=(first, second))

    for seed in range(3):
        pair = directions(4, seed=seed), directions(6, seed=10 + seed)
        enqueue(*map(halves, pair))
        single.enqueue(*map(tf.constant, pair), accepted=accepted)
        if accepted:
            twin.enqueue(*pair)
    assert_same(single, twin)
    for number in range(2):
        np.testing.assert_array_equal(queue.keys.value.values[number], twin.keys)
        assert queue.pointer.value.values[number].numpy() == twin.pointer


def test_saves_and_loads(tmp_path):
    queue = KeyQueue(10, 3, seed=4)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), queue])
    queue.call = lambda inputs: inputs
    queue.enqueue(directions(4))
    model.save_weights(tmp_path / "queue.weights.h5")
    again = KeyQueue.from_config(queue.get_config())
    assert (again.size, again.dim, again.seed) == (10, 3, 4)
    assert not np.array_equal(again.keys, queue.keys)
    again.call = lambda inputs: inputs
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), again])
    other.load_weights(tmp_path / "queue.weights.h5")
    np.testing.assert_array_equal(again.keys, queue.keys)
    assert np.asarray(again.pointer) == 4


@pytest.mark.parametrize(("name", "value"), [("size", 0), ("dim", -1)])
def test_rejects_sizes_that_are_not_positive(name, value):
    with pytest.raises(
        ValueError, match=rf"`{name}` must be at least 1\. Received: {name}={value}"
    ):
        KeyQueue(**{"size": 10, "dim": 3, name: value})
