"""Batch normalization over groups of the batch, as if each group were on its own device."""

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.layers.batch_norm import BatchNorm
from keras_ssl.layers.in_chunks import chunk_count


@keras.saving.register_keras_serializable(package="keras_ssl")
class SplitBatchNorm(BatchNorm):
    """Batch normalization with separate batch statistics for each group of the batch.

    In training, the global batch is split into `groups` contiguous groups, and each is normalized by
    its own mean and variance. MoCo needs this on a single device. Otherwise a query and its positive
    key share batch statistics, which the keys in the queue do not, and the network can recognize the
    positive by them. The groups take the place of MoCo's eight GPUs. They are distributed over
    replicas: with 8 groups, each of two replicas has 4, so that two replicas equal one without
    synchronization. Chunks of a batch (docs/large_batches.md) share the groups in the same way.

    The moving statistics are updated with the mean over the groups. Inference is that of `BatchNorm`.

    Args:
        groups: number of groups of the global batch, a multiple of the number of replicas times chunks.
        **kwargs: arguments of `BatchNorm`.

    Raises:
        ValueError: if `groups` is not positive. In training, if `groups` is not a multiple of replicas
            times chunks, or does not divide the batch.

    Example:
        >>> layer = SplitBatchNorm(groups=2)
        >>> layer(keras.ops.ones((4, 8, 8, 16)), training=True).shape
        TensorShape([4, 8, 8, 16])

    Source: the CIFAR-10 notebook of facebookresearch/moco (where a group takes every n-th image; here
    groups are contiguous, like the batches of several devices); He et al. 2020, section 3.3.
    """

    def __init__(self, groups: int = 8, **kwargs):
        if groups < 1:
            raise ValueError(f"`groups` must be at least 1. Received: groups={groups}")
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, inputs, training=None, mask=None):
        """Normalizes `(batch, ..., channels)` inputs; the output has the same shape."""
        if not (training and self.trainable):
            return super().call(inputs, training=False, mask=mask)
        groups = self._local_groups(inputs.shape[0])
        shape = tf.shape(inputs)
        # The kernel expects feature maps; a vector becomes a map of one pixel.
        maps = tf.reshape(inputs, (shape[0], -1, 1, inputs.shape[-1]))
        parts = [self._normalise(part, training=True) for part in tf.split(maps, groups)]
        outputs, means, variances = zip(*parts, strict=True)
        statistics = tf.stack([tf.reduce_mean(means, axis=0), tf.reduce_mean(variances, axis=0)])
        # (replicas, 2, channels): the moving statistics are the same on all replicas.
        statistics = distribute.all_gather(statistics[None])
        self._move_statistics(*tf.unstack(tf.reduce_mean(statistics, axis=0)))
        return tf.ensure_shape(tf.reshape(tf.concat(outputs, axis=0), shape), inputs.shape)

    def _local_groups(self, batch: int | None) -> int:
        replicas, chunks = distribute.replica_count(), chunk_count()
        groups = self.groups // (replicas * chunks)
        if self.groups % (replicas * chunks) or (batch is not None and batch % groups):
            size = None if batch is None else batch * chunks
            raise ValueError(
                "`groups` must be a multiple of the number of replicas times the chunks of each, and "
                "each replica's batch a multiple of its groups. Received: "
                f"groups={self.groups}, {replicas} replicas, batch per replica {size}, chunks={chunks}"
            )
        return groups

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "groups": self.groups}


def split_batch_norm(model: keras.Model, groups: int = 8) -> keras.Model:
    """Returns a copy of a model, including weights, with `SplitBatchNorm` layers.

    Args:
        model: functional or sequential model, such as a backbone of `keras_ssl.backbones` or
            `keras.applications`.
        groups: see `SplitBatchNorm`; 1 replaces `SplitBatchNorm` by `BatchNorm`.

    Returns:
        A model of the same class.

    Raises:
        ValueError: if the model is neither functional nor sequential, has no batch normalization, or
            has one inside a layer of another class.

    Example:
        >>> backbone = split_batch_norm(keras_ssl.backbones.ResNet(18), groups=8)
        >>> model = keras_ssl.methods.MoCo(backbone, queue_size=4096)

    Source: see `SplitBatchNorm`.
    """

    def split(layer):
        config = layer.get_config()
        if not isinstance(layer, keras.layers.BatchNormalization):
            return type(layer).from_config(config)
        if groups > 1:
            return SplitBatchNorm(**{**config, "groups": groups})
        if isinstance(layer, SplitBatchNorm):
            config.pop("groups")
            return BatchNorm(**config)
        return type(layer).from_config(config)

    if groups < 1:
        raise ValueError(f"`groups` must be at least 1. Received: groups={groups}")
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a built functional or sequential model, whose layers can be replaced. "
            f"Received: {model.name!r} of type {type(model).__name__}"
        )
    before = _batch_norms(model)
    copy = keras.models.clone_model(model, clone_function=split, recursive=True)
    after = _batch_norms(copy)
    if not after or any(isinstance(layer, SplitBatchNorm) != (groups > 1) for layer in after):
        raise ValueError(
            "`model` must have batch normalization among its own layers, not inside layers of other "
            f"classes. Received: groups={groups}, and {model.name!r} with "
            f"{len(before)} batch normalizations, of which "
            f"{sum(isinstance(layer, SplitBatchNorm) for layer in after)} were split"
        )
    copy.set_weights(model.get_weights())
    return copy


def _batch_norms(model: keras.Model) -> list[keras.layers.Layer]:
    layers = model._flatten_layers()
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
