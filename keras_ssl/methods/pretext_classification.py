"""The base class of pretext tasks that are a classification: a loss and an accuracy."""

import keras
import tensorflow as tf

from keras_ssl.methods.base import SelfSupervised


class PretextClassification(SelfSupervised):
    """A method whose loss is the cross-entropy of classes that it makes itself.

    A subclass computes logits and classes in `ssl_loss`, and returns `self.classification_loss`. `fit`
    logs the share of correct answers as "accuracy", which shows whether the task is learned.

    Args:
        backbone: see `SelfSupervised`.
        **kwargs: other arguments of `SelfSupervised`.
    """

    def __init__(self, backbone: keras.Model, **kwargs):
        super().__init__(backbone, **kwargs)
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.accuracy = keras.metrics.Mean(name="accuracy")

    def build_classifier(
        self, classifier: keras.layers.Layer, inputs: int, classes: int
    ) -> keras.layers.Layer:
        """Builds and returns a layer that maps `(count, inputs)` to `(count, classes)` logits.

        Raises:
            ValueError: if the layer returns another number of logits.
        """
        if not classifier.built:
            classifier.build((None, inputs))
        logits = classifier.compute_output_shape((None, inputs))[-1]
        if logits != classes:
            raise ValueError(
                f"The classifier of {type(self).__name__} must return {classes} logits. "
                f"Received: {classifier.name!r}, which returns {logits}"
            )
        return classifier

    def classification_loss(self, logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Returns the scalar cross-entropy, and updates the accuracy.

        Args:
            logits: `(count, classes)`.
            classes: `(count,)` integers.
        """
        logits = tf.cast(logits, tf.float32)
        correct = tf.argmax(logits, axis=-1, output_type=tf.int32) == tf.cast(classes, tf.int32)
        self.accuracy.update_state(tf.cast(correct, tf.float32))
        return self.cross_entropy(classes, logits)

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return [*super().metrics, self.accuracy]
