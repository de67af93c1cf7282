"""Tiles: where they are cut, and what they do not show."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.layers import Tiles

SIDE = 32  # cells of 10 pixels, tiles of 8
KEYS = random.image_keys(7, 0, np.arange(200), random.METHOD)


def index_images(count, side=SIDE):
    """Returns images whose two channels are the row and the column of each pixel."""
    rows, columns = np.mgrid[:side, :side]
    image = np.stack([rows, columns], axis=-1).astype("float32")
    return tf.constant(np.broadcast_to(image, (count, side, side, 2)))


def test_tiles_lie_where_the_keys_say_and_within_their_cells():
    tiles = np.asarray(Tiles().cut(index_images(200), KEYS))
    assert tiles.shape == (200, 9, 8, 8, 2)
    numbers = random.uniform(random.fold(KEYS, 0), 18).numpy()
    places = np.floor(3 * numbers).astype(int)  # a tile of 8 has three places in a cell of 10
    for image in range(200):
        for tile in range(9):
            # Two pixels do not fill cells: one is left out at each border.
            top = 1 + 10 * (tile // 3) + places[image, tile]
            left = 1 + 10 * (tile % 3) + places[image, 9 + tile]
            rows, columns = np.mgrid[top : top + 8, left : left + 8]
            np.testing.assert_array_equal(tiles[image, tile], np.stack([rows, columns], axis=-1))


def test_all_places_in_a_cell_are_equally_likely():
    tiles = np.asarray(Tiles().cut(index_images(200), KEYS))
    first = tiles[:, :, 0, 0, 0] - np.arange(9) // 3 * 10 - 1
    counts = np.bincount(first.astype(int).ravel())
    assert len(counts) == 3
    assert counts.min() > 0.9 * 600


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_a_linear_ramp_gives_nine_equal_tiles(angle):
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    ramp = 0.5 + 0.3 * (np.cos(angle) * rows + np.sin(angle) * columns)
    images = tf.constant(np.repeat(ramp[None, :, :, None], 2, axis=0), tf.float32)
    tiles = np.asarray(Tiles()(images, KEYS[:2]))
    np.testing.assert_allclose(tiles, np.broadcast_to(tiles[:, :1], tiles.shape), atol=1e-5)
    assert tiles.std() > 0.05


def test_each_tile_has_the_mean_and_the_deviation_of_its_image():
    images = np.random.default_rng(0).random((3, SIDE, SIDE, 3)).astype("float32")
    images[:, :16] *= 0.3
    cut = np.asarray(Tiles(gray=0).cut(tf.constant(images), KEYS[:3]), "float64")
    tiles = np.asarray(Tiles(gray=0)(tf.constant(images), KEYS[:3]))
    for image in range(3):
        for channel in range(3):
            pixels = cut[image, ..., channel]
            mean, deviation = pixels.mean(), pixels.std()
            for tile in range(9):
                own = (pixels[tile] - pixels[tile].mean()) / pixels[tile].std()
                expected = own * deviation + mean
                np.testing.assert_allclose(tiles[image, tile, ..., channel], expected, atol=1e-5)


def test_flat_tiles_are_not_stretched():
    images = np.random.default_rng(0).random((1, SIDE, SIDE, 1)).astype("float32")
    images[:, :11, :11] = 0.5
    tiles = np.asarray(Tiles()(tf.constant(images), KEYS[:1]))
    assert np.isfinite(tiles).all()
    assert np.ptp(tiles[0, 0]) < 1e-6
    flat = np.asarray(Tiles()(tf.zeros((1, SIDE, SIDE, 1)), KEYS[:1]))
    np.testing.assert_array_equal(flat, 0)


def test_two_thirds_of_the_images_are_gray():
    images = tf.constant(np.random.default_rng(0).random((200, 9, 9, 3)), tf.float32)
    tiles = np.asarray(Tiles()(images, KEYS))
    is_gray = np.ptp(tiles, axis=-1).max(axis=(1, 2, 3)) < 1e-5
    assert is_gray.mean() == pytest.approx(0.66, abs=0.08)
    assert np.ptp(np.asarray(Tiles(gray=1.0)(images, KEYS)), axis=-1).max() < 1e-5


def test_the_tiles_of_an_image_do_not_depend_on_its_batch():
    images = tf.constant(np.random.default_rng(0).random((6, SIDE, SIDE, 3)), tf.float32)
    together = np.asarray(Tiles()(images, KEYS[:6]))
    alone = np.concatenate([Tiles()(images[i : i + 1], KEYS[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_xla_compiles_it():
    tiles = Tiles()
    images = tf.constant(np.random.default_rng(0).random((4, SIDE, SIDE, 3)), tf.float32)
    compiled = tf.function(lambda *arguments: tiles(*arguments), jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(images, KEYS[:4]), tiles(images, KEYS[:4]), atol=1e-5)


def test_the_shape_is_known_and_the_layer_is_saved():
    tiles = Tiles(grid=2, share=0.5, gray=0.1)
    assert tiles.compute_output_shape((None, 32, 48, 3)) == (None, 4, 8, 12, 3)
    assert tiles(tf.zeros((2, 32, 48, 3)), KEYS[:2]).shape == (2, 4, 8, 12, 3)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(tiles))
    assert (copy.grid, copy.share, copy.gray) == (2, 0.5, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": 1}, r"`grid` must be an integer of at least 2\. Received: grid=1"),
        ({"share": 0}, r"`share` must lie in \(0, 1\]\. Received: share=0"),
        ({"gray": 1.5}, r"`gray` must lie in \[0, 1\]\. Received: gray=1.5"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tiles(**arguments)


def test_images_without_a_pixel_per_cell_are_refused():
    with pytest.raises(ValueError, match=r"at least 3 pixels per side.*Received: 2 pixels"):
        Tiles()(tf.zeros((1, 2, 2, 3)), KEYS[:1])
