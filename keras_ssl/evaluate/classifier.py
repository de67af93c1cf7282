"""A classifier trained on labeled images with cross-entropy."""

import keras
import tensorflow as tf

from keras_ssl.methods import Learner

CLASSES = "classes"  # name of the last layer; optimizers use it to exclude the layer


@keras.saving.register_keras_serializable(package="keras_ssl")
class Classifier(Learner):
    """Trains a network on labeled images with cross-entropy.

    It takes batches from `keras_ssl.data.views(..., labels=True)`. If an image has several views, all
    of them contribute to the loss.

    Args:
        network: built `keras.Model` that maps images `(batch, height, width, channels)` to logits
            `(batch, classes)`; see `with_classes`.

    Example:
        >>> network = with_classes(keras_ssl.backbones.Tiny((8, 8, 3)), classes=10)
        >>> Classifier(network)(keras.ops.ones((2, 8, 8, 3))).shape
        TensorShape([2, 10])
    """

    takes_labels = True

    def __init__(self, network: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def call(self, images, training=False):
        """Maps images to logits, `(batch, classes)`."""
        return self.network(images, training=training)

    def batch_loss(self, views, labels):
        """Returns the cross-entropy of a labeled batch."""
        logits = self.network(tf.concat(views, axis=0), training=True)  # (views * batch, classes)
        labels = tf.tile(labels, [len(views)])
        self.accuracy.update_state(labels, logits)
        return self.cross_entropy(labels, logits)

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return [self.loss_tracker, self.accuracy]

    def get_config(self):
        """Returns the constructor's arguments, including the serialized network."""
        return {"name": self.name, "network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Creates a classifier from the output of `get_config`."""
        network = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        return cls(network, name=config["name"])


def with_classes(
    encoder: keras.Model, classes: int, seed: int | None = None, name: str = "classifier"
) -> keras.Model:
    """Adds a linear classification layer to an encoder.

    Args:
        encoder: built `keras.Model`, images to `(batch, dim)`. Its weights are shared, not copied.
        classes: number of classes, at least 2.
        seed: seed of the new layer's kernel initializer.
        name: name of the returned model.

    Returns:
        `keras.Model` from images to float32 logits, `(batch, classes)`.

    Raises:
        ValueError: if `classes` is less than 2.

    Source: kernel standard deviation of 0.01 from `tf2/model.py` of google-research/simclr.
    """
    if classes < 2:
        raise ValueError(f"`classes` must be at least 2. Received: classes={classes}")
    images = keras.Input(encoder.input_shape[1:], name="images")
    layer = keras.layers.Dense(
        classes,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=seed),
        dtype=keras.config.floatx(),  # float32 logits even under a mixed-precision policy
        name=CLASSES,
    )
    return keras.Model(images, layer(encoder(images)), name=name)
