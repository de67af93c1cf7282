"""The context network sees its own row and those above, and nothing below."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers import ContextNetwork


def receptive_field(network, row, column, shape=(5, 6, 3)):
    """Returns which places of the grid the context at a place depends on, (rows, columns) bool."""
    grid = tf.constant(np.random.default_rng(0).normal(size=(1, *shape)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(grid)
        context = network(grid)[0, row, column]
    return np.any(tape.gradient(context, grid).numpy()[0] != 0, axis=-1)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_receptive_field_has_as_many_rows_above_as_blocks(depth):
    seen = receptive_field(ContextNetwork(64, depth), row=3, column=2)
    expected = np.zeros((5, 6), bool)
    for up in range(depth + 1):
        if up:
            expected[3 - up, max(0, 2 - depth) : 2 + depth + 1] = True
        else:
            expected[3, max(0, 2 - depth) : 2 + depth + 1] = True
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("row", range(5))
def test_rows_below_have_a_gradient_of_exactly_zero(row):
    seen = receptive_field(ContextNetwork(16), row, column=3)
    assert not seen[row + 1 :].any()
    assert seen[: row + 1].any(axis=1).all()


def test_round_trip():
    config = ContextNetwork(16, depth=2).get_config()
    assert ContextNetwork.from_config(config).get_config() == config


def test_refuses_numbers_below_one():
    with pytest.raises(ValueError, match=r"`depth` must be at least 1\. Received: depth=0"):
        ContextNetwork(depth=0)
    with pytest.raises(ValueError, match="`hidden_units` must be at least 1"):
        ContextNetwork(0)
