"""Copies networks: rebuilds them from their configuration and copies the weights."""

import keras


def rebuilt(network: keras.layers.Layer, argument: str, name: str | None = None):
    """Returns a copy of a built network, including its weights.

    `keras.models.clone_model` would initialize new weights.

    Args:
        network: built layer or model.
        argument: name of the caller's argument, for error messages.
        name: name of the copy; by default the network's own.

    Returns:
        A network of the same class.

    Raises:
        ValueError: if the network cannot be rebuilt from its configuration.
    """
    config = network.get_config()
    copy = type(network).from_config(config if name is None else {**config, "name": name})
    if not copy.built and network.get_build_config():
        copy.build_from_config(network.get_build_config())
    shapes = [[tuple(weight.shape) for weight in each.weights] for each in (network, copy)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"`{argument}` must be a network that Keras can rebuild from its configuration: a "
            "functional or sequential model, or a class with `get_config` and `build`. "
            f"Received: {network.name!r} with {len(shapes[0])} weights, whose copy has "
            f"{len(shapes[1])}; the shapes differ: {shapes[0]} and {shapes[1]}"
        )
    copy.set_weights(network.get_weights())
    return copy
