"""InfoNCE, the contrastive loss of MoCo: one positive key against many negatives."""

import keras
import tensorflow as tf
from keras import ops

from keras_ssl.losses import blockwise


@keras.saving.register_keras_serializable(package="keras_ssl")
class InfoNCE(keras.losses.Loss):
    """Cross-entropy of identifying each query's positive key among shared negatives.

    The query q, its positive key k+ and the negatives k_i are normalized to length 1:

        loss = -log( exp(q . k+ / T) / (exp(q . k+ / T) + sum_i exp(q . k_i / T)) )

    An encoder that maps all images to one point gives `log(1 + count)`. Similarities are always
    computed in float32, and in blocks if there are many: values and gradients are the same, and less
    memory is used. Gradients flow into queries, keys and negatives; `keras_ssl.methods.MoCo` stops
    those of the keys.

    Call arguments:
        queries: (batch, dim).
        keys: (batch, dim), the positive key of each query.
        negatives: (count, dim).
        excluded: (batch, columns) bool, True where one of the first `columns` negatives must be
            ignored for a query. `None` ignores none.
        sample_weight: (batch,) weights, as for other Keras losses.

    Args:
        temperature: positive; 0.07 in MoCo v1 and in instance discrimination, 0.2 in MoCo v2.

    Raises:
        ValueError: if `temperature` is not positive, or (when called) if the shapes do not match.

    Example:
        >>> q = keras.random.normal((8, 16), seed=0)
        >>> queue = keras.random.normal((100, 16), seed=1)
        >>> bool(InfoNCE(temperature=0.2)(q, q, queue) < InfoNCE(temperature=0.2)(q, -q, queue))
        True

    Source: He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning",
    equation 1.
    """

    def __init__(self, temperature: float = 0.2, name: str = "info_nce", **kwargs):
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def __call__(self, queries, keys, negatives, excluded=None, sample_weight=None):
        """Returns the loss, reduced according to `reduction`."""
        choices = (keys, negatives) if excluded is None else (keys, negatives, excluded)
        return super().__call__(choices, queries, sample_weight)

    def call(self, choices, queries):
        """Returns `(batch,)` losses; `choices` is (keys, negatives) or (keys, negatives, excluded)."""
        keys, negatives = choices[:2]
        if (
            any(len(values.shape) != 2 for values in (queries, keys, negatives))
            or queries.shape != keys.shape
            or negatives.shape[-1] != queries.shape[-1]
        ):
            raise ValueError(
                "`queries` and `keys` must have the same shape (batch, dim), `negatives` (count, dim). "
                f"Received: queries.shape={tuple(queries.shape)}, keys.shape={tuple(keys.shape)}, "
                f"negatives.shape={tuple(negatives.shape)}"
            )
        q, k, negatives = (tf.math.l2_normalize(x, axis=-1) for x in (queries, keys, negatives))
        excluded = None
        if len(choices) == 3:
            # Keras converted the booleans to floats. Padding after that keeps the conversion small.
            others = tf.shape(negatives)[0] - tf.shape(choices[2])[1]
            excluded = tf.pad(ops.cast(choices[2], "bool"), ((0, 0), (0, others)))
        positive = ops.sum(q * k, axis=-1) / self.temperature  # (batch,)
        if blockwise.should_use_blocks(q.shape[0], negatives.shape[0]):
            negative = blockwise.log_sum_over_columns(
                q, negatives, self.temperature, excluded=excluded
            )
            return tf.math.softplus(negative - positive)
        negative = q @ ops.transpose(negatives) / self.temperature  # (batch, count)
        if excluded is not None:
            negative = ops.where(excluded, -float("inf"), negative)
        logits = ops.concatenate([positive[:, None], negative], axis=-1)
        return ops.logsumexp(logits, axis=-1) - positive

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "temperature": self.temperature}
