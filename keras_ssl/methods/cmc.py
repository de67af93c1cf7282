"""CMC: contrasts the lightness of an image with its color."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.backbones.two_streams import stream_sizes
from keras_ssl.layers import MLPHead
from keras_ssl.layers.lab import rgb_to_lab
from keras_ssl.losses import InfoNCE
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.colorization import paint
from keras_ssl.methods.map_targets import check_color
from keras_ssl.methods.panel import Panel


@keras.saving.register_keras_serializable(package="keras_ssl")
class CMC(SelfSupervised):
    """Contrastive multiview coding: lightness and color of an image are each other's positives.

    One network embeds the lightness of a view, another its color. Each embedding must be told from
    those that the other network made of all other images of the global batch.

    Batches have one view: use `keras_ssl.data.views` with a single augmentation, such as
    `keras_ssl.augment.crop_and_flip`.

    Args:
        backbone: model of `keras_ssl.backbones.two_streams`; it is evaluated and exported, and takes
            RGB images.
        lightness_head: layer that maps the features of the lightness to embeddings; `None` uses the
            paper's linear layer with 128 outputs.
        color_head: layer that maps the features of the color to embeddings of the same size; `None`
            uses a linear layer with 128 outputs.
        temperature: temperature of the loss, positive.

    Attributes:
        accuracy: metric, the share of embeddings to which the own image is the nearest.

    Raises:
        ValueError: if the backbone is not one of `two_streams`, `temperature` is not positive, or the
            heads return embeddings of different sizes; when training starts, if views have no color.

    Example:
        ```python
        networks = [keras_ssl.backbones.ResNet(18, width=0.5, input_shape=(96, 96, c)) for c in (1, 2)]
        model = CMC(keras_ssl.backbones.two_streams(*networks))
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.03, weight_decay=1e-4))
        model.fit(keras_ssl.data.views(source, keras_ssl.augment.crop_and_flip(96), batch_size=256))
        ```

    Source: Tian et al. 2020, "Contrastive Multiview Coding" (temperature 0.07). Negatives are the
    batch, as in SimCLR; the paper draws them from two memory banks.
    """

    view_count = 1

    def __init__(
        self,
        backbone: keras.Model,
        lightness_head: keras.layers.Layer | None = None,
        color_head: keras.layers.Layer | None = None,
        temperature: float = 0.07,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        self.sizes = stream_sizes(backbone)
        self.lightness_head = lightness_head or MLPHead(128, depth=1, name="lightness_head")
        self.color_head = color_head or MLPHead(128, depth=1, name="color_head")
        dims = []
        for head, size in zip((self.lightness_head, self.color_head), self.sizes, strict=True):
            if not head.built:
                head.build((None, size))
            dims.append(head.compute_output_shape((None, size))[-1])
        if dims[0] != dims[1]:
            raise ValueError(
                "Both heads must return embeddings of the same size. Received: "
                f"{dims[0]} numbers of `lightness_head`, {dims[1]} of `color_head`"
            )
        self.temperature = temperature
        self.info_nce = InfoNCE(temperature)
        self.accuracy = keras.metrics.Mean(name="accuracy")

    def ssl_loss(self, view):
        """Returns the mean InfoNCE of both directions for a view, `(batch, height, width, 3)`."""
        check_color(view, "CMC")
        z_lightness, z_color = self.embed(view)  # (batch, dim)
        return (self.contrast(z_lightness, z_color) + self.contrast(z_color, z_lightness)) / 2

    def embed(self, view, training: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the embeddings of lightness and color, `(batch, dim)` of length 1."""
        h_lightness, h_color = tf.split(self.features(view, training=training), self.sizes, axis=-1)
        embeddings = (
            self.lightness_head(h_lightness, training=training),
            self.color_head(h_color, training=training),
        )
        z_lightness, z_color = (
            tf.math.l2_normalize(tf.cast(z, tf.float32), axis=-1) for z in embeddings
        )
        return z_lightness, z_color

    def contrast(self, queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Returns the loss of finding each query's key among those of the global batch."""
        candidates = distribute.all_gather(keys)  # (global_batch, dim)
        batch = tf.shape(queries)[0]
        images = tf.range(batch * distribute.replica_count())
        own = (distribute.replica_id() * batch + tf.range(batch))[:, None] == images
        nearest = tf.argmax(tf.matmul(queries, candidates, transpose_b=True), axis=-1)
        self.accuracy.update_state(tf.gather(own, nearest, axis=1, batch_dims=1))
        return self.info_nce(queries, keys, candidates, excluded=own)

    def panels(self, view) -> list[Panel]:
        """Returns the views, their lightness, their color, and the image whose color is the nearest."""
        lab = rgb_to_lab(view)
        z_lightness, z_color = self.embed(view, training=False)
        nearest = np.argmax(tf.matmul(z_lightness, z_color, transpose_b=True), axis=-1)
        gray = paint(lab, tf.zeros_like(lab[..., 1:]))
        middle = 50 * tf.ones_like(lab[..., :1])
        color = paint(tf.concat([middle, lab[..., 1:]], axis=-1), lab[..., 1:])
        captions = ["own" if place == own else "other" for own, place in enumerate(nearest)]
        return [
            Panel("Image", np.clip(view, 0, 1)),
            Panel("Lightness", gray),
            Panel("Color", color),
            Panel("Nearest color of the lightness", color[nearest], captions),
        ]

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return [*super().metrics, self.accuracy]
