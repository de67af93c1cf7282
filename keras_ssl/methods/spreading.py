"""Invariant and spreading embeddings: instance discrimination within the batch, without a memory."""

import keras
import tensorflow as tf

from keras_ssl.layers import MLPHead
from keras_ssl.losses import Spreading
from keras_ssl.methods.base import SelfSupervised


@keras.saving.register_keras_serializable(package="keras_ssl")
class InvariantSpreading(SelfSupervised):
    """Embeddings that are equal for views of an image and spread out over different images.

    It is like `SimCLR` with one term more: in the softmax over the batch, each embedding of another
    image also has a loss of its own, which is large if it is mistaken for the positive. There is
    neither a memory bank nor a large batch.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; it is evaluated and
            exported.
        projector: layer that maps features to the embeddings for the loss; `None` uses the paper's
            linear layer with 128 outputs.
        temperature: temperature of the loss, positive.
        spread_weight: weight of the term for other images, not negative.

    Raises:
        ValueError: if a number is out of range, or `backbone` does not return one vector per image.

    Example:
        ```python
        model = InvariantSpreading(keras_ssl.backbones.ResNet(18))
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.03, weight_decay=5e-4))
        policy = keras_ssl.augment.moco_v1(32)
        model.fit(keras_ssl.data.views(source, policy, batch_size=128))
        ```

    Source: Ye et al. 2019, "Unsupervised Embedding Learning via Invariant and Spreading Instance
    Feature" (temperature 0.1, 128 dimensions). The paper compares an image with an augmented copy;
    its code, and this class, two augmented views.
    """

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        temperature: float = 0.1,
        spread_weight: float = 1.0,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        self.projector = self.build_head(projector or MLPHead(units=128, depth=1))
        self.temperature = temperature
        self.spread_weight = spread_weight
        self.spreading = Spreading(temperature, spread_weight)

    def ssl_loss(self, view_1, view_2):
        """Returns the loss of two views, each `(batch, height, width, channels)`."""
        # One pass for both views, as in the reference code.
        h = self.features(tf.concat([view_1, view_2], axis=0))  # (2 * batch, features)
        z = self.projector(h, training=True)  # (2 * batch, dim)
        z_1, z_2 = tf.split(z, 2)
        return self.spreading(z_1, z_2)
