"""Threefry against published answers and a Python twin, and the independence of image keys."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_ssl.augment.random import fold, image_keys, threefry, uniform


def words(*numbers):
    return tuple(tf.constant(number, tf.uint32) for number in numbers)


def twin(key, counter):
    """Threefry-2x32 with 20 rounds, one pair of Python integers at a time."""
    mask = 0xFFFFFFFF
    schedule = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = (counter[0] + key[0]) & mask, (counter[1] + key[1]) & mask
    rotations = [13, 15, 26, 6, 17, 29, 16, 24]
    for number in range(20):
        x = (x + y) & mask
        bits = rotations[number % 8]
        y = ((y << bits | y >> (32 - bits)) & mask) ^ x
        if number % 4 == 3:
            group = number // 4 + 1
            x = (x + schedule[group % 3]) & mask
            y = (y + schedule[(group + 1) % 3] + group) & mask
    return x, y


def twin_keys(seed, epoch, index, view):
    """The key of one image as documented in `image_keys`: run, then view, then image."""
    halves = lambda number: (number & 0xFFFFFFFF, number >> 32)  # noqa: E731
    return twin(twin(twin(halves(seed), halves(epoch)), (view, 0)), halves(index))


# Random123-1.09, tests/kat_vectors: threefry2x32 20.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_published_answers(counter, key, expected):
    assert tuple(int(word) for word in threefry(words(*key), words(*counter))) == expected
    assert twin(key, counter) == expected


def test_equals_the_twin_for_a_tensor():
    values = np.random.default_rng(0).integers(0, 2**32, (4, 50), np.uint32)
    found = np.stack(threefry((values[0], values[1]), (values[2], values[3])), axis=1)
    for column, pair in zip(values.T.tolist(), found.tolist(), strict=True):
        assert tuple(pair) == twin(tuple(column[:2]), tuple(column[2:]))


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 7, 2**63 - 1])
def test_image_keys_equal_the_twin(seed):
    indices = [0, 1, 2**32, 2**40 + 3]
    for epoch, view in ((0, 0), (3, 1)):
        found = image_keys(seed, epoch, tf.constant(indices, tf.int64), view).numpy()
        expected = [twin_keys(seed, epoch, index, view) for index in indices]
        np.testing.assert_array_equal(found, np.array(expected, np.uint32))


def test_keys_of_other_images_views_epochs_and_seeds_differ():
    indices = tf.constant([0, 1, 2, 2**32, 2**32 + 1], tf.int64)
    found = [
        image_keys(seed, epoch, indices, view).numpy()
        for seed, epoch, view in itertools.product((0, 1, 2**32), (0, 1, 2**32), (0, 1))
    ]
    found = np.concatenate(found)
    assert len(np.unique(found, axis=0)) == len(found) == 90


def test_epochs_and_indices_may_be_tensors():
    epochs = tf.constant([3, 4], tf.int64)
    indices = tf.constant([10, 11], tf.int64)
    found = image_keys(tf.constant(5, tf.int64), epochs, indices, 1).numpy()
    for row, (epoch, index) in zip(found, ((3, 10), (4, 11)), strict=True):
        np.testing.assert_array_equal(row, image_keys(5, epoch, [index], 1)[0])


def test_numbers_are_uniform_in_the_unit_interval(keys):
    numbers = uniform(keys(5000), 7).numpy()
    assert numbers.shape == (5000, 7)
    assert numbers.dtype == np.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-4


def test_the_largest_word_stays_below_one(monkeypatch):
    from keras_ssl.augment import random

    full = tf.fill([1, 1], tf.constant(0xFFFFFFFF, tf.uint32))
    monkeypatch.setattr(random, "threefry", lambda key, counter: (full, full))
    assert uniform(tf.zeros((1, 2), tf.uint32), 2).numpy().max() == np.float32(1 - 2**-24)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"view": 1}, id="view"),
        pytest.param({"epoch": 1}, id="epoch"),
        pytest.param({"seed": 1}, id="seed"),
        pytest.param({"first": 1}, id="neighbour"),
    ],
)
def test_numbers_of_different_keys_are_independent(keys, other):
    count = 20_000
    first = uniform(keys(count), 1)[:, 0].numpy()
    second = uniform(keys(count, **other), 1)[:, 0].numpy()
    # The correlation of independent numbers has the standard deviation 1 / sqrt(count).
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(count)
    cells, _, _ = np.histogram2d(first, second, bins=10, range=[[0, 1], [0, 1]])
    assert stats.chisquare(cells.ravel()).pvalue > 1e-4


def test_numbers_of_one_image_are_independent(keys):
    numbers = uniform(keys(20_000), 6).numpy()
    correlations = np.corrcoef(numbers.T) - np.eye(6)
    assert np.abs(correlations).max() < 4.5 / np.sqrt(20_000)


def test_folded_keys_are_independent(keys):
    first, second = (uniform(fold(keys(20_000), number), 1)[:, 0].numpy() for number in (0, 1))
    plain = uniform(keys(20_000), 1)[:, 0].numpy()
    for a, b in itertools.combinations((first, second, plain), 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(20_000)
    # `fold` uses a counter that `uniform` does not.
    assert int(fold(tf.zeros((1, 2), tf.uint32), 0)[0, 0]) == twin((0, 0), (0, 0xFFFFFFFF))[0]


def test_numbers_do_not_depend_on_the_rest_of_the_batch(keys):
    whole = uniform(keys(10), 5).numpy()
    order = [7, 2, 9]
    chosen = image_keys(0, 0, tf.constant(order, tf.int64), 0)
    np.testing.assert_array_equal(uniform(chosen, 5), whole[order])
    # And the first numbers do not depend on how many are drawn.
    np.testing.assert_array_equal(uniform(keys(10), 6)[:, :5], whole)


def test_graph_and_xla_equal_eager(keys):
    def numbers(indices):
        return uniform(fold(image_keys(3, 2, indices, 1), 4), 9)

    indices = tf.range(20, dtype=tf.int64)
    eager = numbers(indices)
    np.testing.assert_array_equal(tf.function(numbers)(indices), eager)
    np.testing.assert_array_equal(tf.function(numbers, jit_compile=True)(indices), eager)
