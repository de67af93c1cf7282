"""Predictions for each place of a feature map, and their enlargement."""

import keras
import numpy as np
from keras import ops

from keras_ssl.layers.batch_norm import BatchNorm


@keras.saving.register_keras_serializable(package="keras_ssl")
class MapHead(keras.layers.Layer):
    """Logits for each place of a feature map: a 3x3 convolution, batch normalization, ReLU, a 1x1 one.

    Call arguments:
        maps: (batch, height, width, channels).

    Returns:
        (batch, height, width, units) float32, also under mixed precision.

    Args:
        units: number of logits at each place, positive.
        hidden_units: filters of the 3x3 convolution, positive.

    Raises:
        ValueError: if a number of units is not positive.

    Example:
        >>> MapHead(units=262)(keras.ops.ones((2, 4, 4, 64))).shape
        TensorShape([2, 4, 4, 262])
    """

    def __init__(self, units: int, hidden_units: int = 256, **kwargs):
        for name, value in (("units", units), ("hidden_units", hidden_units)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        super().__init__(**kwargs)
        self.units = units
        self.hidden_units = hidden_units

    def build(self, input_shape):
        """Creates the layers for inputs of `(batch, height, width, channels)`."""
        self.convolution = keras.layers.Conv2D(
            self.hidden_units,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name="convolution",
        )
        self.norm = BatchNorm(name="norm")
        self.logits = keras.layers.Dense(self.units, dtype="float32", name="logits")
        hidden = (*input_shape[:-1], self.hidden_units)
        self.convolution.build(input_shape)
        self.norm.build(hidden)
        self.logits.build(hidden)

    def call(self, maps, training=False):
        """Returns the logits at each place."""
        hidden = ops.relu(self.norm(self.convolution(maps), training=training))
        return self.logits(hidden)

    def compute_output_shape(self, input_shape):
        """Returns `(batch, height, width, units)`."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "hidden_units": self.hidden_units,
        }


def resize_maps(maps, height: int, width: int):
    """Returns maps `(batch, h, w, channels)` resized bilinearly to `(batch, height, width, channels)`.

    Pixels are areas, as in TensorFlow 2 and PyTorch: the borders of both grids coincide. The sums are
    matrix products, whose gradients are deterministic on every device and compile for all of them.

    Args:
        maps: float tensor with a static height and width.
        height: height of the result, positive.
        width: width of the result, positive.

    Example:
        >>> resize_maps(keras.ops.ones((2, 4, 4, 8)), 8, 8).shape
        TensorShape([2, 8, 8, 8])
    """
    if maps.shape[1] != height:
        maps = ops.einsum("yh,bhwc->bywc", _interpolation(height, maps.shape[1]), maps)
    if maps.shape[2] != width:
        maps = ops.einsum("xw,bhwc->bhxc", _interpolation(width, maps.shape[2]), maps)
    return maps


def _interpolation(count: int, old_count: int) -> np.ndarray:
    """Returns the weights of the old places for each new one, (count, old_count)."""
    places = (np.arange(count) + 0.5) * old_count / count - 0.5
    places = np.clip(places, 0, old_count - 1)
    distances = np.abs(places[:, None] - np.arange(old_count))
    return np.maximum(0, 1 - distances).astype(np.float32)
