"""Context network: what is above each place of a grid, by causal convolutions."""

import keras


@keras.saving.register_keras_serializable(package="keras_ssl")
class ContextNetwork(keras.layers.Layer):
    """Summarizes, for each place of a grid of patches, the rows up to and including its own.

    It is a stack of residual blocks: a dense layer per place, a convolution over three columns of the
    row above and its own, and another dense layer. Nothing below a row reaches it. There is no
    normalization.

    Args:
        hidden_units: filters inside of a block.
        depth: number of blocks; a context reaches as many rows up, and columns to each side.

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> ContextNetwork()(keras.ops.ones((4, 7, 7, 512))).shape
        TensorShape([4, 7, 7, 512])

    Source: Henaff et al. 2019, "Data-Efficient Image Recognition with Contrastive Predictive Coding",
    appendix (five blocks with 256 filters).
    """

    def __init__(self, hidden_units: int = 256, depth: int = 5, **kwargs):
        for name, value in (("hidden_units", hidden_units), ("depth", depth)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        super().__init__(**kwargs)
        self.hidden_units = hidden_units
        self.depth = depth

    def build(self, input_shape):
        """Creates the layers for grids of `(batch, rows, columns, dim)`."""
        self.stack = []
        for number in range(1, self.depth + 1):
            block = [
                keras.layers.Conv2D(self.hidden_units, 1, name=f"in_{number}"),
                keras.layers.ReLU(name=f"relu_{number}a"),
                # One row above, none below: the convolution ends with the row of its output.
                keras.layers.ZeroPadding2D(((1, 0), (1, 1)), name=f"pad_{number}"),
                keras.layers.Conv2D(self.hidden_units, (2, 3), name=f"above_{number}"),
                keras.layers.ReLU(name=f"relu_{number}b"),
                keras.layers.Conv2D(input_shape[-1], 1, name=f"out_{number}"),
            ]
            shape = tuple(input_shape)
            for layer in block:
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
            self.stack += block

    def call(self, grid):
        """Returns contexts of the same shape, `(batch, rows, columns, dim)`."""
        per_block = len(self.stack) // self.depth
        for first in range(0, len(self.stack), per_block):
            change = grid
            for layer in self.stack[first : first + per_block]:
                change = layer(change)
            grid = grid + change
        return grid

    def compute_output_shape(self, input_shape):
        """Returns the shape of the input."""
        return tuple(input_shape)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "hidden_units": self.hidden_units, "depth": self.depth}
