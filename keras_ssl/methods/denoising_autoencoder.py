"""Denoising autoencoder: restores an image from a noisy one."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.methods.noise import NOISES
from keras_ssl.methods.panel import Panel
from keras_ssl.methods.reconstruction import Reconstruction


@keras.saving.register_keras_serializable(package="keras_ssl")
class DenoisingAutoencoder(Reconstruction):
    """Restores an image from a noisy copy, by way of the backbone's features.

    A decoder, which is discarded afterwards, makes an image of the features of the noisy image, and the
    loss is its squared error to the image without noise. It is a baseline: local structure is enough to
    remove noise.

    Batches have one view, and the keys of the images: use `keras_ssl.data.views(..., keys=True)` with a
    single augmentation.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; it is evaluated and
            exported.
        decoder: layer that maps features to images; `None` for a `keras_ssl.layers.Decoder`.
        noise: "masking" sets pixels to zero, "salt-and-pepper" to zero or one, "gaussian" adds normal
            noise to each value.
        amount: share of the pixels that change, in [0, 1]; for Gaussian noise its standard deviation.
        block: name of the block of the backbone whose feature map the decoder takes, instead of the
            features.

    Raises:
        ValueError: if an argument is out of range, the decoder does not fit, or `backbone` does not
            return one vector per image; when training starts, if batches do not include keys.

    Example:
        ```python
        model = DenoisingAutoencoder(keras_ssl.backbones.ResNet(18), noise="gaussian", amount=0.3)
        model.compile(optimizer=keras.optimizers.Adam(1e-3))
        view = keras_ssl.augment.crop_and_flip(32)
        model.fit(keras_ssl.data.views(source, view, batch_size=128, keys=True))
        ```

    Source: Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders"
    (25 % masked is one of its settings, with one layer at a time and cross-entropy), and Vincent et al.
    2010, "Stacked Denoising Autoencoders", for the other noises and the squared error. They change
    values of gray images; here masking and salt-and-pepper noise change all channels of a pixel.
    """

    view_count = 1
    takes_keys = True

    def __init__(
        self,
        backbone: keras.Model,
        decoder: keras.layers.Layer | None = None,
        noise: str = "masking",
        amount: float = 0.25,
        block: str | None = None,
        **kwargs,
    ):
        if noise not in NOISES:
            raise ValueError(
                f"`noise` must be one of {', '.join(NOISES)}. Received: noise={noise!r}"
            )
        if not 0 <= amount <= 1:
            raise ValueError(f"`amount` must lie in [0, 1]. Received: amount={amount}")
        super().__init__(backbone, decoder, block, activation=None, **kwargs)
        self.noise = noise
        self.amount = amount
        self.squared_error = keras.losses.MeanSquaredError()

    def ssl_loss(self, view, keys):
        """Returns the error of a view `(batch, height, width, channels)`, with keys `(batch, 2)`."""
        restored = self.reconstruct(self.add_noise(view, keys))
        flat = (tf.shape(view)[0], -1)  # one error per image
        return self.squared_error(tf.reshape(view, flat), tf.reshape(restored, flat))

    def add_noise(self, view: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Returns the noisy images; the same for the same keys."""
        return NOISES[self.noise](view, keys, self.amount)

    def panels(self, view, keys) -> list[Panel]:
        """Returns the views, the noisy images and the restored images."""
        noisy = self.add_noise(view, keys)
        restored = self.reconstruct(noisy, training=False)
        rows = {"View": view, "With noise": noisy, "Restored": restored}
        return [Panel(title, np.clip(images, 0, 1)) for title, images in rows.items()]
