"""Multi-head self-attention, with the weights of queries, keys and values in one matrix."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention.

    softmax(q k^T / sqrt(dim / heads)) v for each head, whose outputs are concatenated and projected.
    Queries, keys and values are computed by one matrix, as in timm. The softmax is computed in float32,
    also under mixed precision.

    Args:
        heads: number of heads, which must divide the length of the tokens.

    Raises:
        ValueError: if `heads` does not divide the length of the tokens.

    Example:
        >>> SelfAttention(heads=4)(keras.ops.ones((8, 13, 16))).shape
        TensorShape([8, 13, 16])

    Source: Vaswani et al. 2017, section 3.2. Initialization: a normal distribution with a standard
    deviation of 0.02 and zero biases, as `vision_transformer.py` of facebookresearch/dino.
    """

    def __init__(self, heads: int, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape):
        """Creates the weights for tokens of (batch, tokens, dim)."""
        dim = input_shape[-1]
        if dim % self.heads:
            raise ValueError(
                "`heads` must divide the length of the tokens. "
                f"Received: heads={self.heads}, tokens of shape {tuple(input_shape)}"
            )
        self.qkv, self.proj = (
            keras.layers.Dense(
                units,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
                dtype=self.dtype_policy,
                name=name,
            )
            for units, name in ((3 * dim, "qkv"), (dim, "proj"))
        )
        self.qkv.build(input_shape)
        self.proj.build(input_shape)

    def call(self, tokens):
        """Maps (batch, tokens, dim) to (batch, tokens, dim)."""
        _, count, dim = ops.shape(tokens)
        size = dim // self.heads
        q, k, v = (
            ops.transpose(ops.reshape(part, (-1, count, self.heads, size)), (0, 2, 1, 3))
            for part in ops.split(self.qkv(tokens), 3, axis=-1)
        )  # (batch, heads, tokens, size) each
        logits = ops.matmul(q * size**-0.5, ops.transpose(k, (0, 1, 3, 2)))
        shares = ops.softmax(ops.cast(logits, "float32"), axis=-1)
        x = ops.matmul(ops.cast(shares, v.dtype), v)  # (batch, heads, tokens, size)
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, count, dim))
        return self.proj(x)

    def compute_output_shape(self, input_shape):
        """Returns (batch, tokens, dim)."""
        return input_shape

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "heads": self.heads}
