"""Cosine regression, the loss of BYOL: makes predictions point in the direction of their targets."""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class CosineRegression(keras.losses.Loss):
    """Squared distance between normalized embeddings: `2 - 2 * cos`, from 0 (equal) to 4 (opposite).

    It is always computed in float32. Gradients flow into both arguments; `keras_ssl.methods.BYOL`
    stops those of the targets.

    Call arguments:
        targets: (batch, dim).
        predictions: (batch, dim).

    Raises:
        ValueError: when called, if the two shapes differ or are not `(batch, dim)`.

    Example:
        >>> z = keras.ops.convert_to_tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> float(CosineRegression()(z, z)), float(CosineRegression()(z, -z))
        (0.0, 4.0)

    Source: Grill et al. 2020, "Bootstrap Your Own Latent", equation 2.
    """

    def __init__(self, name: str = "cosine_regression", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, targets, predictions):
        """Returns `(batch,)` losses."""
        if len(targets.shape) != 2 or targets.shape != predictions.shape:
            raise ValueError(
                "`targets` and `predictions` must have the same shape (batch, dim). Received: "
                f"targets.shape={tuple(targets.shape)}, predictions.shape={tuple(predictions.shape)}"
            )
        # The gradient of Keras' `normalize` is NaN for embeddings of length zero.
        targets = tf.math.l2_normalize(targets, axis=-1)
        predictions = tf.math.l2_normalize(predictions, axis=-1)
        return 2 - 2 * ops.sum(targets * predictions, axis=-1)
