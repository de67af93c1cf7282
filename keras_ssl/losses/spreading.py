"""The loss of invariant and spreading embeddings: recognize each image, and nothing else as it."""

import keras
import tensorflow as tf
from keras import ops

from keras_ssl import distribute


@keras.saving.register_keras_serializable(package="keras_ssl")
class Spreading(keras.losses.Loss):
    """Attracts two views of an image, and pushes every other embedding of the batch away on its own.

    For each of the 2N embeddings i, P_ij is the softmax over all others j of their cosines, divided by
    the temperature. With the other view p of the same image, the loss of a row is

        -log(P_ip) - spread_weight * sum over j other than i and p of log(1 - P_ij)

    and the loss is the mean over rows. The first term is that of `NTXent`; the second one is large
    only for an embedding of another image that is mistaken for the positive. As in the reference code,
    no gradient flows into the candidates, only into the embedding that is compared with them.

    Under a distribution strategy the candidates come from all replicas. Similarities are always
    computed in float32.

    Args:
        temperature: positive; 0.1 in the paper.
        spread_weight: weight of the second term, not negative; 1 in the paper.

    Raises:
        ValueError: if a number is out of range, or (when called) if the two views do not have the same
            shape `(batch, dim)`.

    Example:
        >>> z = keras.random.normal((8, 16), seed=0)
        >>> bool(Spreading()(z, z) < Spreading()(z, z[::-1]))
        True

    Source: Ye et al. 2019, "Unsupervised Embedding Learning via Invariant and Spreading Instance
    Feature", equations 3 to 6.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        spread_weight: float = 1.0,
        name: str = "spreading",
        **kwargs,
    ):
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
        if not spread_weight >= 0:
            raise ValueError(
                f"`spread_weight` must not be negative. Received: spread_weight={spread_weight}"
            )
        super().__init__(name=name, **kwargs)
        self.temperature = temperature
        self.spread_weight = spread_weight

    def call(self, z_1, z_2):
        """Returns `(batch,)` losses, each the mean of an image's two rows."""
        if len(z_1.shape) != 2 or z_1.shape != z_2.shape:
            raise ValueError(
                "`z_1` and `z_2` must be two views of the same images, both of shape (batch, dim). "
                f"Received: z_1.shape={tuple(z_1.shape)}, z_2.shape={tuple(z_2.shape)}"
            )
        z_1 = tf.math.l2_normalize(z_1, axis=-1)
        z_2 = tf.math.l2_normalize(z_2, axis=-1)
        all_1, all_2 = (distribute.all_gather(tf.stop_gradient(z)) for z in (z_1, z_2))
        z = ops.concatenate([z_1, z_2])  # (2 * batch, dim)
        candidates = ops.concatenate([all_1, all_2])  # (2 * global_batch, dim)
        similarity = z @ ops.transpose(candidates) / self.temperature

        batch, global_batch = ops.shape(z_1)[0], ops.shape(all_1)[0]
        column = ops.arange(batch, dtype="int32") + distribute.replica_id() * batch
        in_1 = ops.one_hot(column, 2 * global_batch, dtype="bool")  # (batch, 2 * global_batch)
        in_2 = ops.one_hot(column + global_batch, 2 * global_batch, dtype="bool")
        own, partner = ops.concatenate([in_1, in_2]), ops.concatenate([in_2, in_1])

        rows = _row_losses(similarity, own, partner, self.spread_weight)  # (2 * batch,)
        return ops.mean(ops.reshape(rows, (2, -1)), axis=0)

    def get_config(self):
        """Returns the arguments of the constructor."""
        config = {"temperature": self.temperature, "spread_weight": self.spread_weight}
        return {**super().get_config(), **config}


def _row_losses(similarity, own, partner, spread_weight: float):
    """Returns `(rows,)` losses of (rows, columns) similarities, given each row's own and positive."""
    lowest = similarity.dtype.min
    logits = ops.where(own, lowest, similarity)
    log_sum = ops.logsumexp(logits, axis=-1, keepdims=True)
    positive = ops.sum(ops.where(partner, logits, 0.0), axis=-1)
    attraction = log_sum[:, 0] - positive

    # Only the largest probability of a row can be near 1, where 1 - P would lose all digits. Its
    # complement is the sum of the others.
    is_top = ops.one_hot(ops.argmax(logits, axis=-1), ops.shape(logits)[-1], dtype="bool")
    rest = ops.logsumexp(ops.where(is_top, lowest, logits), axis=-1, keepdims=True)
    probability = ops.exp(ops.where(is_top, lowest, logits - log_sum))
    log_complement = ops.where(is_top, rest - log_sum, tf.math.log1p(-probability))
    spread = -ops.sum(ops.where(own | partner, 0.0, log_complement), axis=-1)
    return attraction + spread_weight * spread
