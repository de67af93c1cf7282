"""Copies of networks: made again from their configuration, with the same weights."""

import keras


def rebuilt(network: keras.layers.Layer, argument: str, name: str | None = None):
    """Returns a copy of a built network, weights included; `keras.models.clone_model` draws new ones.

    Args:
        network: built layer or model.
        argument: what the caller calls it, for messages.
        name: of the copy; the network's own unless told.

    Returns:
        A network of the same class.

    Raises:
        ValueError: if its configuration does not describe it.
    """
    config = network.get_config()
    copy = type(network).from_config(config if name is None else {**config, "name": name})
    if not copy.built and network.get_build_config():
        copy.build_from_config(network.get_build_config())
    shapes = [[tuple(weight.shape) for weight in each.weights] for each in (network, copy)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"`{argument}` must be a network that its configuration describes: a functional or "
            "sequential model, or a class with `get_config` and `build`. "
            f"Received: {network.name!r} with {len(shapes[0])} weights, and its copy has "
            f"{len(shapes[1])}; the shapes differ: {shapes[0]} and {shapes[1]}"
        )
    copy.set_weights(network.get_weights())
    return copy
