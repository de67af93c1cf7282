"""Split-brain autoencoder: two networks predict the channels of each other."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.backbones.two_streams import stream_sizes
from keras_ssl.layers import ColorBins
from keras_ssl.layers.lab import rgb_to_lab
from keras_ssl.layers.map_head import resize_maps
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.colorization import build_map_head, paint
from keras_ssl.methods.map_targets import check_color, last_map, sample_pixels
from keras_ssl.methods.panel import Panel

_WHITE = 100.0  # lightness


@keras.saving.register_keras_serializable(package="keras_ssl")
class SplitBrain(SelfSupervised):
    """Predicts the color of an image from its lightness with one network, and the reverse with another.

    Both predictions are classifications of one of 4 x 4 pixels: of its color into the bins of
    `ColorBins`, and of its lightness into equal intervals. Each cross-entropy is divided by the
    logarithm of the number of its classes, so that both are 1 for a uniform guess; the loss is the sum.
    The features of both networks together describe the whole image.

    Batches have one view: use `keras_ssl.data.views` with a single augmentation that does not change
    colors, such as `keras_ssl.augment.crop_and_flip`.

    Args:
        backbone: model of `keras_ssl.backbones.two_streams`; it is evaluated and exported, and takes
            RGB images.
        color_head: layer that maps feature maps of the network of the lightness to 262 logits of colors
            at each place; `None` uses `keras_ssl.layers.MapHead(262)`.
        lightness_head: layer that maps feature maps of the network of the color to `lightness_bins`
            logits at each place; `None` uses a `MapHead`.
        lightness_bins: number of intervals of the lightness, at least 2; 50 are our choice.

    Attributes:
        color_accuracy: metric, the share of the sampled pixels whose color is predicted.
        lightness_accuracy: metric, the share of the sampled pixels whose lightness is predicted.

    Raises:
        ValueError: if the backbone is not one of `two_streams` or has no feature maps,
            `lightness_bins` is too small, or a head returns another number of logits; when training
            starts, if views have no color.

    Example:
        ```python
        networks = [keras_ssl.backbones.ResNet(18, width=0.5, input_shape=(96, 96, c)) for c in (1, 2)]
        model = SplitBrain(keras_ssl.backbones.two_streams(*networks))
        model.compile(optimizer=keras.optimizers.Adam(1e-3))
        model.fit(keras_ssl.data.views(source, keras_ssl.augment.crop_and_flip(96), batch_size=256))
        ```

    Source: Zhang et al. 2017, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel
    Prediction", section 3. Its training code was never published. The classes are those of the nearest
    bins, all with the same weight.
    """

    view_count = 1

    def __init__(
        self,
        backbone: keras.Model,
        color_head: keras.layers.Layer | None = None,
        lightness_head: keras.layers.Layer | None = None,
        lightness_bins: int = 50,
        **kwargs,
    ):
        if lightness_bins < 2:
            raise ValueError(
                f"`lightness_bins` must be at least 2. Received: lightness_bins={lightness_bins}"
            )
        super().__init__(backbone, **kwargs)
        stream_sizes(backbone)  # checks that there are two streams
        self.lightness_bins = lightness_bins
        self.bins = ColorBins()
        self.lightness_block = last_map(backbone, "lightness_")
        self.color_block = last_map(backbone, "color_")
        lightness_maps, color_maps = map(
            self._map_network, (self.lightness_block, self.color_block)
        )
        self.color_head = build_map_head(color_head, lightness_maps, self.bins.count, "color_head")
        self.lightness_head = build_map_head(
            lightness_head, color_maps, lightness_bins, "lightness_head"
        )
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.color_accuracy = keras.metrics.Mean(name="color_accuracy")
        self.lightness_accuracy = keras.metrics.Mean(name="lightness_accuracy")

    def ssl_loss(self, view):
        """Returns the sum of both losses of a view, `(batch, height, width, 3)`."""
        check_color(view, "SplitBrain")
        colors, lightness = self.classes(view)
        return self.classification_loss(
            self.predict_colors(view), colors, self.color_accuracy
        ) + self.classification_loss(
            self.predict_lightness(view), lightness, self.lightness_accuracy
        )

    def classes(self, view) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the bins of color and lightness of the sampled pixels, `(batch, h / 4, w / 4)`."""
        lab = sample_pixels(rgb_to_lab(view))
        interval = tf.cast(lab[..., 0] * (self.lightness_bins / _WHITE), tf.int32)
        return self.bins.nearest(lab[..., 1:]), tf.clip_by_value(
            interval, 0, self.lightness_bins - 1
        )

    def classification_loss(self, logits, classes, accuracy: keras.metrics.Mean) -> tf.Tensor:
        """Returns the cross-entropy divided by that of a uniform guess; updates the accuracy."""
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        accuracy.update_state(predicted == tf.cast(classes, tf.int32))
        return self.cross_entropy(classes, logits) / math.log(logits.shape[-1])

    def predict_colors(self, view, training: bool = True) -> tf.Tensor:
        """Returns the logits of the colors, `(batch, h / 4, w / 4, 262)`."""
        return self._predict(view, self.lightness_block, self.color_head, training)

    def predict_lightness(self, view, training: bool = True) -> tf.Tensor:
        """Returns the logits of the lightness, `(batch, h / 4, w / 4, lightness_bins)`."""
        return self._predict(view, self.color_block, self.lightness_head, training)

    def _predict(self, view, block: str, head: keras.layers.Layer, training: bool) -> tf.Tensor:
        logits = head(self.feature_maps(view, block, training), training=training)
        _, height, width, _ = sample_pixels(view).shape
        return resize_maps(tf.cast(logits, tf.float32), height, width)

    def panels(self, view) -> list[Panel]:
        """Returns the views, the colors that one network predicts, and the lightness of the other."""
        lab = rgb_to_lab(view)
        colors = self.bins.decode(self.predict_colors(view, training=False))
        shares = tf.nn.softmax(self.predict_lightness(view, training=False))
        middles = (np.arange(self.lightness_bins, dtype=np.float32) + 0.5) / self.lightness_bins
        lightness = resize_maps(tf.linalg.matvec(shares, middles)[..., None], *view.shape[1:3])
        return [
            Panel("Image", np.clip(view, 0, 1)),
            Panel("Colors, predicted from the lightness", paint(lab, colors)),
            Panel("Lightness, predicted from the colors", np.clip(lightness, 0, 1)),
        ]

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return [*super().metrics, self.color_accuracy, self.lightness_accuracy]
