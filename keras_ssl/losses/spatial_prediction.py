"""The loss of contrastive predictive coding: find the predicted patch among others."""

import keras
import tensorflow as tf
from keras import ops

from keras_ssl import distribute


@keras.saving.register_keras_serializable(package="keras_ssl")
class SpatialPrediction(keras.losses.Loss):
    """Cross-entropy of finding, for each predicted vector, the patch at its place.

    The candidates of a prediction are the patches at the same place in all images of the global batch,
    and those at all other places of its own image: batch + places - 1 in total. Constant predictions
    give the logarithm of this number. Scores are dot products, divided by the square root of the
    dimension, and are always computed in float32.

    Call arguments:
        patches: (batch, places, dim), encoded patches.
        predictions: (batch, count, dim), predictions of the last `count` places.

    Raises:
        ValueError: when called, if the shapes do not match.

    Example:
        >>> z = 4 * keras.random.normal((8, 9, 16), seed=0)
        >>> bool(SpatialPrediction()(z, z) < SpatialPrediction()(z, z[::-1]))
        True

    Source: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding",
    equation 4, with negatives from other images and other places of the image (section 3.2). Which
    places of other images are candidates is our choice. The division keeps the scores of untrained
    networks small.
    """

    def __init__(self, name: str = "spatial_prediction", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, patches, predictions):
        """Returns `(batch,)` losses, each the mean over the predictions of an image."""
        scores, own = candidate_scores(patches, predictions)
        is_own = ops.one_hot(own, scores.shape[-1] or ops.shape(scores)[-1], dtype="bool")
        positive = ops.sum(ops.where(is_own[:, None], scores, 0.0), axis=-1)
        return ops.mean(ops.logsumexp(scores, axis=-1) - positive, axis=-1)


def candidate_scores(patches, predictions):
    """Returns the scores of all candidates, and which one is the right one.

    Args:
        patches: see `SpatialPrediction`.
        predictions: see `SpatialPrediction`.

    Returns:
        (batch, count, global_batch + places) float32 scores, and (batch,) columns of the right ones.
    """
    count, places = predictions.shape[1], patches.shape[1]
    if (
        len(patches.shape) != 3
        or len(predictions.shape) != 3
        or count > places
        or patches.shape[-1] != predictions.shape[-1]
    ):
        raise ValueError(
            "`patches` must be (batch, places, dim), `predictions` (batch, count, dim) with a count of "
            f"at most `places`. Received: patches.shape={tuple(patches.shape)}, "
            f"predictions.shape={tuple(predictions.shape)}"
        )
    patches, predictions = (ops.cast(each, "float32") for each in (patches, predictions))
    predictions = predictions / patches.shape[-1] ** 0.5
    others = distribute.all_gather(patches[:, places - count :])  # (global_batch, count, dim)
    across = tf.einsum("bpd,cpd->bpc", predictions, others)
    within = tf.einsum("bpd,bqd->bpq", predictions, patches)  # (batch, count, places)
    # The right patch is among `across`.
    again = tf.range(places - count, places)[:, None] == tf.range(places)
    within = tf.where(again, within.dtype.min, within)
    batch = tf.shape(patches)[0]
    own = tf.range(batch) + distribute.replica_id() * batch
    return tf.concat([across, within], axis=-1), own
