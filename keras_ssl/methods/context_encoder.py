"""Context encoder: fills a hole in an image."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.layers import Discriminator
from keras_ssl.losses import MaskedError
from keras_ssl.methods.holes import REGIONS
from keras_ssl.methods.panel import Panel
from keras_ssl.methods.reconstruction import Reconstruction


@keras.saving.register_keras_serializable(package="keras_ssl")
class ContextEncoder(Reconstruction):
    """Fills a hole in an image with what is likely to be there, given its surroundings.

    The encoder sees an image whose hole has the mean color of the other pixels. A decoder, which is
    discarded afterwards, makes an image of its features, and the loss is the squared error in the hole,
    where pixels are scaled to [-1, 1].

    Batches have one view, and the keys of the images: use `keras_ssl.data.views(..., keys=True)` with a
    single augmentation.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; it is evaluated and
            exported.
        decoder: layer that maps features to images with pixels in [0, 1]; `None` for a
            `keras_ssl.layers.Decoder`.
        region: "random", irregular holes of 20 to 30 % of the image; "center", the central half of each
            side, for pictures: features learned from it describe the border of that hole only.
        block: name of the block of the backbone whose feature map the decoder takes, instead of the
            features.

    Raises:
        ValueError: if there is no such region, the decoder does not fit, or `backbone` does not return
            one vector per image; when training starts, if batches do not include keys.

    Example:
        ```python
        model = ContextEncoder(keras_ssl.backbones.ResNet(18))
        model.compile(optimizer=keras.optimizers.Adam(2e-3, beta_1=0.5))
        view = keras_ssl.augment.crop_and_flip(32)
        model.fit(keras_ssl.data.views(source, view, batch_size=64, keys=True))
        ```

    Source: Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting" (section 3.3 for
    holes). Its holes have the mean color of the data set, and its features for other tasks come from
    random holes without an adversary, as here.
    """

    view_count = 1
    takes_keys = True

    def __init__(
        self,
        backbone: keras.Model,
        decoder: keras.layers.Layer | None = None,
        region: str = "random",
        block: str | None = None,
        **kwargs,
    ):
        if region not in REGIONS:
            raise ValueError(
                f"`region` must be one of {', '.join(REGIONS)}. Received: region={region!r}"
            )
        super().__init__(backbone, decoder, block, activation="sigmoid", **kwargs)
        self.region = region
        self.error = MaskedError()

    def ssl_loss(self, view, keys):
        """Returns the error in the holes of a view `(batch, height, width, channels)`."""
        hole = REGIONS[self.region](view, keys)  # (batch, height, width)
        made = self.reconstruct(cut_out(view, hole))
        return self.error(2 * view - 1, 2 * made - 1, hole)

    def panels(self, view, keys) -> list[Panel]:
        """Returns the views, the images with holes and the filled images."""
        view = tf.convert_to_tensor(view)
        hole = REGIONS[self.region](view, keys)
        holed = cut_out(view, hole)
        filled = tf.where(hole[..., None], self.reconstruct(holed, training=False), view)
        rows = {"View": view, "With a hole": holed, "Filled": filled}
        return [Panel(title, np.clip(images, 0, 1)) for title, images in rows.items()]


@keras.saving.register_keras_serializable(package="keras_ssl")
class AdversarialContextEncoder(ContextEncoder):
    """A context encoder whose fillings shall also look real to a discriminator.

    The squared error alone makes blurred fillings, the mean of all that is likely. A second network
    learns to tell filled images from real ones, and the decoder learns to deceive it. Fillings become
    sharper, features do not become better: use `ContextEncoder` for features.

    Each step trains both networks on the same batch with the same optimizer. No gradient flows from
    the loss of the discriminator to the encoder and decoder, nor from theirs to the discriminator.
    `fit` logs the error of the filling as "error" and the discriminator's share of correct answers as
    "discriminator"; "loss" is the sum of all terms, which need not fall.

    Args:
        backbone: see `ContextEncoder`.
        decoder: see `ContextEncoder`.
        region: see `ContextEncoder`.
        block: see `ContextEncoder`.
        discriminator: layer that maps images to one logit, `(batch, 1)`; `None` for a
            `keras_ssl.layers.Discriminator`.
        adversarial_weight: weight of deceiving the discriminator, in [0, 1]; the error has the rest.

    Raises:
        ValueError: as `ContextEncoder`; or if `adversarial_weight` is not in [0, 1].

    Example:
        ```python
        model = AdversarialContextEncoder(keras_ssl.backbones.ResNet(18), region="center")
        model.compile(optimizer=keras.optimizers.Adam(2e-4, beta_1=0.5))
        view = keras_ssl.augment.crop_and_flip(64)
        model.fit(keras_ssl.data.views(source, view, batch_size=64, keys=True))
        ```

    Source: Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting", equations 2 and 3
    (weights 0.999 and 0.001). In its code the discriminator has a tenth of the other networks' learning
    rate and the two are trained in turn; it judges the content of a central hole, here the entire
    filled image.
    """

    def __init__(
        self,
        backbone: keras.Model,
        decoder: keras.layers.Layer | None = None,
        region: str = "random",
        block: str | None = None,
        discriminator: keras.layers.Layer | None = None,
        adversarial_weight: float = 0.001,
        **kwargs,
    ):
        if not 0 <= adversarial_weight <= 1:
            raise ValueError(
                "`adversarial_weight` must lie in [0, 1]. "
                f"Received: adversarial_weight={adversarial_weight}"
            )
        super().__init__(backbone, decoder, region, block, **kwargs)
        discriminator = discriminator or Discriminator(name="discriminator")
        if not discriminator.built:
            discriminator.build(backbone.input_shape)
        self.discriminator = discriminator
        self.adversarial_weight = adversarial_weight
        self.cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        self.error_tracker = keras.metrics.Mean(name="error")
        self.accuracy = keras.metrics.Mean(name="discriminator")

    def ssl_loss(self, view, keys):
        """Returns the losses of both networks for a view `(batch, height, width, channels)`."""
        hole = REGIONS[self.region](view, keys)  # (batch, height, width)
        made = self.reconstruct(cut_out(view, hole))
        error = self.error(2 * view - 1, 2 * made - 1, hole)
        filled = tf.where(hole[..., None], made, view)
        deception = self.deception_loss(filled)
        self.error_tracker.update_state(self.error.call((2 * view - 1, hole), 2 * made - 1))
        weight = self.adversarial_weight
        return (1 - weight) * error + weight * deception + self.discriminator_loss(view, filled)

    def deception_loss(self, filled: tf.Tensor) -> tf.Tensor:
        """Returns how far filled images are from looking real; the discriminator gets no gradient."""
        network = self.discriminator
        weights = [tf.stop_gradient(tf.convert_to_tensor(v)) for v in network.trainable_variables]
        state = [tf.convert_to_tensor(v) for v in network.non_trainable_variables]
        # The new state is dropped: `discriminator_loss` updates batch statistics once.
        logits, _ = network.stateless_call(weights, state, filled, training=True)
        return self.cross_entropy(tf.ones_like(logits), logits)

    def discriminator_loss(self, view: tf.Tensor, filled: tf.Tensor) -> tf.Tensor:
        """Returns the loss of the discriminator; encoder and decoder get no gradient."""
        real = self.discriminator(view, training=True)  # (batch, 1)
        fake = self.discriminator(tf.stop_gradient(filled), training=True)
        self.accuracy.update_state(tf.concat([real > 0, fake <= 0], axis=0))
        real_loss = self.cross_entropy(tf.ones_like(real), real)
        return real_loss + self.cross_entropy(tf.zeros_like(fake), fake)

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return [*super().metrics, self.error_tracker, self.accuracy]


def cut_out(view: tf.Tensor, hole: tf.Tensor) -> tf.Tensor:
    """Returns the images with holes in the mean color of each image's other pixels.

    Args:
        view: `(batch, height, width, channels)`.
        hole: `(batch, height, width)` bool, True in the holes.
    """
    seen = tf.cast(~hole, view.dtype)[..., None]  # (batch, height, width, 1)
    count = tf.maximum(tf.reduce_sum(seen, axis=(1, 2), keepdims=True), 1.0)
    mean = tf.reduce_sum(seen * view, axis=(1, 2), keepdims=True) / count
    return tf.where(hole[..., None], mean, view)
