"""Tokens of a vision transformer: made from patches, and reduced to one vector per image."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_ssl.backbones.positions import resize_positions, sincos_positions

POSITIONS = ("learned", "sincos")
POOLINGS = ("token", "mean")


@keras.saving.register_keras_serializable(package="keras_ssl")
class PatchTokens(keras.layers.Layer):
    """Makes tokens of patches: adds the embeddings of their positions, and puts a class token first.

    Args:
        grid: rows and columns of patches that have embeddings. For another number of patches, the
            embeddings are resized by cubic interpolation.
        positions: "learned" or "sincos", fixed sines and cosines, with zeros for the class token.
        resize_offset: see `keras_ssl.backbones.ViT`.

    Example:
        >>> PatchTokens((2, 2))(keras.ops.ones((8, 3, 4, 16))).shape
        TensorShape([8, 13, 16])

    Source: Dosovitskiy et al. 2020, equation 1.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        positions: str = "learned",
        resize_offset: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.grid = (grid[0], grid[1])  # a list in a saved configuration
        self.positions = positions
        self.resize_offset = resize_offset

    def build(self, input_shape):
        """Creates the weights for patches of (batch, rows, columns, dim)."""
        rows, columns = self.grid
        dim = input_shape[-1]
        learned = self.positions == "learned"
        normal = keras.initializers.RandomNormal(stddev=0.02)
        # Not cast to the precision of the layer: interpolation needs float32.
        self.class_token = self.add_weight(
            shape=(1, 1, dim), initializer=normal, autocast=False, name="class_token"
        )
        self.embeddings = self.add_weight(
            shape=(1, 1 + rows * columns, dim),
            initializer=normal.clone() if learned else self._fixed_positions,
            trainable=learned,
            autocast=False,
            name="positions",
        )

    def _fixed_positions(self, shape, dtype=None):
        table = sincos_positions(*self.grid, shape[-1])
        table = np.pad(table, [(1, 0), (0, 0)])  # zeros for the class token
        return ops.convert_to_tensor(table[None], dtype)

    def call(self, patches):
        """Maps patches (batch, rows, columns, dim) to tokens (batch, 1 + rows * columns, dim)."""
        dynamic, static = tf.shape(patches), patches.shape
        size = tuple(static[axis] or dynamic[axis] for axis in (1, 2))
        embeddings = tf.convert_to_tensor(self.embeddings)[0]  # (1 + positions, dim)
        places = resize_positions(embeddings[1:], size, self.grid, self.resize_offset)
        patches = tf.reshape(patches, (dynamic[0], size[0] * size[1], static[3]))
        patches += tf.cast(places, patches.dtype)
        first = tf.convert_to_tensor(self.class_token) + embeddings[:1]  # (1, 1, dim)
        first = tf.tile(tf.cast(first, patches.dtype), (dynamic[0], 1, 1))
        return tf.concat([first, patches], axis=1)

    def compute_output_shape(self, input_shape):
        """Returns (batch, 1 + rows * columns, dim)."""
        batch, rows, columns, dim = input_shape
        count = None if None in (rows, columns) else 1 + rows * columns
        return (batch, count, dim)

    def get_config(self):
        """Returns the arguments of the constructor."""
        own = {
            "grid": self.grid,
            "positions": self.positions,
            "resize_offset": self.resize_offset,
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_ssl")
class TokenPooling(keras.layers.Layer):
    """Reduces tokens to one vector per image.

    Args:
        pooling: "token", the class token, or "mean", the mean of all other tokens.

    Example:
        >>> TokenPooling("mean")(keras.ops.ones((8, 13, 16))).shape
        TensorShape([8, 16])
    """

    def __init__(self, pooling: str = "token", **kwargs):
        super().__init__(**kwargs)
        self.pooling = pooling

    def call(self, tokens):
        """Maps (batch, tokens, dim) to (batch, dim)."""
        return tokens[:, 0] if self.pooling == "token" else ops.mean(tokens[:, 1:], axis=1)

    def compute_output_shape(self, input_shape):
        """Returns (batch, dim)."""
        return (input_shape[0], input_shape[2])

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "pooling": self.pooling}
