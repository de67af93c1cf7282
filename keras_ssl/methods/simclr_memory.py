"""SimCLR with a memory: keys of a momentum encoder, of the batch and from a queue."""

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.layers import KeyQueue, ProjectionHead, target_network
from keras_ssl.losses import InfoNCE
from keras_ssl.methods.checks import warn_if_queue_too_long
from keras_ssl.methods.momentum import MomentumMethod


@keras.saving.register_keras_serializable(package="keras_ssl")
class SimCLRMemory(MomentumMethod):
    """SimCLRv2's contrastive learning with negatives from the batch and a queue of earlier keys.

    Every view is a query. Its positive is the target network's key of the other view. Its negatives
    are the keys of both views of all other images in the global batch, and the keys in the queue.
    Keys of the same image in the batch are never negatives, and no gradient flows through keys.

    SimCLRv2 reports results with this memory, but its code was never released. The paper says that
    the output of a moving average of the network is kept as negative examples, with MoCo's momentum
    and a memory of 64K. An author adds that queries are compared with outputs of the moving average
    only, for the current batch too, and that the views are SimCLR's. The rest is our choice: the
    keys of both views enter the queue, and the target network embeds both views in one pass.

    Batch normalization should cover the global batch, as in the paper and in this package's
    backbones, because keys are not shuffled as in `MoCo`.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; the online network,
            which is evaluated and exported.
        projector: layer that maps features to embeddings; `None` uses the paper's three-layer
            projection head with 128 outputs. A built layer is used as it is.
        queue_size: number of earlier keys; need not be divisible by the batch size. 65,536 in the
            paper. It should be well below twice the number of images, which is the number of keys
            in an epoch; otherwise older keys of an image are among its negatives.
        temperature: temperature of the loss, positive; 0.1 is SimCLR's value for ImageNet. The
            paper gives none for the memory.

    Attributes:
        queue: the `KeyQueue`.
        target_backbone: moving average of `backbone`.
        target_projector: moving average of `projector`.

    Raises:
        ValueError: if `temperature` or `queue_size` is not positive, or `backbone` does not return
            one vector per image.

    Example:
        ```python
        model = SimCLRMemory(keras_ssl.backbones.ResNet(50, sk_ratio=0.0625), queue_size=16384)
        model.compile(optimizer=keras_ssl.optimizers.LARS(3.2, weight_decay=1e-4))
        views = keras_ssl.data.views(source, keras_ssl.augment.simclr(96), batch_size=1024)
        model.fit(views, callbacks=[keras_ssl.callbacks.MomentumEncoder(0.999, final=0.999)])
        ```

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners",
    sections 2 and 3.1; issue 115 of google-research/simclr, the author's answer; He et al. 2020
    (MoCo).
    """

    default_momentum = (0.999, 0.999)  # section 3.1, with MoCo's momentum

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        queue_size: int = 65536,
        temperature: float = 0.1,
        **kwargs,
    ):
        if queue_size < 1:
            raise ValueError(f"`queue_size` must be at least 1. Received: queue_size={queue_size}")
        super().__init__(backbone, **kwargs)
        self.projector = self.build_head(projector or ProjectionHead(units=128, depth=3))
        self.queue_size = queue_size
        self.temperature = temperature
        self.target_backbone = target_network(backbone)
        self.target_projector = target_network(self.projector)
        dim = self.projector.compute_output_shape(backbone.output_shape)[-1]
        self.queue = KeyQueue(queue_size, dim)
        self.info_nce = InfoNCE(temperature)

    def ssl_loss(self, view_1, view_2):
        """Returns the loss of two views, each `(batch, height, width, channels)`."""
        views = tf.concat([view_1, view_2], axis=0)
        z = self.projector(self.features(views), training=True)  # (2 * batch, dim)
        k_1, k_2 = tf.split(self.keys(views), 2)  # (batch, dim)
        all_1, all_2 = distribute.all_gather(k_1), distribute.all_gather(k_2)  # (global_batch, dim)
        candidates = tf.concat([all_1, all_2, tf.convert_to_tensor(self.queue.keys)], axis=0)
        same_image = self.same_image(tf.shape(k_1)[0])
        loss = self.info_nce(z, tf.concat([k_2, k_1], axis=0), candidates, excluded=same_image)
        self.after_step(self.move_targets)
        self.after_batch(self.enqueue, all_1, all_2)
        return loss

    def keys(self, views):
        """Returns the target embeddings of views, `(batch, dim)`, of length 1, without gradient."""
        h = self.features(views, self.target_backbone)
        k = self.target_projector(h, training=True)
        return tf.stop_gradient(tf.math.l2_normalize(tf.cast(k, tf.float32), axis=-1))

    def same_image(self, batch):
        """Returns which keys of the global batch belong to the same image as each query.

        Args:
            batch: number of images on this replica.

        Returns:
            (2 * batch, 2 * global_batch) bool. Rows are the queries of this replica: first views,
            then second views. Columns are the keys of all replicas: first views, then second views.
        """
        own = distribute.replica_id() * batch + tf.range(batch)
        images = tf.range(distribute.replica_count() * batch)
        return tf.tile(own[:, None] == images, (2, 2))  # each view matches the keys of both views

    def enqueue(self, all_1, all_2, accepted):
        """Adds the keys of the global batch to the queue, if its gradients were used."""
        self.queue.enqueue_gathered(all_1, all_2, accepted=accepted)

    def fit(self, x=None, *args, **kwargs):
        """Trains on batches of views; see `SelfSupervised.fit`."""
        warn_if_queue_too_long(self.queue_size, x, keys_per_image=2)
        return super().fit(x, *args, **kwargs)
