"""Batch normalisation by the statistics of all replicas, with one exchange each way."""

import tensorflow as tf

from keras_ssl import distribute


def synchronised_norm(
    inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalises the replicas' batches as if they were one.

    One all-reduce of 2C + 1 numbers forward (sums, sums of squares, count) and one of 2C backward,
    where `keras.layers.BatchNormalization` makes three and two. The gradients of `gamma` and `beta`
    are those of this replica's batch, as every other weight's; the optimizer sums them.

    Args:
        inputs: (batch, ..., C) of any floating-point type; replicas may hold batches of different size.
        gamma: (C,) factor, in the type the statistics are computed in: float32 or float64.
        beta: (C,) offset, of the same type.
        epsilon: added to the variance.

    Returns:
        The normalised inputs, in their type, and the (C,) mean and variance (the population's) of the
        global batch, through which no gradient flows.

    Example:
        >>> images = keras.random.normal((8, 4, 4, 3))
        >>> outputs, mean, variance = synchronised_norm(images, tf.ones(3), tf.zeros(3), 1e-5)

    Source: the gradient of Ioffe and Szegedy 2015, section 3, with sums over all replicas.
    """
    axes = list(range(inputs.shape.rank - 1))

    @tf.custom_gradient
    def normalise(inputs, gamma, beta):
        values = tf.cast(inputs, gamma.dtype)
        own_count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), gamma.dtype)
        sums = [
            tf.reduce_sum(values, axes),
            tf.reduce_sum(tf.square(values), axes),
            own_count[None],
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
