"""Batch normalization with the statistics of all replicas, with one all-reduce per direction."""

import tensorflow as tf

from keras_ssl import distribute


def synchronised_norm(
    inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalizes the batches of all replicas as if they were one batch.

    It needs one all-reduce of 2C + 1 numbers in the forward pass (sums, sums of squares, count) and one
    of 2C in the backward pass, where `keras.layers.BatchNormalization` needs three and two. The
    gradients of `gamma` and `beta` are those of this replica's batch, as for all other weights; the
    optimizer sums them.

    Args:
        inputs: (batch, ..., C) of any floating-point dtype. Batch sizes may differ between replicas.
        gamma: (C,) factor, float32 or float64. Statistics are computed in this dtype.
        beta: (C,) offset of the same dtype.
        epsilon: added to the variance.

    Returns:
        The normalized inputs, in their dtype, and the (C,) mean and population variance of the global
        batch, through which no gradient flows.

    Example:
        >>> images = keras.random.normal((8, 4, 4, 3))
        >>> outputs, mean, variance = synchronised_norm(images, tf.ones(3), tf.zeros(3), 1e-5)

    Source: the gradient of Ioffe and Szegedy 2015, section 3, with sums over all replicas.
    """
    axes = list(range(inputs.shape.rank - 1))

    @tf.custom_gradient
    def normalise(inputs, gamma, beta):
        values = tf.cast(inputs, gamma.dtype)
        local_count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), gamma.dtype)
        sums = [
            tf.reduce_sum(values, axes),
            tf.reduce_sum(tf.square(values), axes),
            local_count[None],
        ]
        channels = inputs.shape[-1]
        total, squares, count = tf.split(
            distribute.all_reduce_sum(tf.concat(sums, 0)), [channels, channels, 1]
        )
        mean = total / count
        variance = tf.maximum(squares / count - tf.square(mean), 0)
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse
        outputs = tf.cast(values * scale + (beta - mean * scale), inputs.dtype)

        def gradients(of_outputs, *_):
            of_outputs = tf.cast(of_outputs, gamma.dtype)
            of_beta = tf.reduce_sum(of_outputs, axes)
            with_values = tf.reduce_sum(of_outputs * tf.cast(inputs, gamma.dtype), axes)
            of_gamma = (with_values - of_beta * mean) * inverse
            global_beta, global_gamma = tf.split(
                distribute.all_reduce_sum(tf.concat([of_beta, of_gamma], 0)), 2
            )
            # scale * (of_outputs - global_beta / count - normalised * global_gamma / count)
            slope = -scale * inverse * global_gamma / count
            offset = -scale * global_beta / count - slope * mean
            of_inputs = of_outputs * scale + tf.cast(inputs, gamma.dtype) * slope + offset
            return tf.cast(of_inputs, inputs.dtype), of_gamma, of_beta

        return (outputs, mean, variance), gradients

    outputs, mean, variance = normalise(inputs, gamma, beta)
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)
