"""Rotation: a network learns to see by which quarter turn an image was turned."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.layers.quarter_turn import quarter_turn
from keras_ssl.methods.panel import Panel
from keras_ssl.methods.pretext_classification import PretextClassification

_TURNS = range(4)


@keras.saving.register_keras_serializable(package="keras_ssl")
class Rotation(PretextClassification):
    """Predicts by which multiple of 90 degrees an image was turned.

    Each step turns every image of the batch in all four ways. The network must find what is upright,
    which it cannot without recognizing the object. Images that have no upright position, such as cells
    or satellite images, teach it nothing: the loss then stays at ln 4 = 1.386.

    Batches have one view: use `keras_ssl.data.views` with a single augmentation.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; it is evaluated and
            exported.
        classifier: layer that maps features to four logits; `None` uses the paper's dense layer.

    Attributes:
        accuracy: metric, the share of turns that were recognized; 0.25 by guessing.

    Raises:
        ValueError: if `backbone` does not return one vector per image, or `classifier` does not return
            four logits; when training starts, if views are not square.

    Example:
        ```python
        model = Rotation(keras_ssl.backbones.ResNet(18))
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.1, nesterov=True, weight_decay=5e-4))
        augmentation = keras_ssl.augment.crop_and_flip(32)
        model.fit(keras_ssl.data.views(source, augmentation, batch_size=128))
        ```

    Source: Gidaris et al. 2018, "Unsupervised Representation Learning by Predicting Image Rotations".
    """

    view_count = 1

    def __init__(
        self, backbone: keras.Model, classifier: keras.layers.Layer | None = None, **kwargs
    ):
        super().__init__(backbone, **kwargs)
        classifier = classifier or keras.layers.Dense(len(_TURNS), name="classifier")
        features = backbone.output_shape[-1]
        self.classifier = self.build_classifier(classifier, features, len(_TURNS))

    def ssl_loss(self, view):
        """Returns the cross-entropy of the turns of a view, `(batch, side, side, channels)`."""
        turned = self.turn(view)  # (4 * batch, side, side, channels)
        logits = self.classifier(self.features(turned), training=True)  # (4 * batch, 4)
        return self.classification_loss(logits, tf.tile(tf.range(4), [tf.shape(view)[0]]))

    def turn(self, view: tf.Tensor) -> tf.Tensor:
        """Returns the four turns of each image, `(4 * batch, side, side, channels)`.

        Raises:
            ValueError: if the images are not square.
        """
        height, width, channels = view.shape[1:]
        if height != width:
            raise ValueError(
                "`Rotation` needs square views: the shape of others would tell how they were turned. "
                "Expected: an augmentation that makes squares, such as "
                f"keras_ssl.augment.crop_and_flip(size). Received: views of {height} x {width} pixels"
            )
        # The turns of an image are neighbors, so that each chunk of a batch contains all four.
        turned = tf.stack([quarter_turn(view, turns) for turns in _TURNS], axis=1)
        return tf.reshape(turned, (-1, height, width, channels))

    def panels(self, view) -> list[Panel]:
        """Returns a row of images for each turn, with the predicted angles."""
        turned = self.turn(view)
        logits = self.classifier(self.backbone(turned, training=False), training=False)
        angles = 90 * np.argmax(logits, axis=-1).reshape(-1, 4)  # (batch, 4)
        images = np.clip(turned, 0, 1).reshape(len(angles), 4, *turned.shape[1:])
        return [
            Panel(
                f"Turned by {90 * turns} degrees",
                images[:, turns],
                [f"predicted {angle}" for angle in angles[:, turns]],
            )
            for turns in _TURNS
        ]
