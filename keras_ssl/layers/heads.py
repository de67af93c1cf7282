"""Heads that sit on an encoder during pretraining and are thrown away afterwards."""

import keras

from keras_ssl.layers.batch_norm import BatchNorm


@keras.saving.register_keras_serializable(package="keras_ssl")
class ProjectionHead(keras.layers.Layer):
    """SimCLR's projection head: dense layers with batch normalisation after each.

    No layer has a bias, ReLU stands between layers, and the last batch normalisation has no offset,
    as in google-research/simclr.

    Args:
        units: units of the last layer, the dimension of the embedding.
        hidden_units: units of every layer before it; `None` takes the width of the input, as the
            reference code does.
        depth: number of dense layers: 2 in SimCLR, 3 in SimCLRv2, 1 for a linear head.

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> ProjectionHead(units=128)(keras.ops.ones((4, 512))).shape
        TensorShape([4, 128])

    Source: Chen et al. 2020 (SimCLR), section 4.2; `model_util.py` of google-research/simclr.
    """

    def __init__(self, units: int = 128, hidden_units: int | None = None, depth: int = 2, **kwargs):
        for name, value in (("units", units), ("hidden_units", hidden_units), ("depth", depth)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        super().__init__(**kwargs)
        self.units = units
        self.hidden_units = hidden_units
        self.depth = depth

    def build(self, input_shape):
        """Creates the layers for inputs of `(batch, features)`."""
        shape = tuple(input_shape)
        self.stack = []
        for number in range(1, self.depth + 1):
            last = number == self.depth
            units = self.units if last else self.hidden_units or input_shape[-1]
            self.stack += [
                keras.layers.Dense(units, use_bias=False, name=f"dense_{number}"),
                BatchNorm(center=not last, name=f"norm_{number}"),
            ]
            if not last:
                self.stack.append(keras.layers.ReLU(name=f"relu_{number}"))
        for layer in self.stack:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, features, training=False):
        """Maps (batch, features) to (batch, units)."""
        for layer in self.stack:
            if isinstance(layer, BatchNorm):
                features = layer(features, training=training)
            else:
                features = layer(features)
        return features

    def compute_output_shape(self, input_shape):
        """Returns `(batch, units)`."""
        return (input_shape[0], self.units)

    def get_config(self):
        """Returns the arguments of the constructor."""
        config = {"units": self.units, "hidden_units": self.hidden_units, "depth": self.depth}
        return {**super().get_config(), **config}
