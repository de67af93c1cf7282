"""Bicubic interpolation as a matrix, so that each image of a batch can be resized differently."""

import tensorflow as tf


def bicubic_weights(
    start: tf.Tensor, length: tf.Tensor, size: int | tf.Tensor, out: int
) -> tf.Tensor:
    """Returns the weights that resize a region of each image along one axis.

    They are those of `tf.image.resize(method="bicubic")`: Keys' kernel with a = -1/2, where pixels
    outside the region have weight zero and the remaining weights are normalized to sum to one.

    Args:
        start: (batch,) float32 first pixel of each region.
        length: (batch,) float32 number of pixels of each region.
        size: number of pixels of the images along this axis, a number or a scalar tensor.
        out: number of pixels of the output along this axis.

    Returns:
        (batch, out, size) float32 weights.

    Source: Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing".
    """
    target = (tf.range(out, dtype=tf.float32) + 0.5) / out  # (out,)
    source = (
        target[None] * length[:, None] - 0.5 + start[:, None]
    )  # (batch, out), pixel coordinates
    pixel = tf.cast(tf.range(size), tf.float32)
    x = tf.abs(source[:, :, None] - pixel)  # (batch, out, size)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])  # (batch, size)
    weights = weights * tf.cast(inside, tf.float32)[:, None]
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)
