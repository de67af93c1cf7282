"""Target networks: copies that follow an online network as its moving average."""

import keras
import tensorflow as tf
from keras import ops

from keras_ssl.layers.rebuilt import rebuilt


def target_network(online: keras.layers.Layer, name: str | None = None) -> keras.layers.Layer:
    """Returns a copy of a built network that is moved by `momentum_update`, never by gradients.

    The weights are equal at the start (`keras.models.clone_model` draws new ones). Each variable is
    frozen, not the layers: a frozen layer would run its batch normalisation in inference mode, while a
    target network normalises with the statistics of its own batches, as MoCo's and BYOL's do.

    Args:
        online: built layer or model that Keras can rebuild from its configuration.
        name: of the copy; "target_" and the name of `online` unless told.

    Returns:
        A network of the same class, with the same weights and no trainable variable.

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

    Parameters only: the moving statistics of its batch normalisation come from the target's own
    forward passes. Momentum 1 leaves the target as it is, 0 copies the online network, both to the bit.

    Args:
        target: what `target_network(online)` returned.
        online: the network that is trained.
        momentum: in [0, 1]; a number or a scalar tensor.

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
    """Returns each target network of a model with the online network that it follows.

    They are found by their attributes' names: `target_encoder` follows `encoder` or `online_encoder`,
    and `target` follows `online`.

    Args:
        model: any Keras model.

    Returns:
        Pairs (target, online), in the order in which the model got its targets.

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
        online = next((layers[known] for known in names if known in layers), None)
        if online is None:
            raise ValueError(
                f"A target network must have an online network: `{name}` follows "
                f"`{'` or `'.join(names)}`. Received: {type(model).__name__} with the networks "
                f"{', '.join(layers)}"
            )
        pairs.append((target, online))
    return pairs
