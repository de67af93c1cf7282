"""Colorization: a network learns to predict the colors of a picture from its lightness."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.backbones.of_lightness import sees_only_lightness
from keras_ssl.layers import ColorBins
from keras_ssl.layers.lab import GRAY, lab_to_rgb, rgb_to_lab
from keras_ssl.layers.map_head import MapHead, resize_maps
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.map_targets import check_color, last_map, sample_pixels
from keras_ssl.methods.panel import Panel


@keras.saving.register_keras_serializable(package="keras_ssl")
class Colorization(SelfSupervised):
    """Predicts the colors of an image from its lightness.

    The head predicts, for one of 4 x 4 pixels, the distribution over the bins of `ColorBins`. Rare
    colors have larger weights in the loss, since most pixels of most pictures are nearly gray. Images
    that are gray everywhere have weight 0.

    Batches have one view: use `keras_ssl.data.views` with a single augmentation that does not change
    colors, such as `keras_ssl.augment.crop_and_flip`.

    Args:
        backbone: model of `keras_ssl.backbones.of_lightness`, which sees no color; it is evaluated and
            exported, and takes RGB images.
        head: layer that maps feature maps to 262 logits at each place, `(batch, h, w, 262)`; `None`
            uses `keras_ssl.layers.MapHead(262)`. The logits are enlarged to a quarter of the view.
        prior: 262 shares of the colors, as from `keras_ssl.data.color_prior(source)`, from which the
            weights of the colors follow; `None` means equal shares, hence equal weights.
        block: name of the backbone's layer whose feature maps the head takes; `None` takes the last.
        uniform: share of the uniform distribution that is mixed with the prior, in (0, 1]; with 1 all
            weights are equal.

    Attributes:
        accuracy: metric, the share of the sampled pixels in color images whose likeliest bin is the
            nearest to the color.

    Raises:
        ValueError: if the backbone sees colors or has no feature maps, an argument is out of range, or
            the head returns another number of logits; when training starts, if views have no color.

    Example:
        ```python
        network = keras_ssl.backbones.ResNet(18, input_shape=(96, 96, 1))
        backbone = keras_ssl.backbones.of_lightness(network)
        model = Colorization(backbone, prior=keras_ssl.data.color_prior(source))
        model.compile(optimizer=keras.optimizers.Adam(3e-5, beta_2=0.99))
        model.fit(keras_ssl.data.views(source, keras_ssl.augment.crop_and_flip(96), batch_size=64))
        ```

    Source: Zhang et al. 2016, "Colorful Image Colorization", sections 2.1 and 2.2 (uniform 0.5); the
    threshold of gray images is that of richzhang/colorization.
    """

    view_count = 1

    def __init__(
        self,
        backbone: keras.Model,
        head: keras.layers.Layer | None = None,
        prior: Sequence[float] | None = None,
        block: str | None = None,
        uniform: float = 0.5,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        if not sees_only_lightness(backbone):
            raise ValueError(
                "`backbone` must see the lightness only, since an image in color contains the answer. "
                "Expected: keras_ssl.backbones.of_lightness(network of one channel). "
                f"Received: {backbone.name!r}"
            )
        self.bins = ColorBins()
        self.prior = None if prior is None else [float(share) for share in prior]
        self.uniform = uniform
        self.color_weights = color_weights(self.prior, uniform, self.bins.count)
        self.block = block or last_map(backbone)
        self.head = build_map_head(head, self._map_network(self.block), self.bins.count)
        self.cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.accuracy = keras.metrics.Mean(name="accuracy")

    def ssl_loss(self, view):
        """Returns the cross-entropy of the colors of a view, `(batch, height, width, 3)`."""
        check_color(view, "Colorization")
        lab = rgb_to_lab(view)
        codes = self.bins(sample_pixels(lab[..., 1:]))  # (batch, height / 4, width / 4, 262)
        nearest = tf.argmax(codes, axis=-1, output_type=tf.int32)
        is_color = tf.reduce_any(tf.abs(lab[..., 1:]) > GRAY, axis=(1, 2, 3))  # (batch,)
        is_color = tf.cast(is_color, tf.float32)[:, None, None]
        logits = self.predict_colors(view)
        correct = nearest == tf.argmax(logits, axis=-1, output_type=tf.int32)
        self.accuracy.update_state(correct, is_color * tf.ones_like(nearest, tf.float32))
        weights = is_color * tf.gather(tf.constant(self.color_weights), nearest)
        return self.cross_entropy(codes, logits, sample_weight=weights)

    def predict_colors(self, view, training: bool = True) -> tf.Tensor:
        """Returns logits of the bins for a quarter of the pixels, `(batch, h / 4, w / 4, 262)`."""
        logits = self.head(self.feature_maps(view, self.block, training), training=training)
        _, height, width, _ = sample_pixels(view).shape
        return resize_maps(tf.cast(logits, tf.float32), height, width)

    def panels(self, view) -> list[Panel]:
        """Returns the views, their lightness, the predicted colors, and the bins of the true ones."""
        lab = rgb_to_lab(view)
        true = sample_pixels(lab[..., 1:])
        predicted = self.bins.decode(self.predict_colors(view, training=False))
        distances = np.mean(np.linalg.norm(predicted - true, axis=-1), axis=(1, 2))
        binned = tf.gather(self.bins.centers, self.bins.nearest(true))
        return [
            Panel("Image", np.clip(view, 0, 1)),
            Panel("Lightness, which the network sees", paint(lab, tf.zeros_like(true))),
            Panel(
                "Predicted colors",
                paint(lab, predicted),
                [f"{d:.0f} off in a and b" for d in distances],
            ),
            Panel("True colors, as bins", paint(lab, binned)),
        ]

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return [*super().metrics, self.accuracy]


def color_weights(prior: Sequence[float] | None, uniform: float, count: int) -> np.ndarray:
    """Returns the weight of each color in the loss, (count,) float32.

    It is proportional to 1 / ((1 - uniform) * prior + uniform / count). Its mean over colors that are
    distributed as the prior is 1.

    Raises:
        ValueError: if the prior is no distribution over `count` colors, or `uniform` is out of range.

    Source: Zhang et al. 2016, equation 4.
    """
    if not 0 < uniform <= 1:
        raise ValueError(f"`uniform` must lie in (0, 1]. Received: uniform={uniform}")
    shares = np.full(count, 1 / count) if prior is None else np.asarray(prior, np.float64)
    if shares.shape != (count,) or not np.all(shares >= 0) or abs(shares.sum() - 1) > 1e-3:
        raise ValueError(
            f"`prior` must be {count} numbers that are not negative and sum to 1, as from "
            f"keras_ssl.data.color_prior(source). Received: shape {shares.shape}, minimum "
            f"{shares.min() if shares.size else None}, sum {shares.sum()}"
        )
    weights = 1 / ((1 - uniform) * shares + uniform / count)
    return (weights / (shares @ weights)).astype(np.float32)


def build_map_head(
    head: keras.layers.Layer | None, maps: keras.Model, units: int, name: str = "head"
) -> keras.layers.Layer:
    """Builds and returns a head that takes the output of `maps`; `None` makes a `MapHead`.

    Raises:
        ValueError: if the head returns another number of logits.
    """
    head = head or MapHead(units, name=name)
    if not head.built:
        head.build(maps.output_shape)
    found = head.compute_output_shape(maps.output_shape)[-1]
    if found != units:
        raise ValueError(
            f"`{name}` must return {units} logits at each place. "
            f"Received: {head.name!r}, which returns {found}"
        )
    return head


def paint(lab: tf.Tensor, ab: tf.Tensor) -> np.ndarray:
    """Returns RGB images with the lightness of `lab` and the colors of `ab`, which may be smaller."""
    ab = resize_maps(ab, *lab.shape[1:3])
    return np.asarray(lab_to_rgb(tf.concat([lab[..., :1], ab], axis=-1)))
