"""Quarter turns: the same as NumPy's, to the bit."""

import numpy as np
import pytest

from keras_ssl.layers.quarter_turn import quarter_turn

IMAGES = np.random.default_rng(0).random((2, 4, 6, 3), np.float32)


@pytest.mark.parametrize("turns", range(-1, 6))
def test_it_is_that_of_numpy(turns):
    expected = np.rot90(IMAGES, turns, axes=(1, 2))
    np.testing.assert_array_equal(quarter_turn(IMAGES, turns), expected)


@pytest.mark.parametrize("turns", range(4))
def test_turning_back_gives_the_image(turns):
    np.testing.assert_array_equal(quarter_turn(quarter_turn(IMAGES, turns), 4 - turns), IMAGES)
