"""Averages feature maps in the cells of a grid."""

import keras
from keras import ops


class GridPooling(keras.layers.Layer):
    """Averages feature maps in the cells of a grid of rows and columns.

    Cell i of g cells over n pixels covers the pixels from floor(i n / g) to ceil((i + 1) n / g).
    Neighboring cells share a pixel where g does not divide n.

    Args:
        rows: number of rows, positive.
        columns: number of columns, positive.

    Example:
        >>> GridPooling(3, 3)(keras.ops.ones((2, 8, 8, 16))).shape
        TensorShape([2, 144])

    Source: the cells are those of PyTorch's `adaptive_avg_pool2d`.
    """

    def __init__(self, rows: int, columns: int, **kwargs):
        super().__init__(**kwargs)
        self.rows = rows
        self.columns = columns

    def call(self, maps):
        """Maps (batch, height, width, features) to (batch, rows * columns * features)."""
        height, width = ops.shape(maps)[1:3]
        vertical = _cells(height, self.rows, maps.dtype)  # (rows, height)
        horizontal = _cells(width, self.columns, maps.dtype)  # (columns, width)
        pooled = ops.einsum("rh,bhwf->brwf", vertical, maps)
        pooled = ops.einsum("cw,brwf->brcf", horizontal, pooled)
        return ops.reshape(pooled, (-1, self.rows * self.columns * maps.shape[-1]))

    def compute_output_shape(self, input_shape):
        """Returns (batch, rows * columns * features)."""
        return input_shape[0], self.rows * self.columns * input_shape[-1]


def _cells(length, count: int, dtype: str):
    """Returns the (count, length) matrix that averages the pixels of each cell."""
    pixels = ops.arange(length)
    cells = ops.arange(count)[:, None]
    first, end = cells * length // count, -(-(cells + 1) * length // count)
    inside = ops.cast((pixels >= first) & (pixels < end), "float32")
    return ops.cast(inside / ops.sum(inside, axis=1, keepdims=True), dtype)
