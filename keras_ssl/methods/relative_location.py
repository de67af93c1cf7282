"""Relative location: a network learns where a tile lies, seen from the tile in the center."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.layers.heads import MLPHead
from keras_ssl.layers.tiles import Tiles, join_tiles
from keras_ssl.methods.checks import check_free_size
from keras_ssl.methods.panel import Panel
from keras_ssl.methods.pretext_classification import PretextClassification

_GRID = 3
_CENTER = 4
_NEIGHBORS = (0, 1, 2, 3, 5, 6, 7, 8)  # tiles in reading order
_NAMES = (
    "above left",
    "above",
    "above right",
    "left",
    "right",
    "below left",
    "below",
    "below right",
)


@keras.saving.register_keras_serializable(package="keras_ssl")
class RelativeLocation(PretextClassification):
    """Predicts at which of eight places around a tile another tile of the image lies.

    An image is cut into three times three tiles. The backbone computes the features of each tile on
    its own. The classifier gets the features of the tile in the center and of one of its neighbors.

    The backbone is trained on tiles and evaluated on whole images, so it must take images of any size.
    Batches have one view and the keys of the images: use `keras_ssl.data.views(..., keys=True)` with a
    single augmentation.

    Args:
        backbone: built `keras.Model` that maps images of any size to `(batch, features)`; it is
            evaluated and exported.
        classifier: layer that maps two joined feature vectors, `(count, 2 * features)`, to eight
            logits; `None` uses a hidden layer of 4,096 units, as the paper does.
        share: see `keras_ssl.layers.Tiles`.
        gray: see `keras_ssl.layers.Tiles`.

    Attributes:
        tiles: the `Tiles` layer.
        accuracy: metric, the share of places that were recognized; 0.125 by guessing.

    Raises:
        ValueError: if `backbone` does not take images of any size or does not return one vector per
            image, or another argument is out of range; when training starts, if batches have no keys or
            images are too small.

    Example:
        ```python
        backbone = keras_ssl.backbones.ResNet(18, stem="imagenet", input_shape=(None, None, 3))
        model = RelativeLocation(backbone)
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.1, weight_decay=1e-4))
        augmentation = keras_ssl.augment.crop_and_flip(255)
        model.fit(keras_ssl.data.views(source, augmentation, batch_size=256, keys=True))
        ```

    Source: Doersch et al. 2015, "Unsupervised Visual Representation Learning by Context Prediction".
    Pairs, places and sizes of tiles are those of google/revisiting-self-supervised, which has a dropout
    of 0.5 in the classifier; here there is none.
    """

    view_count = 1
    takes_keys = True

    def __init__(
        self,
        backbone: keras.Model,
        classifier: keras.layers.Layer | None = None,
        share: float = 0.75,
        gray: float = 0.66,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        check_free_size(backbone, "RelativeLocation")
        count = len(_NEIGHBORS)
        classifier = classifier or MLPHead(count, 4096, batch_norm=True, name="classifier")
        inputs = 2 * backbone.output_shape[-1]
        self.classifier = self.build_classifier(classifier, inputs, count)
        self.share = share
        self.gray = gray
        self.tiles = Tiles(_GRID, share, gray)

    def ssl_loss(self, view, keys):
        """Returns the cross-entropy of the places.

        Args:
            view: `(batch, height, width, channels)`.
            keys: `(batch, 2)`, from which the places of tiles in their cells are drawn.
        """
        logits = self.classify(self.tiles(view, keys), training=True)  # (8 * batch, 8)
        places = tf.tile(tf.range(len(_NEIGHBORS)), [tf.shape(view)[0]])
        return self.classification_loss(logits, places)

    def classify(self, tiles: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the logits of all pairs, `(8 * batch, 8)`, those of an image next to each other.

        Args:
            tiles: `(batch, 9, height, width, channels)`.
            training: passed to the networks.
        """
        h = self.features(tf.reshape(tiles, (-1, *tiles.shape[2:])), training=training)
        h = tf.reshape(h, (-1, _GRID**2, h.shape[-1]))  # (batch, 9, features)
        neighbors = tf.gather(h, _NEIGHBORS, axis=1)  # (batch, 8, features)
        center = tf.broadcast_to(h[:, _CENTER, None], tf.shape(neighbors))
        pairs = tf.concat([center, neighbors], axis=-1)
        return self.classifier(tf.reshape(pairs, (-1, pairs.shape[-1])), training=training)

    def panels(self, view, keys) -> list[Panel]:
        """Returns the views, their tiles, those whose place was recognized, and one of the others."""
        tiles = self.tiles(view, keys)
        predicted = np.argmax(self.classify(tiles, training=False), axis=-1).reshape(-1, 8)
        right = predicted == np.arange(8)
        images = np.array(tiles)
        recognized = images.copy()
        wrong, neighbor = np.nonzero(~right)
        recognized[wrong, np.array(_NEIGHBORS)[neighbor]] = 1  # white
        example = np.argmin(right, axis=1)  # the first wrong one; the first if all are right
        captions = [
            f"{_NAMES[place]}, predicted {_NAMES[row[place]]}"
            for place, row in zip(example, predicted, strict=True)
        ]
        first = images[np.arange(len(images)), np.array(_NEIGHBORS)[example]]
        return [
            Panel("Views", np.clip(view, 0, 1)),
            Panel("Their tiles", join_tiles(images)),
            Panel(
                "Tiles whose place was recognized, around the center",
                join_tiles(recognized),
                [f"{row.sum()} of 8" for row in right],
            ),
            Panel("One that was not", np.clip(first, 0, 1), captions),
        ]
