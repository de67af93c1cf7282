"""Linear probe: an online linear classifier that monitors an encoder during pretraining."""

import keras
import tensorflow as tf

from keras_ssl.layers.batch_norm import BatchNorm


@keras.saving.register_keras_serializable(package="keras_ssl")
class LinearProbe(keras.layers.Layer):
    """Linear classifier behind a stopped gradient: the encoder learns nothing from the labels.

    Pass it to a method as `probe`. It is trained on the labels of each batch with the method's
    optimizer, and its training accuracy over the epoch is logged as "probe". Its inputs are the
    backbone's features of the first view, in inference mode as in evaluation. They are batch-normalized
    without scale and offset, so that one learning rate suits features of any magnitude (He et al. 2022,
    MAE, section A.1). The accuracy is measured on augmented images while the classifier still trains;
    use `keras_ssl.evaluate.linear` to evaluate the encoder.

    Args:
        classes: number of classes, at least 2.

    Raises:
        ValueError: if `classes` is less than 2.

    Example:
        ```python
        source = keras_ssl.data.digits("train")
        model = SimCLR(keras_ssl.backbones.Tiny((8, 8, 1)), probe=LinearProbe(10))
        model.compile("adam")
        model.fit(keras_ssl.data.views(source, keras_ssl.augment.centred(8), 256, labels=True))
        ```

    Source: the online evaluation in the code of BYOL and SimCLR (Grill et al. 2020,
    deepmind-research/byol; Chen et al. 2020, google-research/simclr).
    """

    def __init__(self, classes: int, **kwargs):
        if classes < 2:
            raise ValueError(f"`classes` must be at least 2. Received: classes={classes}")
        super().__init__(**kwargs)
        self.classes = classes

    def build(self, input_shape):
        """Creates the layers for inputs of `(batch, features)`."""
        self.norm = BatchNorm(center=False, scale=False, name="norm")
        self.dense = keras.layers.Dense(self.classes, dtype="float32", name="dense")
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.accuracy = keras.metrics.Mean(name="probe")
        self.norm.build(input_shape)
        self.dense.build(input_shape)

    def call(self, features, training=False):
        """Maps (batch, features) to logits (batch, classes)."""
        return self.dense(self.norm(features, training=training))

    def loss(self, features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the scalar loss of a batch, and updates the accuracy.

        Args:
            features: (batch, features); no gradient flows into them.
            labels: (batch,) integers; -1 for an image without a label, which is ignored.
        """
        labelled = tf.cast(labels >= 0, tf.float32)
        labels = tf.maximum(labels, 0)
        logits = self(tf.stop_gradient(features), training=True)
        right = tf.cast(tf.argmax(logits, -1) == tf.cast(labels, tf.int64), tf.float32)
        self.accuracy.update_state(right, sample_weight=labelled)
        return self.cross_entropy(labels, logits, sample_weight=labelled)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "classes": self.classes}
