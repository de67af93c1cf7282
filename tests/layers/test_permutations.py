"""The permutations of tiles: their number, distances and balance."""

import numpy as np
import pytest

from keras_ssl.layers.permutations import tile_permutations


@pytest.fixture(scope="module")
def rows():
    return tile_permutations()


def distances(rows):
    differ = (rows[:, None] != rows).sum(axis=-1)
    return differ[np.triu_indices(len(rows), 1)]


def test_all_are_permutations_and_none_is_the_original_order(rows):
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(9), (504, 1)))
    assert (rows != np.arange(9)).any(axis=1).all()


def test_any_two_differ_in_at_least_seven_places(rows):
    found = distances(rows)
    assert found.min() == 7
    assert found.mean() == pytest.approx(8.016, abs=5e-4)


def test_each_tile_is_equally_often_at_each_place(rows):
    for place in range(9):
        assert np.bincount(rows[:, place]).tolist() == [56] * 9


def test_they_are_always_the_same(rows):
    np.testing.assert_array_equal(tile_permutations(), rows)
    np.testing.assert_array_equal(np.unique(rows, axis=0).shape, (504, 9))


@pytest.mark.parametrize("count", [2, 100])
def test_fewer_are_spread_over_all(rows, count):
    some = tile_permutations(count)
    assert len(np.unique(some, axis=0)) == count
    assert {tuple(row) for row in some} <= {tuple(row) for row in rows}
    assert distances(some).min() >= 7
    share = np.bincount(some[:, 4], minlength=9) / count
    assert count < 100 or share.min() > 0.03


@pytest.mark.parametrize("count", [1, 505, 9.0, True])
def test_other_numbers_are_refused(count):
    with pytest.raises(ValueError, match=r"`count` must be from 2 to 504.*Received: count="):
        tile_permutations(count)
