"""Target networks: moving averages of an online network."""

import keras
import tensorflow as tf
from keras import ops

from keras_ssl.layers.rebuilt import rebuilt


def target_network(online: keras.layers.Layer, name: str | None = None) -> keras.layers.Layer:
    """Returns a copy of a network that is updated by `momentum_update`, not by gradients.

    The weights start equal to those of `online` (`keras.models.clone_model` would initialize new ones).
    The variables are frozen, not the layers: a frozen layer would run batch normalization in inference
    mode, but the target networks of MoCo and BYOL use batch statistics.

    Args:
        online: built layer or model that Keras can rebuild from its configuration.
        name: name of the copy; by default "target_" followed by the name of `online`.

    Returns:
        A network of the same class, with the same weights and no trainable variables.

    Raises:
        TypeError: if `online` is not a Keras layer.
        ValueError: if `online` is not built, or cannot be rebuilt from its configuration.

    Example:
        >>> online = keras_ssl.backbones.Tiny((8, 8, 3))
        >>> target = target_network(online)
        >>> len(target.trainable_variables), target.name
        (0, 'target_tiny')

    Source: He et al. 2020 (MoCo), section 3.2; Grill et al. 2020 (BYOL), section 3.1.
    """
    if not isinstance(online, keras.layers.Layer):
        raise TypeError(
            "`online` must be a Keras layer or model. "
            f"Received: online={online!r} of type {type(online).__name__}"
        )
    if not online.built:
        raise ValueError(
            "`online` must be built: call it once, or give it an input shape. "
            f"Received: the unbuilt {online.name!r}"
        )
    target = rebuilt(online, "online", name or f"target_{online.name}")
    for variable in target.variables:
        variable.trainable = False
    return target


def momentum_update(
    target: keras.layers.Layer, online: keras.layers.Layer, momentum: float | tf.Tensor
):
    """Moves a target network's parameters towards the online network's.

        target = momentum * target + (1 - momentum) * online

    Only parameters are updated. The moving statistics of batch normalization come from the target's
    own forward passes. Momentum 1 leaves the target exactly unchanged, and 0 copies the online network
    exactly.

    Args:
        target: the network returned by `target_network(online)`.
        online: the network being trained.
        momentum: a number or scalar tensor in [0, 1].

    Example:
        >>> online = keras_ssl.backbones.Tiny((8, 8, 3))
        >>> target = target_network(online)
        >>> momentum_update(target, online, 0.99)

    Source: He et al. 2020 (MoCo), equation 2.
    """
    for theirs, own in zip(online.weights, target.weights, strict=True):
        if theirs.trainable:
            keep = ops.cast(momentum, own.dtype)
            own.assign(keep * own + (1 - keep) * theirs)


def target_pairs(model: keras.Model) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Returns each target network of a model with its online network.

    They are found by attribute name: `target_encoder` follows `encoder` or `online_encoder`, and
    `target` follows `online`.

    Args:
        model: any Keras model.

    Returns:
        Pairs (target, online), in the order in which the targets were assigned to the model.

    Raises:
        ValueError: if a target has no online network.

    Example:
        >>> model = keras_ssl.methods.BYOL(keras_ssl.backbones.Tiny((8, 8, 3)))
        >>> [online.name for target, online in target_pairs(model)]
        ['tiny', 'projector']
    """
    layers = {k: v for k, v in vars(model).items() if isinstance(v, keras.layers.Layer)}
    pairs = []
    for name, target in layers.items():
        if name != "target" and not name.startswith("target_"):
            continue
        part = name.removeprefix("target").removeprefix("_")
        names = [part, f"online_{part}"] if part else ["online"]
        online = next((layers[each] for each in names if each in layers), None)
        if online is None:
            raise ValueError(
                f"A target network must have an online network: `{name}` follows "
                f"`{'` or `'.join(names)}`. Received: {type(model).__name__} with the networks "
                f"{', '.join(layers)}"
            )
        pairs.append((target, online))
    return pairs
