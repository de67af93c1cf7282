"""MoCo: contrastive learning with a queue of keys from a momentum encoder."""

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.augment import random
from keras_ssl.layers import KeyQueue, MLPHead, SplitBatchNorm, target_network
from keras_ssl.losses import InfoNCE
from keras_ssl.methods.checks import warn_if_queue_too_long
from keras_ssl.methods.momentum import MomentumMethod


@keras.saving.register_keras_serializable(package="keras_ssl")
class MoCo(MomentumMethod):
    """Momentum Contrast: a queue of earlier keys gives many negatives with small batches.

    The default is version 2. Version 1 is `MoCo(backbone, MLPHead(128, depth=1), temperature=0.07)`
    with `keras_ssl.augment.moco_v1`.

    On one device, batch statistics can leak which key is the positive: it is normalized together
    with the queries, and the keys in the queue are not. To prevent this, pass a backbone with split
    batch normalization, `keras_ssl.layers.split_batch_norm(backbone, groups=8)`. Keys are then
    shuffled over the global batch, so that a query and its key are normalized in different groups.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; the query encoder,
            which is evaluated and exported.
        projector: layer that maps features to embeddings; `None` uses version 2's head with 128
            outputs. A built layer is used as it is.
        queue_size: number of negatives; need not be divisible by the batch size. It should be well
            below the number of images; otherwise older keys of an image are among its negatives.
        temperature: temperature of the loss, positive; 0.2 in version 2, 0.07 in version 1.
        symmetric: use each view as query and as key, and add the two losses, which is an option of
            the reference's CIFAR-10 notebook. This doubles the work, the keys and the loss per
            step.

    Attributes:
        queue: the `KeyQueue`.
        target_backbone: backbone of the key encoder, a moving average of `backbone`.
        target_projector: projector of the key encoder, a moving average of `projector`.

    Raises:
        ValueError: if `temperature` or `queue_size` is not positive, or `backbone` does not return
            one vector per image.

    Example:
        ```python
        model = MoCo(keras_ssl.backbones.ResNet(18), queue_size=4096)
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.03, weight_decay=1e-4))
        views = keras_ssl.data.views(source, keras_ssl.augment.moco_v2(96), batch_size=256)
        model.fit(views, callbacks=[keras_ssl.callbacks.MomentumEncoder(0.999, final=0.999)])
        ```

    Source: He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning",
    algorithm 1; Chen et al. 2020, "Improved Baselines with Momentum Contrastive Learning";
    `moco/builder.py` and the CIFAR-10 notebook of facebookresearch/moco.
    """

    default_momentum = (0.999, 0.999)  # MoCo, section 4.1

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        queue_size: int = 65536,
        temperature: float = 0.2,
        symmetric: bool = False,
        **kwargs,
    ):
        if queue_size < 1:
            raise ValueError(f"`queue_size` must be at least 1. Received: queue_size={queue_size}")
        super().__init__(backbone, **kwargs)
        self.projector = self.build_head(projector or MLPHead(units=128))
        self.queue_size = queue_size
        self.temperature = temperature
        self.symmetric = symmetric
        self.target_backbone = target_network(backbone)
        self.target_projector = target_network(self.projector)
        dim = self.projector.compute_output_shape(backbone.output_shape)[-1]
        self.queue = KeyQueue(queue_size, dim)
        self.info_nce = InfoNCE(temperature)

    def ssl_loss(self, view_1, view_2):
        """Returns the loss of two views, each `(batch, height, width, channels)`."""
        k_2 = self.keys(view_2)  # (global_batch, dim)
        loss = self.info_nce(self.queries(view_1), distribute.own_part(k_2), self.queue.keys)
        keys = [k_2]
        if self.symmetric:
            k_1 = self.keys(view_1)
            loss += self.info_nce(self.queries(view_2), distribute.own_part(k_1), self.queue.keys)
            keys = [k_1, k_2]
        self.after_step(self.move_targets)
        self.after_batch(self.enqueue, *keys)
        return loss

    def queries(self, view):
        """Returns the online embeddings of a view, `(batch, dim)`."""
        return self.projector(self.features(view), training=True)

    def keys(self, view):
        """Returns the keys of a view on all replicas, `(global_batch, dim)`.

        Keys are target embeddings of length 1, without gradient.
        """
        if not self._normalizes_in_parts():
            return distribute.all_gather(self._target_embeddings(view))
        # Shuffle over all replicas, so that query and key of an image do not share batch
        # statistics. The order is a function of the queue's state: replicas agree, and a resumed
        # run has the same order.
        count = tf.shape(view)[0] * distribute.replica_count()
        key = random.image_keys(0, self.queue.pointer, tf.zeros(1, tf.int64), view=0)
        order = tf.argsort(random.uniform(key, count)[0])  # (global_batch,)
        shuffled = tf.gather(distribute.all_gather(view), order)
        k = distribute.all_gather(self._target_embeddings(distribute.own_part(shuffled)))
        return tf.gather(k, tf.argsort(order))  # in the order of the images

    def _target_embeddings(self, view):
        h = self.features(view, self.target_backbone)
        k = self.target_projector(h, training=True)
        return tf.stop_gradient(tf.math.l2_normalize(tf.cast(k, tf.float32), axis=-1))

    def _normalizes_in_parts(self):
        """Returns whether any batch normalization covers less than the global batch."""

        def is_partial(layer, chunks):
            if not isinstance(layer, keras.layers.BatchNormalization):
                return False
            by_replica = distribute.replica_count() > 1 and not layer.synchronized
            return isinstance(layer, SplitBatchNorm) or by_replica or chunks > 1

        networks = ((self.target_backbone, self.chunks), (self.target_projector, 1))
        return any(
            is_partial(layer, n) for network, n in networks for layer in network._flatten_layers()
        )

    def enqueue(self, *keys_and_accepted):
        """Adds the keys of the global batch to the queue, if its gradients were used."""
        *keys, accepted = keys_and_accepted
        self.queue.enqueue_gathered(*keys, accepted=accepted)

    def fit(self, x=None, *args, **kwargs):
        """Trains on batches of views; see `SelfSupervised.fit`."""
        warn_if_queue_too_long(self.queue_size, x, keys_per_image=2 if self.symmetric else 1)
        return super().fit(x, *args, **kwargs)
