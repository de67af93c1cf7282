"""Positions of patches: fixed sine and cosine embeddings, and resizing for other image sizes."""

import numpy as np
import tensorflow as tf

_PERIOD = 10_000  # longest period of the embeddings, in units of 2 pi patches
_SHARPNESS = -0.75  # the free parameter of cubic convolution; PyTorch's


def sincos_positions(rows: int, columns: int, dim: int) -> np.ndarray:
    """Returns fixed embeddings of the positions in a grid of patches, row by row.

    The first half of an embedding encodes the column, the second half the row, each by the sines and
    then the cosines of dim / 4 frequencies from 1 to 1 / 10,000 per patch.

    Args:
        rows: number of rows of the grid.
        columns: number of columns of the grid.
        dim: length of an embedding, a multiple of 4.

    Returns:
        float32 array (rows * columns, dim).

    Source: Vaswani et al. 2017, section 3.5; `util/pos_embed.py` of facebookresearch/mae. MoCo v3
    (`vits.py`) encodes the row first.
    """
    frequencies = _PERIOD ** -(np.arange(dim // 4) / (dim // 4))
    row, column = np.divmod(np.arange(rows * columns), columns)
    halves = []
    for place in (column, row):
        angles = place[:, None] * frequencies  # (rows * columns, dim / 4)
        halves += [np.sin(angles), np.cos(angles)]
    return np.concatenate(halves, axis=1).astype(np.float32)


def resize_positions(
    positions: tf.Tensor, size: tuple, grid: tuple[int, int], offset: float = 0.0
) -> tf.Tensor:
    """Returns the embeddings of a grid of patches, resized to another number of rows and columns.

    Cubic convolution, as PyTorch's `interpolate` with `mode="bicubic"`. A grid of the same size is
    returned as it is.

    Args:
        positions: float32 (rows * columns, dim).
        size: rows and columns of the result; integers, or scalar tensors.
        grid: rows and columns of `positions`.
        offset: added to both numbers of `size` to compute the scale, as DINO does with 0.1.

    Returns:
        float32 (size[0] * size[1], dim).
    """
    is_static = not any(tf.is_tensor(side) for side in size)
    if is_static and tuple(size) == tuple(grid):
        return positions
    dim = positions.shape[-1]
    is_other = tf.logical_or(tf.not_equal(size[0], grid[0]), tf.not_equal(size[1], grid[1]))
    offset = offset * tf.cast(is_other, tf.float32)
    rows, columns = (_cubic_matrix(new, old, offset) for new, old in zip(size, grid, strict=True))
    maps = tf.reshape(positions, (*grid, dim))
    return tf.reshape(tf.einsum("ri,cj,ijd->rcd", rows, columns, maps), (-1, dim))


def _cubic_matrix(new, old: int, offset) -> tf.Tensor:
    """Returns the (new, old) weights of cubic convolution along an axis; edges are repeated."""
    scale = (tf.cast(new, tf.float32) + offset) / old
    places = (tf.cast(tf.range(new), tf.float32) + 0.5) / scale - 0.5
    first = tf.floor(places)
    matrix = tf.zeros((), tf.float32)
    for step in (-1, 0, 1, 2):
        index = tf.clip_by_value(tf.cast(first, tf.int32) + step, 0, old - 1)
        weight = _cubic_weight(tf.abs(places - first - step))
        matrix += weight[:, None] * tf.one_hot(index, old)
    return matrix


def _cubic_weight(distance: tf.Tensor) -> tf.Tensor:
    """Returns the weight of a point at a distance of 0 to 2."""
    a, d = _SHARPNESS, distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return tf.where(d <= 1, near, far)
