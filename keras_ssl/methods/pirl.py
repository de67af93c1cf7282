"""PIRL: the embedding of an image's shuffled tiles equals that of the image."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.augment import ColorJitter, random
from keras_ssl.layers import EmbeddingBank, MLPHead
from keras_ssl.layers.tiles import Tiles, join_tiles
from keras_ssl.losses import InfoNCE
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.checks import check_free_size
from keras_ssl.methods.panel import Panel

_GRID = 3
_ORDER, _JITTER = 2, 3  # numbers of the keys from which these are drawn; `Tiles` uses 0 and 1


@keras.saving.register_keras_serializable(package="keras_ssl")
class PIRL(SelfSupervised):
    """Contrastive learning of an image and of its shuffled tiles against a memory bank.

    Where `Jigsaw` predicts the order of the tiles, PIRL makes the embedding independent of it: the
    embedding of the image, and that of the nine tiles in random order and with random colors, each
    identify the bank's entry of the image among entries of other images. Only the embedding of the
    image enters the bank. Without the tiles, this is `MemoryBank`.

    The backbone is trained on images and tiles, so it must take images of any size. Batches have two
    views (the image, and the crop to cut), the indices and the keys of the images: use
    `keras_ssl.data.views(..., indices=True, keys=True)`.

    Args:
        backbone: built `keras.Model` that maps images of any size to `(batch, features)`; it is
            evaluated and exported.
        projector: layer that maps the features of an image to its embedding; `None` uses the paper's
            dense layer with 128 outputs.
        tile_projector: layer that maps the features of a tile to a vector; `None` uses a dense layer
            with 128 outputs.
        joint_projector: layer that maps the nine vectors, joined, to the embedding; `None` uses a dense
            layer with as many outputs as `projector`.
        size: number of images in the data set.
        negatives: number of negatives, drawn at each step.
        temperature: temperature of the loss, positive.
        bank_momentum: weight of the old entry when an entry is updated, in [0, 1].
        tile_weight: weight of the tiles' loss, in [0, 1]; the image's is 1 minus it.
        share: see `keras_ssl.layers.Tiles`.
        jitter: strength of the color jitter of each tile, in [0, 1.25]: 0.8 times it for brightness,
            contrast and saturation, 0.2 times it for hue.

    Attributes:
        bank: the `EmbeddingBank`.
        tiles: the `Tiles` layer.

    Raises:
        ValueError: if an argument is out of range, or `backbone` does not take images of any size or
            does not return one vector per image; when training starts, if batches have no indices or
            keys.

    Example:
        ```python
        backbone = keras_ssl.backbones.ResNet(18, stem="imagenet", input_shape=(None, None, 3))
        model = PIRL(backbone, size=len(source))
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.03, weight_decay=1e-4))
        policy = keras_ssl.augment.pirl(224)
        model.fit(keras_ssl.data.views(source, policy, batch_size=256, indices=True, keys=True))
        ```

    Source: Misra and van der Maaten 2020, "Self-Supervised Learning of Pretext-Invariant
    Representations" (temperature 0.07, momentum 0.5, 32,000 negatives, equal weights). The loss is
    InfoNCE, as in `MemoryBank`; the original uses noise-contrastive estimation. Tiles are in any of the
    9! orders, and keep their colors, as in the paper.
    """

    view_count = 2
    takes_indices = True
    takes_keys = True

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        tile_projector: keras.layers.Layer | None = None,
        joint_projector: keras.layers.Layer | None = None,
        size: int = 50_000,
        negatives: int = 32_000,
        temperature: float = 0.07,
        bank_momentum: float = 0.5,
        tile_weight: float = 0.5,
        share: float = 0.75,
        jitter: float = 1.0,
        **kwargs,
    ):
        for name, value in (("size", size), ("negatives", negatives)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        for name, share_or_strength, high in (
            ("bank_momentum", bank_momentum, 1),
            ("tile_weight", tile_weight, 1),
            ("jitter", jitter, 1.25),
        ):
            if not 0 <= share_or_strength <= high:
                raise ValueError(
                    f"`{name}` must lie in [0, {high}]. Received: {name}={share_or_strength}"
                )
        super().__init__(backbone, **kwargs)
        check_free_size(backbone, "PIRL")
        self.projector = self.build_head(projector or MLPHead(128, depth=1))
        dim = self.projector.compute_output_shape(backbone.output_shape)[-1]
        tile_projector = tile_projector or MLPHead(128, depth=1, name="tile_projector")
        self.tile_projector = self.build_head(tile_projector)
        units = self.tile_projector.compute_output_shape(backbone.output_shape)[-1]
        self.joint_projector = joint_projector or MLPHead(dim, depth=1, name="joint_projector")
        if not self.joint_projector.built:
            self.joint_projector.build((None, _GRID**2 * units))
        self.size = size
        self.negatives = negatives
        self.temperature = temperature
        self.bank_momentum = bank_momentum
        self.tile_weight = tile_weight
        self.share = share
        self.jitter = jitter
        self.tiles = Tiles(_GRID, share, gray=0)
        colors = ColorJitter(0.8 * jitter, 0.8 * jitter, 0.8 * jitter, 0.2 * jitter, probability=1)
        # A function: as an attribute, the layer's unused generator would be saved with the model.
        self._change_colors = lambda tiles, numbers: colors.transform(tiles, numbers)
        self._numbers_per_tile = colors.draws
        self.bank = EmbeddingBank(size, dim, bank_momentum)
        self.info_nce = InfoNCE(temperature)

    def ssl_loss(self, image, crop, index, keys):
        """Returns the loss of an image and of its shuffled tiles.

        Args:
            image: `(batch, height, width, channels)`.
            crop: the view to cut into tiles, `(batch, height, width, channels)`.
            index: `(batch,)` indices of the images in the data set.
            keys: `(batch, 2)`, from which places, colors and order of the tiles are drawn.
        """
        positives = self.bank.read(index)  # (batch, dim)
        drawn = self.bank.draw(self.negatives)  # (negatives,)
        negatives = self.bank.read(drawn)
        same_image = tf.cast(index, tf.int64)[:, None] == drawn  # (batch, negatives)

        z_image = self.projector(self.features(image), training=True)  # (batch, dim)
        z_tiles = self.embed_tiles(self.shuffled_tiles(crop, keys), training=True)  # (batch, dim)
        of_image, of_tiles = (
            self.info_nce(z, positives, negatives, excluded=same_image) for z in (z_image, z_tiles)
        )
        embeddings = tf.math.l2_normalize(tf.cast(tf.stop_gradient(z_image), tf.float32), axis=-1)
        self.after_batch(self.bank.enter, index, embeddings)
        return (1 - self.tile_weight) * of_image + self.tile_weight * of_tiles

    def shuffled_tiles(self, crop: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Returns tiles with random colors in a random order, `(batch, 9, height, width, channels)`."""
        tiles = self.tiles.cut(crop, keys)
        count, shape = _GRID**2, tiles.shape[2:]
        numbers = random.uniform(random.fold(keys, _JITTER), count * self._numbers_per_tile)
        flat = tf.reshape(tiles, (-1, *shape))
        flat = self._change_colors(flat, tf.reshape(numbers, (-1, self._numbers_per_tile)))
        order = tf.argsort(random.uniform(random.fold(keys, _ORDER), count), axis=1, stable=True)
        return tf.gather(tf.reshape(flat, (-1, count, *shape)), order, axis=1, batch_dims=1)

    def embed_tiles(self, tiles: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the `(batch, dim)` embeddings of shuffled tiles."""
        h = self.features(tf.reshape(tiles, (-1, *tiles.shape[2:])), training=training)
        z = self.tile_projector(h, training=training)  # (9 * batch, units)
        z = tf.reshape(z, (-1, _GRID**2 * z.shape[-1]))
        return self.joint_projector(z, training=training)

    def panels(self, image, crop, index, keys) -> list[Panel]:
        """Returns the images, and their shuffled tiles with the similarity of both embeddings."""
        tiles = self.shuffled_tiles(crop, keys)
        z_image = self.projector(self.backbone(image, training=False), training=False)
        z_tiles = self.embed_tiles(tiles, training=False)
        pairs = (tf.math.l2_normalize(tf.cast(z, tf.float32), axis=-1) for z in (z_image, z_tiles))
        cosines = np.asarray(tf.reduce_sum(tf.multiply(*pairs), axis=-1))
        captions = [f"cosine {each:.2f}" for each in cosines]
        return [
            Panel("Image", np.clip(image, 0, 1)),
            Panel("Shuffled tiles", join_tiles(tiles), captions),
        ]
