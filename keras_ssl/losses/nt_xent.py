"""NT-Xent, the normalized temperature-scaled cross-entropy of SimCLR."""

import keras
import tensorflow as tf
from keras import ops

from keras_ssl import distribute
from keras_ssl.losses import blockwise


@keras.saving.register_keras_serializable(package="keras_ssl")
class NTXent(keras.losses.Loss):
    """Normalized temperature-scaled cross-entropy between two views.

    For each of the 2N embeddings, the other view of the same image is the positive, and the other
    2N - 2 embeddings, of both views, are the negatives. The loss is the mean over the 2N rows, as in
    the paper, lightly and solo-learn. google-research/simclr reports the sum of the two directions,
    which is twice as large. An encoder that maps all images to one point gives `log(2N - 1)`.

    Under a distribution strategy the negatives come from all replicas. Similarities are always computed
    in float32, and in blocks for a large batch: values and gradients are the same, and less memory is
    used.

    Args:
        temperature: positive; the paper's best value is 0.1 for ImageNet and 0.5 for CIFAR-10.

    Raises:
        ValueError: if `temperature` is not positive, or (when called) if the two views do not have
            the same shape `(batch, dim)`.

    Example:
        >>> z = keras.random.normal((8, 16), seed=0)
        >>> bool(NTXent(temperature=0.1)(z, z) < NTXent(temperature=0.1)(z, z[::-1]))
        True

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", equation 1 and algorithm 1.
    """

    def __init__(self, temperature: float = 0.1, name: str = "nt_xent", **kwargs):
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, z_1, z_2):
        """Returns `(batch,)` losses, each the mean of an image's two rows."""
        if len(z_1.shape) != 2 or z_1.shape != z_2.shape:
            raise ValueError(
                "`z_1` and `z_2` must be two views of the same images, both of shape (batch, dim). "
                f"Received: z_1.shape={tuple(z_1.shape)}, z_2.shape={tuple(z_2.shape)}"
            )
        # The gradient of Keras' `normalize` is NaN for embeddings of length zero.
        z_1 = tf.math.l2_normalize(z_1, axis=-1)
        z_2 = tf.math.l2_normalize(z_2, axis=-1)
        all_1 = distribute.all_gather(z_1)  # (global_batch, dim)
        all_2 = distribute.all_gather(z_2)

        z = ops.concatenate([z_1, z_2])  # (2 * batch, dim)
        positives = ops.concatenate([z_2, z_1])
        candidates = ops.concatenate([all_1, all_2])  # (2 * global_batch, dim)
        batch, global_batch = ops.shape(z_1)[0], ops.shape(all_1)[0]
        own = ops.arange(batch, dtype="int32") + distribute.replica_id() * batch
        own = ops.concatenate([own, own + global_batch])  # (2 * batch,), each row's own column

        positive_similarity = ops.sum(z * positives, axis=-1) / self.temperature
        rows = self._log_sums(z, candidates, own) - positive_similarity  # (2 * batch,)
        return ops.mean(ops.reshape(rows, (2, -1)), axis=0)

    def _log_sums(self, z, candidates, own):
        """Returns `(rows,)` values log(sum(exp(similarity))), without each row's own column."""
        if blockwise.should_use_blocks(z.shape[0], candidates.shape[0]):
            if distribute.replica_count() == 1:
                return blockwise.log_sum_of_others(z, self.temperature)
            return blockwise.log_sum_over_columns(z, candidates, self.temperature, own=own)
        similarity = z @ ops.transpose(candidates) / self.temperature
        own_column = ops.one_hot(own, ops.shape(candidates)[0], dtype="bool")
        return ops.logsumexp(ops.where(own_column, similarity.dtype.min, similarity), axis=-1)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "temperature": self.temperature}
