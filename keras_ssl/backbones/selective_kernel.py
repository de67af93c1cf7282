"""Selective kernels: a learned, per-image mixture of two streams of feature maps."""

import keras
from keras import ops

from keras_ssl.layers.batch_norm import BatchNorm


@keras.saving.register_keras_serializable(package="keras_ssl")
class SelectiveKernel(keras.layers.Layer):
    """Mixes the two halves of the channels with weights computed from the entire image.

    The two streams are the two halves of one 3x3 convolution with twice the filters, as in SimCLRv2
    (the original paper uses a 3x3 and a dilated 3x3). Their sum is averaged over the image and passed
    through a small two-layer network, whose softmax weights the streams per channel.

    Args:
        filters: positive, the number of channels of one stream.
        ratio: positive, the number of hidden units as a fraction of `filters`; at least 32 units are
            used.

    Raises:
        ValueError: if a number is not positive, or the input does not have `2 * filters` channels.

    Example:
        >>> SelectiveKernel(64)(keras.ops.ones((2, 8, 8, 128))).shape
        TensorShape([2, 8, 8, 64])

    Source: Li et al. 2019, "Selective Kernel Networks"; `SK_Conv2D` of google-research/simclr.
    """

    minimum_units = 32

    def __init__(self, filters: int, ratio: float = 0.0625, **kwargs):
        if filters < 1:
            raise ValueError(f"`filters` must be at least 1. Received: filters={filters}")
        if not ratio > 0:
            raise ValueError(f"`ratio` must be positive. Received: ratio={ratio}")
        super().__init__(**kwargs)
        self.filters = filters
        self.ratio = ratio
        units = max(int(filters * ratio), self.minimum_units)
        self.squeeze = keras.layers.Dense(
            units, use_bias=False, kernel_initializer="he_normal", dtype=self.dtype_policy
        )
        self.norm = BatchNorm(dtype=self.dtype_policy)
        self.excite = keras.layers.Dense(2 * filters, use_bias=False, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Creates the weights for inputs of `(batch, height, width, 2 * filters)`."""
        if len(input_shape) != 4 or input_shape[-1] != 2 * self.filters:
            raise ValueError(
                "The input must have the shape (batch, height, width, 2 * filters), with "
                f"filters={self.filters}. Received: input_shape={tuple(input_shape)}"
            )
        self.squeeze.build((None, self.filters))
        self.norm.build((None, self.squeeze.units))
        self.excite.build((None, self.squeeze.units))

    def call(self, inputs, training=False):
        """Maps (batch, height, width, 2 * filters) to (batch, height, width, filters)."""
        first, second = ops.split(inputs, 2, axis=-1)  # (batch, height, width, filters)
        summary = ops.mean(first + second, axis=(1, 2))  # (batch, filters)
        hidden = ops.relu(self.norm(self.squeeze(summary), training=training))
        logits = self.excite(hidden)  # (batch, 2 * filters)
        # The softmax of two values is a sigmoid of their difference.
        share = ops.sigmoid(logits[:, : self.filters] - logits[:, self.filters :])
        share = share[:, None, None, :]
        return first * share + second * (1 - share)

    def compute_output_shape(self, input_shape):
        """Returns `(batch, height, width, filters)`."""
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "filters": self.filters, "ratio": self.ratio}
