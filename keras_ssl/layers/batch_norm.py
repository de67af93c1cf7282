"""Batch normalization with TensorFlow's fused kernel and the defaults of the reference code."""

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.layers.synchronised_norm import synchronised_norm

_FUSED_DTYPES = (tf.float32, tf.bfloat16, tf.float16)


@keras.saving.register_keras_serializable(package="keras_ssl")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalization with the variables and results of Keras' layer, but faster.

    Feature maps of shape `(batch, height, width, channels)` in float32, bfloat16 or float16 use
    TensorFlow's fused kernel, forward and backward. Training on several replicas with
    `synchronized=True` uses the statistics of the global batch, with two all-reduces per layer and step
    instead of Keras' five. Everything else falls back to `keras.layers.BatchNormalization`: inputs of
    another rank or dtype, masks, and batch renormalization. All paths keep the same moving statistics
    (the variance is the population variance, divided by n). One replica therefore equals two, and
    weights can be exchanged between this layer and Keras'.

    Args:
        momentum: fraction of the moving statistics kept at each step, in [0, 1]. 0.9 corresponds to
            PyTorch's momentum of 0.1.
        epsilon: positive, added to the variance. The default, 1e-5, is the smallest value that cuDNN
            accepts.
        center: whether to learn an offset, `beta`.
        scale: whether to learn a factor, `gamma`.
        gamma_initializer: "zeros" makes a residual block start as the identity.
        synchronized: whether the replicas of a distribution strategy share batch statistics.
        **kwargs: further arguments of `keras.layers.BatchNormalization`.

    Raises:
        ValueError: if `momentum` is not in [0, 1] or `epsilon` is not positive.

    Example:
        >>> layer = BatchNorm()
        >>> layer(keras.ops.ones((4, 8, 8, 16)), training=True).shape
        TensorShape([4, 8, 8, 16])

    Source: Ioffe and Szegedy 2015; momentum and epsilon as in google-research/simclr, BYOL
    (deepmind-research/byol) and PyTorch. Keras' own defaults are 0.99 and 1e-3.
    """

    def __init__(
        self,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        gamma_initializer: str | keras.initializers.Initializer = "ones",
        synchronized: bool = True,
        **kwargs,
    ):
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]. Received: momentum={momentum}")
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon}")
        super().__init__(
            momentum=momentum,
            epsilon=epsilon,
            center=center,
            scale=scale,
            gamma_initializer=gamma_initializer,
            synchronized=synchronized,
            **kwargs,
        )

    def call(self, inputs, training=None, mask=None):
        """Normalizes `(batch, ..., channels)` inputs; the output has the same shape."""
        # As in Keras, a frozen layer runs in inference mode.
        training = bool(training and self.trainable)
        if training and self._shares_statistics(inputs, mask):
            dtype = "float64" if inputs.dtype == tf.float64 else "float32"
            gamma, beta = self._factor_and_offset(inputs.shape[-1], dtype)
            outputs, mean, variance = synchronised_norm(inputs, gamma, beta, self.epsilon)
        elif mask is None and self._can_fuse(inputs):
            outputs, mean, variance = self._normalise(inputs, training)
        else:
            return super().call(inputs, training=training, mask=mask)
        if training:
            self._move_statistics(mean, variance)
        return outputs

    def _normalise(self, inputs, training):
        """Returns the outputs and, in training, the batch's mean and variance."""
        if training and inputs.dtype not in _FUSED_DTYPES:  # the kernel does not support float64
            mean, variance = tf.nn.moments(inputs, axes=list(range(inputs.shape.rank - 1)))
            gamma = self.gamma if self.scale else None
            beta = self.beta if self.center else None
            outputs = tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, self.epsilon)
            return outputs, mean, variance
        gamma, beta = self._factor_and_offset(inputs.shape[-1], "float32")
        result = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            # In training the kernel requires empty statistics and computes its own.
            mean=tf.zeros(0) if training else tf.cast(self.moving_mean, "float32"),
            variance=tf.zeros(0) if training else tf.cast(self.moving_variance, "float32"),
            epsilon=self.epsilon,
            is_training=training,
        )
        if not training:
            return result.y, None, None
        # The kernel multiplies the variance by n / (n - 1); Keras and the synchronised path keep the
        # population variance. `multiply_no_nan` gives 0 for a single value per channel, where some
        # kernels divide by n - 1 = 0.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), "float32")
        variance = tf.math.multiply_no_nan(result.batch_variance, (count - 1) / count)
        return result.y, result.batch_mean, variance

    def _move_statistics(self, mean, variance):
        keep, take = self.momentum, 1 - self.momentum
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(tf.cast(moving, value.dtype) * keep + value * take)

    def _factor_and_offset(self, channels, dtype):
        gamma = tf.cast(self.gamma, dtype) if self.scale else tf.ones(channels, dtype)
        beta = tf.cast(self.beta, dtype) if self.center else tf.zeros(channels, dtype)
        return gamma, beta

    def _shares_statistics(self, inputs, mask):
        return (
            self.synchronized
            and distribute.replica_count() > 1
            and mask is None
            and self.axis in (-1, len(inputs.shape) - 1)
            and not getattr(self, "renorm", False)  # new in Keras 3.14
        )

    def _can_fuse(self, inputs):
        return (
            len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not getattr(self, "renorm", False)  # new in Keras 3.14
            and inputs.dtype in _FUSED_DTYPES
            and inputs.dtype == self.compute_dtype
        )
