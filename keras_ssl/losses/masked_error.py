"""The squared error of a part of an image."""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class MaskedError(keras.losses.Loss):
    """Mean squared error of the pixels of a mask; all other pixels of both images are ignored.

    Each image counts equally, whatever the size of its mask; an image with an empty mask has no error.

    Call arguments:
        target: (batch, height, width, channels).
        made: (batch, height, width, channels), the images to judge.
        mask: (batch, height, width) bool, True for the pixels that count.

    Raises:
        ValueError: when called, if the shapes do not match.

    Example:
        >>> left = keras.ops.arange(4)[None, None, :] < 2
        >>> target, made = keras.ops.zeros((1, 4, 4, 3)), keras.ops.ones((1, 4, 4, 3))
        >>> float(MaskedError()(target, made, keras.ops.broadcast_to(left, (1, 4, 4))))
        1.0

    Source: Pathak et al. 2016, "Context Encoders", equation 1, divided by the number of values.
    """

    def __init__(self, name: str = "masked_error", **kwargs):
        super().__init__(name=name, **kwargs)

    def __call__(self, target, made, mask, sample_weight=None):
        """Returns the loss, reduced according to `reduction`."""
        return super().__call__((target, mask), made, sample_weight)

    def call(self, target_and_mask, made):
        """Returns `(batch,)` errors; `target_and_mask` is a pair of images and their masks."""
        target, mask = target_and_mask
        shape = tf.TensorShape(made.shape)
        if not (
            shape.rank == 4
            and shape.is_compatible_with(target.shape)
            and shape[:-1].is_compatible_with(mask.shape)
        ):
            raise ValueError(
                "`target` and `made` must be (batch, height, width, channels), `mask` the same without "
                "channels. "
                f"Received: target.shape={tuple(target.shape)}, made.shape={tuple(made.shape)}, "
                f"mask.shape={tuple(mask.shape)}"
            )
        counts = ops.cast(mask, made.dtype)[..., None]  # Keras converted the booleans to floats
        errors = ops.sum(counts * ops.square(target - made), axis=(1, 2, 3))
        values = ops.sum(counts, axis=(1, 2, 3)) * made.shape[-1]
        return errors / ops.maximum(values, 1.0)
