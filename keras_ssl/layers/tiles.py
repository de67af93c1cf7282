"""Cuts images into a grid of tiles that do not touch each other."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.augment.constructor_arguments import constructor_arguments

_LEAST_DEVIATION = 1 / 255  # of a tile: one step of 8 bits; a flatter tile is not stretched
_PLACES, _GRAY = range(2)  # numbers of the keys from which the two are drawn


@keras.saving.register_keras_serializable(package="keras_ssl")
class Tiles(keras.layers.Layer):
    """Cuts each image into a grid of cells, and a tile out of each cell at a random place.

    Three things would tell where a tile comes from without looking at what it shows, and are removed:

    - Lines and textures that go on in the next tile: a tile is smaller than its cell and lies at a
      random place in it, so that there is a gap of random width between tiles.
    - Gradients of brightness and color across the image: each channel of a tile gets the mean and the
      standard deviation of that channel over all tiles of its image. (The reference makes them 0 and
      1. The network would then see other values in tiles than in whole images.)
    - Color fringes of lenses, which depend on the place in the image: a share of the images becomes
      gray.

    Args:
        grid: number of rows and of columns, at least 2.
        share: side of a tile as a share of the side of its cell, in (0, 1], rounded to pixels. With 1,
            tiles touch.
        gray: share of images without color, in [0, 1]. Images without three channels are not changed.

    Raises:
        ValueError: if an argument is out of range; when it is called, if a cell or a tile would have no
            pixel.

    Example:
        >>> keys = tf.zeros((4, 2), tf.uint32)
        >>> Tiles(grid=3)(tf.random.uniform((4, 96, 96, 3)), keys).shape
        TensorShape([4, 9, 24, 24, 3])

    Source: Doersch et al. 2015, "Unsupervised Visual Representation Learning by Context Prediction",
    section 3.1; Noroozi and Favaro 2016, section 3.4. google/revisiting-self-supervised has crops of
    255 pixels, cells of 85 and tiles of 64 (the share of 0.75), and makes 66 % of the images gray.
    """

    def __init__(self, grid: int = 3, share: float = 0.75, gray: float = 0.66, **kwargs):
        if isinstance(grid, bool) or not isinstance(grid, int) or grid < 2:
            raise ValueError(f"`grid` must be an integer of at least 2. Received: grid={grid!r}")
        if not 0 < share <= 1:
            raise ValueError(f"`share` must lie in (0, 1]. Received: share={share}")
        if not 0 <= gray <= 1:
            raise ValueError(f"`gray` must lie in [0, 1]. Received: gray={gray}")
        # Pixels are always float32, also if the network uses half precision.
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.grid = grid
        self.share = share
        self.gray = gray
        self.built = True

    def sides(self, side: int) -> tuple[int, int]:
        """Returns the sides of a cell and of a tile in pixels, for images of `side` pixels.

        Raises:
            ValueError: if images are too small.
        """
        cell = side // self.grid
        tile = round(cell * self.share)
        if tile < 1:
            raise ValueError(
                f"Images must have at least {self.grid} pixels per side, and a tile at least one. "
                f"Received: {side} pixels, grid={self.grid}, share={self.share}"
            )
        return cell, tile

    def call(self, images, keys):
        """Returns `(batch, grid * grid, tile_height, tile_width, channels)` tiles in reading order.

        Args:
            images: `(batch, height, width, channels)`. Pixels that do not fill a cell are left out, at
                opposite borders.
            keys: `(batch, 2)` uint32 keys of the images; see `keras_ssl.augment.random`.
        """
        images = tf.cast(images, tf.float32)
        if images.shape[-1] == 3 and self.gray:
            is_gray = random.uniform(random.fold(keys, _GRAY), 1) < self.gray  # (batch, 1)
            gray = tf.image.rgb_to_grayscale(images)
            images = tf.where(is_gray[:, :, None, None], gray, images)
        return self.normalize(self.cut(images, keys))

    def cut(self, images: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Returns the tiles with the pixels of the images; see `call`."""
        height, width, channels = images.shape[1:]
        (cell_height, tile_height), (cell_width, tile_width) = self.sides(height), self.sides(width)
        grid, count = self.grid, self.grid**2
        top, left = (height - grid * cell_height) // 2, (width - grid * cell_width) // 2
        images = images[:, top : top + grid * cell_height, left : left + grid * cell_width]
        cells = tf.reshape(images, (-1, grid, cell_height, grid, cell_width, channels))
        cells = tf.transpose(cells, (0, 1, 3, 2, 4, 5))
        cells = tf.reshape(cells, (-1, cell_height, cell_width, channels))  # (batch * count, ...)

        numbers = random.uniform(random.fold(keys, _PLACES), 2 * count)
        down, right = tf.split(numbers, 2, axis=1)  # (batch, count) each
        rows = _window(down, cell_height, tile_height)  # (batch * count, tile_height)
        columns = _window(right, cell_width, tile_width)
        tiles = tf.gather(
            tf.gather(cells, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1
        )
        return tf.reshape(tiles, (-1, count, tile_height, tile_width, channels))

    def normalize(self, tiles: tf.Tensor) -> tf.Tensor:
        """Gives each tile, per channel, the mean and the standard deviation of its image's tiles."""
        mean, deviation = _moments(tiles, [2, 3])  # (batch, count, 1, 1, channels)
        of_image, deviation_of_image = _moments(tiles, [1, 2, 3])
        scale = tf.where(deviation > _LEAST_DEVIATION, deviation_of_image / deviation, 1.0)
        return (tiles - mean) * scale + of_image

    def compute_output_shape(self, input_shape, keys_shape=None):
        """Returns `(batch, grid * grid, tile_height, tile_width, channels)`."""
        batch, height, width, channels = input_shape
        (_, tile_height), (_, tile_width) = self.sides(height), self.sides(width)
        return batch, self.grid**2, tile_height, tile_width, channels

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **constructor_arguments(self)}


def join_tiles(tiles: tf.Tensor) -> np.ndarray:
    """Returns images in which tiles lie side by side, with white gaps, to look at.

    Args:
        tiles: `(batch, grid * grid, height, width, channels)`.

    Returns:
        `(batch, grid * (height + 1), grid * (width + 1), channels)` float32 in [0, 1].
    """
    gap = ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0))
    padded = np.pad(np.clip(tiles, 0, 1), gap, constant_values=1)
    batch, count, height, width, channels = padded.shape
    grid = round(count**0.5)
    rows = padded.reshape(batch, grid, grid, height, width, channels).transpose(0, 1, 3, 2, 4, 5)
    return rows.reshape(batch, grid * height, grid * width, channels)


def _window(numbers: tf.Tensor, cell: int, tile: int) -> tf.Tensor:
    """Returns the positions of a tile's pixels in its cell, `(batch * count, tile)`."""
    # In float32, a number just below 1 times the number of places may round up.
    first = tf.minimum(tf.cast(numbers * (cell - tile + 1), tf.int32), cell - tile)
    return tf.reshape(first, (-1, 1)) + tf.range(tile)


def _moments(tiles: tf.Tensor, axes: list[int]) -> tuple[tf.Tensor, tf.Tensor]:
    mean = tf.reduce_mean(tiles, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(tiles - mean), axes, keepdims=True)
    return mean, tf.sqrt(variance)
