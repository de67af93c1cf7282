"""Jigsaw: a network learns in which order the tiles of an image are."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.layers.batch_norm import BatchNorm
from keras_ssl.layers.permutations import tile_permutations
from keras_ssl.layers.tiles import Tiles, join_tiles
from keras_ssl.methods.checks import check_free_size
from keras_ssl.methods.panel import Panel
from keras_ssl.methods.pretext_classification import PretextClassification

_GRID = 3
_ORDER = 2  # number of the keys from which the order is drawn; `Tiles` uses 0 and 1


@keras.saving.register_keras_serializable(package="keras_ssl")
class Jigsaw(PretextClassification):
    """Predicts which of a fixed set of permutations the tiles of an image are in.

    An image is cut into three times three tiles, which are put in a random order of the set. The
    backbone and the projector compute a vector of each tile on its own. The classifier gets the nine
    vectors, joined, and predicts the order.

    The backbone is trained on tiles and evaluated on whole images, so it must take images of any size.
    Batches have one view and the keys of the images: use `keras_ssl.data.views(..., keys=True)` with a
    single augmentation.

    Args:
        backbone: built `keras.Model` that maps images of any size to `(batch, features)`; it is
            evaluated and exported.
        projector: layer that maps the features of a tile to a vector; `None` uses a dense layer of
            1,000 units with batch normalization and ReLU.
        classifier: layer that maps the nine vectors, `(batch, 9 * units)`, to logits of the
            permutations; `None` uses a dense layer.
        permutations: number of permutations, 2 to 504; see `keras_ssl.layers.tile_permutations`.
        share: see `keras_ssl.layers.Tiles`.
        gray: see `keras_ssl.layers.Tiles`.

    Attributes:
        tiles: the `Tiles` layer.
        accuracy: metric, the share of orders that were recognized; 1 / permutations by guessing.

    Raises:
        ValueError: if `backbone` does not take images of any size or does not return one vector per
            image, or another argument is out of range; when training starts, if batches have no keys or
            images are too small.

    Example:
        ```python
        backbone = keras_ssl.backbones.ResNet(18, stem="imagenet", input_shape=(None, None, 3))
        model = Jigsaw(backbone)
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.1, weight_decay=1e-4))
        augmentation = keras_ssl.augment.crop_and_flip(255)
        model.fit(keras_ssl.data.views(source, augmentation, batch_size=256, keys=True))
        ```

    Source: Noroozi and Favaro 2016, "Unsupervised Learning of Visual Representations by Solving Jigsaw
    Puzzles"; Goyal et al. 2019, "Scaling and Benchmarking Self-Supervised Visual Representation
    Learning" (the head of a ResNet). Both choose the permutations greedily.
    """

    view_count = 1
    takes_keys = True

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        classifier: keras.layers.Layer | None = None,
        permutations: int = 504,
        share: float = 0.75,
        gray: float = 0.66,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        check_free_size(backbone, "Jigsaw")
        self.orders = tile_permutations(permutations)  # (permutations, 9)
        self.projector = self.build_head(projector or _projector())
        units = self.projector.compute_output_shape(backbone.output_shape)[-1]
        classifier = classifier or keras.layers.Dense(permutations, name="classifier")
        self.classifier = self.build_classifier(classifier, _GRID**2 * units, permutations)
        self.permutations = permutations
        self.share = share
        self.gray = gray
        self.tiles = Tiles(_GRID, share, gray)

    def ssl_loss(self, view, keys):
        """Returns the cross-entropy of the orders.

        Args:
            view: `(batch, height, width, channels)`.
            keys: `(batch, 2)`, from which the orders and the places of tiles in their cells are drawn.
        """
        tiles = self.tiles(view, keys)  # (batch, 9, height, width, channels)
        number = self.draw(keys)  # (batch,)
        logits = self.classify(self.shuffle(tiles, number), training=True)  # (batch, permutations)
        return self.classification_loss(logits, number)

    def draw(self, keys: tf.Tensor) -> tf.Tensor:
        """Returns the number of each image's permutation, `(batch,)` int32."""
        number = random.uniform(random.fold(keys, _ORDER), 1)[:, 0] * self.permutations
        return tf.minimum(tf.cast(number, tf.int32), self.permutations - 1)

    def shuffle(self, tiles: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Puts the tiles of each image in the order of a permutation, given its number."""
        order = tf.gather(tf.constant(self.orders), number)  # (batch, 9)
        return tf.gather(tiles, order, axis=1, batch_dims=1)

    def classify(self, tiles: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the logits of the orders, `(batch, permutations)`.

        Args:
            tiles: shuffled tiles, `(batch, 9, height, width, channels)`.
            training: passed to the networks.
        """
        h = self.features(tf.reshape(tiles, (-1, *tiles.shape[2:])), training=training)
        z = self.projector(h, training=training)  # (9 * batch, units)
        z = tf.reshape(z, (-1, _GRID**2 * z.shape[-1]))
        return self.classifier(z, training=training)

    def panels(self, view, keys) -> list[Panel]:
        """Returns the views, their shuffled tiles, and these in the predicted order."""
        number = self.draw(keys)
        tiles = self.shuffle(self.tiles(view, keys), number)
        predicted = np.argmax(self.classify(tiles, training=False), axis=-1)
        inverse = np.argsort(self.orders, axis=1)[predicted]
        places = self.orders[np.asarray(number)], self.orders[predicted]  # (batch, 9) each
        right = [f"{count} of 9 tiles right" for count in np.sum(np.equal(*places), axis=1)]
        solved = tf.gather(tiles, inverse, axis=1, batch_dims=1)
        return [
            Panel("Views", np.clip(view, 0, 1)),
            Panel("Shuffled tiles", join_tiles(tiles)),
            Panel("Tiles in the predicted order", join_tiles(solved), right),
        ]


def _projector() -> keras.Sequential:
    layers = [keras.layers.Dense(1000, use_bias=False), BatchNorm(), keras.layers.ReLU()]
    return keras.Sequential(layers, name="projector")
