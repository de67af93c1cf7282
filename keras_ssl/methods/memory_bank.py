"""Instance discrimination with a memory bank of one embedding per image."""

import keras
import tensorflow as tf

from keras_ssl.layers import EmbeddingBank, MLPHead
from keras_ssl.losses import InfoNCE
from keras_ssl.methods.base import SelfSupervised


@keras.saving.register_keras_serializable(package="keras_ssl")
class MemoryBank(SelfSupervised):
    """Contrastive learning against a memory bank with one embedding per image.

    The positive of a view is the bank's entry for its image. The negatives are random entries of
    other images, drawn at each step. There is no second encoder: entries were computed by the
    encoder of up to one epoch ago. MoCo's queue was designed to avoid this inconsistency.

    Batches must include the indices of the images: use `keras_ssl.data.views(..., indices=True)`.
    Each view is a separate query, and the bank stores the mean of the views. (The paper has one
    view per step.)

    The MoCo paper compares three mechanisms (figure 2). Here they are `SimCLR` (end-to-end: the
    batch is the dictionary), `MemoryBank` and `MoCo` (queue).

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; it is evaluated and
            exported.
        projector: layer that maps features to embeddings; `None` uses the paper's linear layer with
            128 outputs.
        size: number of images in the data set.
        negatives: number of negatives, drawn at each step.
        temperature: temperature of the loss, positive.
        bank_momentum: weight of the old entry when an entry is updated, in [0, 1].

    Attributes:
        bank: the `EmbeddingBank`.

    Raises:
        ValueError: if an argument is out of range, or `backbone` does not return one vector per
            image; when training starts, if batches do not include indices.

    Example:
        ```python
        model = MemoryBank(keras_ssl.backbones.ResNet(18), size=len(source))
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.03, weight_decay=1e-4))
        policy = keras_ssl.augment.moco_v1(32)
        model.fit(keras_ssl.data.views(source, policy, batch_size=256, indices=True))
        ```

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination" (temperature 0.07, momentum 0.5, 4,096 negatives). The loss is InfoNCE, as in the
    MoCo paper's comparison (He et al. 2020, section 4.1); the original uses noise-contrastive
    estimation.
    """

    takes_indices = True

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        size: int = 50_000,
        negatives: int = 4096,
        temperature: float = 0.07,
        bank_momentum: float = 0.5,
        **kwargs,
    ):
        for name, value in (("size", size), ("negatives", negatives)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        if not 0 <= bank_momentum <= 1:
            raise ValueError(
                f"`bank_momentum` must lie in [0, 1]. Received: bank_momentum={bank_momentum}"
            )
        super().__init__(backbone, **kwargs)
        self.projector = self.build_head(projector or MLPHead(units=128, depth=1))
        self.size = size
        self.negatives = negatives
        self.temperature = temperature
        self.bank_momentum = bank_momentum
        dim = self.projector.compute_output_shape(backbone.output_shape)[-1]
        self.bank = EmbeddingBank(size, dim, bank_momentum)
        self.info_nce = InfoNCE(temperature)

    def ssl_loss(self, *views_and_index):
        """Returns the loss of views `(batch, height, width, channels)` and indices `(batch,)`."""
        *views, index = views_and_index
        positives = self.bank.read(index)  # (batch, dim)
        drawn = self.bank.draw(self.negatives)  # (negatives,)
        negatives = self.bank.read(drawn)
        same_image = tf.cast(index, tf.int64)[:, None] == drawn  # (batch, negatives)

        loss, z_sum = 0.0, 0.0
        for view in views:
            z = self.projector(self.features(view), training=True)
            loss += self.info_nce(z, positives, negatives, excluded=same_image) / len(views)
            z_sum += tf.math.l2_normalize(tf.cast(z, tf.float32), axis=-1)
        embeddings = tf.math.l2_normalize(tf.stop_gradient(z_sum), axis=-1)
        self.after_batch(self.bank.enter, index, embeddings)
        return loss
