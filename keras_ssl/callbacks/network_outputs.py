"""Features and embeddings of a model in training, for its monitors."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.layers import SplitBatchNorm


def find_networks(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the backbone, followed by the projector of a method that has one."""
    projector = getattr(model, "projector", None) if hasattr(model, "ssl_loss") else None
    backbone = getattr(model, "backbone", model)
    return [backbone, projector] if isinstance(projector, keras.layers.Layer) else [backbone]


def compute_outputs(
    networks: Sequence[keras.layers.Layer], *views: tf.Tensor, training: bool = False
) -> list[tf.Tensor]:
    """Applies networks in sequence; returns the outputs of each, (views, n, dim) float32.

    In training mode, too, no variable changes: neither moving statistics nor random states.

    Args:
        networks: layers; the first takes images, and each other one the outputs of the one before.
        *views: images, (n, height, width, channels).
        training: mode of the networks.

    Raises:
        ValueError: if a network does not return one vector per image.
    """
    if not training:
        return _compute(networks, views, training)
    with keras.StatelessScope():
        return _compute(networks, views, training)


def _compute(
    networks: Sequence[keras.layers.Layer], views: Sequence[tf.Tensor], training: bool
) -> list[tf.Tensor]:
    values: Sequence[Any] = views
    outputs = []
    for network in networks:
        values = [network(value, training=training) for value in values]
        if any(not tf.is_tensor(value) or value.shape.rank != 2 for value in values):
            raise ValueError(
                f"CollapseMonitor needs one vector per image, (batch, dim). Received: {values[0]!r} "
                f"from {network.name!r}"
            )
        outputs.append(tf.stack([tf.cast(value, tf.float32) for value in values]))
    return outputs


def moving_batch_norms(networks: Sequence[keras.layers.Layer]) -> list[Any]:
    """Returns the batch normalization layers whose moving statistics training updates."""
    layers = [layer for network in networks for layer in network._flatten_layers()]
    kind = keras.layers.BatchNormalization
    return [layer for layer in layers if isinstance(layer, kind) and layer.trainable]


def whole_groups(layers: Sequence[Any], images: int) -> int:
    """Returns the largest number of images, up to `images`, that split batch normalization takes."""
    groups = max((each.groups for each in layers if isinstance(each, SplitBatchNorm)), default=1)
    return images // groups * groups
