"""SimCLR: contrastive learning with the other images of the batch as negatives."""

import keras
import tensorflow as tf

from keras_ssl.layers import ProjectionHead
from keras_ssl.losses import NTXent
from keras_ssl.methods.base import SelfSupervised


@keras.saving.register_keras_serializable(package="keras_ssl")
class SimCLR(SelfSupervised):
    """Contrastive learning in which the other images of the global batch are the negatives.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; it is evaluated and
            exported.
        projector: layer that maps features to the embeddings for the loss; `None` uses the paper's
            two-layer projection head with 128 outputs.
        temperature: temperature of the loss, positive; 0.1 in the paper (ImageNet), 0.5 for
            CIFAR-10 (section B.9).

    Raises:
        ValueError: if `temperature` is not positive or `backbone` does not return one vector per
            image.

    Example:
        ```python
        model = SimCLR(keras_ssl.backbones.ResNet(18), temperature=0.5)
        model.compile(optimizer=keras_ssl.optimizers.LARS(0.3))
        model.fit(keras_ssl.data.views(source, keras_ssl.augment.simclr(32), batch_size=512))
        ```

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", algorithm 1.
    """

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        temperature: float = 0.1,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        self.projector = self.build_head(projector or ProjectionHead(units=128))
        self.temperature = temperature
        self.nt_xent = NTXent(temperature)

    def ssl_loss(self, view_1, view_2):
        """Returns the NT-Xent loss of two views, each `(batch, height, width, channels)`."""
        # One pass for both views, as in the reference code, so that they share batch statistics.
        h = self.features(tf.concat([view_1, view_2], axis=0))  # (2 * batch, features)
        z = self.projector(h, training=True)  # (2 * batch, dim)
        z_1, z_2 = tf.split(z, 2)
        return self.nt_xent(z_1, z_2)
