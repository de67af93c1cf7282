"""Warps: known rotations, shifts and scales, and the range of random parameters."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment import RandomWarp
from keras_ssl.augment.random import uniform

HALF = 0.5  # the random number for "no change"
LARGEST = 1.0


def warp_image(warp, image, **drawn):
    """Warps one (height, width) image; random numbers that are not given are `HALF`."""
    places = {"angle": 0, "zoom_x": 1, "zoom_y": 2, "shear": 3, "shift_x": 4, "shift_y": 5}
    numbers = np.full((1, warp.draws), HALF, np.float32)
    for name, value in drawn.items():
        numbers[0, places[name]] = value
    images = tf.constant(image[None, ..., None], tf.float32)
    return warp.transform(images, tf.constant(numbers)).numpy()[0, ..., 0]


@pytest.fixture
def image(noise):
    return noise(1, 9, 9, 1)[0, ..., 0]


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (1, 5), (28, 28)])
def test_zero_strengths_change_nothing(noise, keys, size):
    images = noise(4, *size)
    np.testing.assert_allclose(RandomWarp()(images, keys=keys(4)), images, atol=1e-4)


@pytest.mark.parametrize(("share", "turns"), [(LARGEST, 1), (0.0, -1)])
def test_a_quarter_turn(image, share, turns):
    found = warp_image(RandomWarp(rotation=90), image, angle=share)
    np.testing.assert_allclose(found, np.rot90(image, turns), atol=1e-5)


def test_a_half_turn_of_an_oblong_image(noise):
    image = noise(1, 6, 11, 1)[0, ..., 0]
    found = warp_image(RandomWarp(rotation=180), image, angle=LARGEST)
    np.testing.assert_allclose(found, image[::-1, ::-1], atol=1e-5)


def test_a_shift_by_whole_pixels_with_black_behind(image):
    # A side of 9 pixels is 8 steps long, so a quarter of it is 2 pixels.
    warp = RandomWarp(shift=0.25)
    right = warp_image(warp, image, shift_x=LARGEST)
    np.testing.assert_allclose(right[:, :7], image[:, 2:], atol=1e-5)
    np.testing.assert_allclose(right[:, 7:], 0, atol=1e-5)
    up = warp_image(warp, image, shift_y=0.0)
    np.testing.assert_allclose(up[2:], image[:7], atol=1e-5)
    np.testing.assert_allclose(up[:2], 0, atol=1e-5)


def test_a_shift_by_half_a_pixel_takes_the_mean(image):
    found = warp_image(RandomWarp(shift=1 / 16), image, shift_x=LARGEST)
    np.testing.assert_allclose(found[:, :8], (image[:, :8] + image[:, 1:]) / 2, atol=1e-5)


def test_zoom_by_two(image):
    # Samples lie twice as far from the centre, so the image shrinks.
    found = warp_image(RandomWarp(zoom=1.0), image, zoom_x=LARGEST, zoom_y=LARGEST)
    np.testing.assert_allclose(found[2:7, 2:7], image[::2, ::2], atol=1e-5)
    assert np.abs(found[0]).max() < 1e-5
    larger = warp_image(RandomWarp(zoom=1.0), image, zoom_x=0.0, zoom_y=0.0)
    np.testing.assert_allclose(larger[::2, ::2], image[2:7, 2:7], atol=1e-5)


def test_shear_moves_rows_against_each_other(image):
    found = warp_image(RandomWarp(shear=0.5), image, shear=LARGEST)
    np.testing.assert_allclose(found[4], image[4], atol=1e-5)  # the middle row stays
    np.testing.assert_allclose(found[6, :8], image[6, 1:], atol=1e-5)  # two below: one pixel
    np.testing.assert_allclose(found[2, 1:], image[2, :8], atol=1e-5)


def test_elastic_displacements_have_the_standard_deviation(keys):
    warp = RandomWarp(elastic=0.05, grid=4)
    numbers = uniform(keys(4000), warp.draws)
    # With as many pixels as control points, displacements equal the drawn numbers.
    moves = warp._displacements(numbers[:, 6:], 4, 4).numpy()
    assert moves.shape == (4000, 2, 16)
    assert moves.std() == pytest.approx(0.05, rel=0.02)
    assert np.abs(moves).max() <= 0.05 * np.sqrt(3) + 1e-6
    assert abs(moves.mean()) < 1e-3


def test_elastic_displacements_are_smooth(keys):
    warp = RandomWarp(elastic=0.05)
    numbers = uniform(keys(50), warp.draws)
    moves = warp._displacements(numbers[:, 6:], 32, 32).numpy().reshape(50, 2, 32, 32)
    assert np.abs(np.diff(moves, axis=-1)).max() < 0.03
    assert np.abs(np.diff(moves, axis=-2)).max() < 0.03


def test_matrices_stay_within_the_strengths(keys):
    warp = RandomWarp(rotation=20, zoom=0.3)
    matrices = warp._matrices(uniform(keys(5000), 6)).numpy().astype(np.float64)
    scales = np.linalg.norm(matrices, axis=1)  # of the two columns
    assert scales.max() == pytest.approx(1.3, rel=2e-3)
    assert scales.min() == pytest.approx(1 / 1.3, rel=2e-3)
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert angles.max() == pytest.approx(20, abs=0.1)
    assert angles.min() == pytest.approx(-20, abs=0.1)


def test_matrices_do_not_depend_on_the_batch_position(keys):
    warp = RandomWarp(rotation=20, zoom=0.3, shear=0.2)
    numbers = uniform(keys(61), 6)
    alone = [warp._matrices(numbers[place : place + 1]) for place in range(61)]
    np.testing.assert_array_equal(warp._matrices(numbers), np.concatenate(alone))


def test_stays_in_range(noise, keys):
    warp = RandomWarp(rotation=30, zoom=0.3, shear=0.3, shift=0.2, elastic=0.1)
    found = warp(noise(50), keys=keys(50)).numpy()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", ["rotation", "zoom", "shear", "shift", "elastic"])
def test_rejects_negative_strengths(name):
    with pytest.raises(ValueError, match=f"`{name}` must not be negative. Received: {name}=-1"):
        RandomWarp(**{name: -1})


def test_rejects_a_grid_of_one_point():
    with pytest.raises(ValueError, match=r"`grid` must be at least 2\. Received: grid=1"):
        RandomWarp(grid=1)
