"""Copies a backbone onto other channels of an image."""

from typing import Any

import keras


def copied(
    backbone: keras.Model, channels: keras.KerasTensor, prefix: str = ""
) -> keras.KerasTensor:
    """Returns the features that a copy of a backbone computes from a symbolic tensor.

    The copy has the weights of the backbone. Its layers become layers of the model that is made from
    the result, so that "block3" of the backbone can be found there by its name.

    Args:
        backbone: model that `sides_of` accepts.
        channels: `(batch, height, width, channels)` symbolic tensor.
        prefix: beginning of the names of the copied layers.
    """
    pairs: list[tuple[Any, Any]] = []
    results: dict[str, Any] = {}

    def copy_layer(layer):
        copy = type(layer).from_config({**layer.get_config(), "name": prefix + layer.name})
        pairs.append((layer, copy))
        return copy

    def call_layer(layer, *args, **kwargs):
        results[layer.name] = layer(*args, **kwargs)
        return results[layer.name]

    # A plain functional model, whatever the class of the backbone is.
    network = keras.Model(backbone.inputs[0], backbone.outputs[0])
    keras.models.clone_model(network, channels, copy_layer, call_function=call_layer)
    for layer, copy in pairs:
        if isinstance(layer, keras.layers.Layer):
            copy.set_weights(layer.get_weights())
    last = next(each for each in network.operations if each.output is network.outputs[0])
    return results[prefix + last.name]


def sides_of(backbone: Any, channels: int, argument: str) -> tuple[int | None, int | None]:
    """Returns (height, width) of the images of a backbone that can be copied.

    Args:
        backbone: functional or sequential model from images to `(batch, features)`.
        channels: number of channels that it must take.
        argument: name of the caller's argument, for error messages.

    Raises:
        TypeError: if the backbone is not a Keras model.
        ValueError: if the backbone is not functional, takes another number of channels, or does not
            return one vector per image.
    """
    if not isinstance(backbone, keras.Model):
        raise TypeError(
            f"`{argument}` must be a keras.Model that maps images to features. "
            f"Received: {argument}={backbone!r} of type {type(backbone).__name__}"
        )
    inputs, outputs = (getattr(backbone, name, None) or [] for name in ("inputs", "outputs"))
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"`{argument}` must be a functional or sequential model with one input, images, and one "
            f"output. Received: {backbone.name!r} of type {type(backbone).__name__}, with "
            f"{len(inputs)} inputs and {len(outputs)} outputs"
        )
    if len(inputs[0].shape) != 4 or inputs[0].shape[-1] != channels:
        raise ValueError(
            f"`{argument}` must take images of {channels} channel{'s' * (channels > 1)}, "
            f"(batch, height, width, {channels}). "
            f"Received: {backbone.name!r} for inputs of shape {tuple(inputs[0].shape)}"
        )
    if len(outputs[0].shape) != 2:
        raise ValueError(
            f"`{argument}` must return one vector per image, (batch, features). "
            f"Received: {backbone.name!r} with outputs of shape {tuple(outputs[0].shape)}"
        )
    return tuple(inputs[0].shape[1:3])
