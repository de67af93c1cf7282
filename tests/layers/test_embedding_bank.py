"""The embedding bank against a slow NumPy reference, and its random draws."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers import EmbeddingBank


def directions(count, dim=3, seed=0):
    values = np.random.default_rng(seed).normal(size=(count, dim)).astype("float32")
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def entered(rows, indices, embeddings, momentum):
    rows = rows.astype("float64")
    for index, new in zip(indices, embeddings, strict=True):
        mixed = momentum * rows[index] + (1 - momentum) * new
        rows[index] = mixed / np.linalg.norm(mixed)
    return rows


def test_starts_with_random_directions():
    rows = np.asarray(EmbeddingBank(2000, 3).embeddings)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=0.06)
    same, again, other = (EmbeddingBank(5, 3, seed=seed).embeddings for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(same, other)


def test_reads_the_embedding_of_an_image():
    bank = EmbeddingBank(10, 3)
    np.testing.assert_array_equal(
        bank.read(tf.constant([7, 2, 7])), np.asarray(bank.embeddings)[[7, 2, 7]]
    )


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_entries_move_towards_new_embeddings(momentum, mode):
    bank = EmbeddingBank(10, 3, momentum, seed=0)
    enter = bank.enter
    if mode != "eager":
        enter = tf.function(bank.enter, jit_compile=mode == "xla")
    twin = np.asarray(bank.embeddings)
    for seed, indices in enumerate([[3, 1, 8], [8, 0, 3]]):
        new = directions(3, seed=seed)
        enter(tf.constant(indices, tf.int64), tf.constant(new))
        twin = entered(twin, indices, new, momentum)
    np.testing.assert_allclose(bank.embeddings, twin, atol=1e-6)
    assert int(bank.visits) == 2


@pytest.mark.parametrize("accepted", [False, tf.constant(False)])
def test_unaccepted_embeddings_change_nothing(accepted):
    bank = EmbeddingBank(10, 3, seed=0)
    before = np.asarray(bank.embeddings).copy()
    bank.enter(tf.constant([3, 1]), directions(2), accepted=accepted)
    np.testing.assert_array_equal(bank.embeddings, before)
    assert int(bank.visits) == 0


def test_draws_are_uniform_and_change_after_an_update():
    bank = EmbeddingBank(10, 3)
    drawn = bank.draw(5000)
    assert drawn.dtype == tf.int64
    counts = np.bincount(drawn, minlength=10)
    assert len(counts) == 10
    np.testing.assert_allclose(counts, 500, atol=100)  # uniform: the deviation is about 21
    np.testing.assert_array_equal(bank.draw(5000), drawn)
    bank.enter(tf.constant([0]), directions(1))
    assert np.mean(bank.draw(5000) == drawn) < 0.2


def test_entries_are_float32_and_not_trainable():
    keras.config.set_dtype_policy("mixed_float16")
    bank = EmbeddingBank(10, 3)
    bank.enter(tf.constant([1]), tf.cast(directions(1), "float16"))
    assert bank.embeddings.dtype == "float32"
    assert bank.trainable_variables == []


def test_stores_the_embeddings_of_all_replicas(two_replicas):
    with two_replicas.scope():
        bank = EmbeddingBank(10, 3, seed=0)
    twin = np.asarray(EmbeddingBank(10, 3, seed=0).embeddings)
    indices, new = np.array([3, 1, 8, 0]), directions(4)

    def halves(values):
        return two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[2 * context.replica_id_in_sync_group :][:2])
        )

    @tf.function
    def enter(indices, new):
        def replica(indices, new):
            bank.enter(indices, new)
            return bank.draw(20)

        return two_replicas.run(replica, args=(indices, new))

    draws = two_replicas.experimental_local_results(enter(halves(indices), halves(new)))
    np.testing.assert_array_equal(*draws)
    for values in bank.embeddings.value.values:
        np.testing.assert_allclose(values, entered(twin, indices, new, 0.5), atol=1e-6)
    assert [int(value.numpy()) for value in bank.visits.value.values] == [1, 1]


def test_configuration_round_trip():
    bank = EmbeddingBank(10, 3, momentum=0.25, seed=4)
    again = EmbeddingBank.from_config(bank.get_config())
    assert again.get_config() == bank.get_config()
    np.testing.assert_array_equal(again.embeddings, bank.embeddings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "`size` must be at least 1. Received: size=0"),
        ({"dim": 0}, "`dim` must be at least 1. Received: dim=0"),
        ({"momentum": 1.5}, r"`momentum` must be in \[0, 1\]. Received: momentum=1.5"),
    ],
)
def test_rejects_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingBank(**{"size": 10, "dim": 3, **arguments})
