"""Any network of Keras, KerasHub or KerasCV as a backbone: its feature maps become one vector."""

from typing import Any

import keras
from keras import layers


def pooled(
    network: keras.Model,
    output: str | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Returns a network with global average pooling behind it, as a backbone for every method.

    The layers of a functional network of Keras, as those of `keras.applications` are, become the
    backbone's own layers. A network of a class of its own, as those of `keras_hub.models` and
    `keras_cv.models` are, becomes one layer: it knows best how to be saved. The weights are shared in
    both cases. A network that returns vectors stays as it is, in float32.

    Args:
        network: maps images `(batch, height, width, channels)` to feature maps `(batch, h, w,
            features)`, tokens `(batch, n, features)` or vectors, or to several of them by name.
        output: which one, by name, where the network returns several.
        input_shape: of the images, where the network is a subclass that does not know it.

    Returns:
        A functional model from images to float32 `(batch, features)`.

    Raises:
        TypeError: if `network` is not a Keras model.
        ValueError: if `input_shape` or `output` is missing or unknown, or the output has another
            number of dimensions.

    Example:
        >>> network = keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None)
        >>> pooled(network).output_shape
        (None, 1280)
    """
    if not isinstance(network, keras.Model):
        raise TypeError(f"`network` must be a keras.Model. Received: network={network!r}")
    inputs: Any = getattr(network, "inputs", None)
    if inputs and len(inputs) != 1:
        raise ValueError(
            "`network` must have one input, images. Received: "
            f"{network.name!r} with inputs {[tensor.name for tensor in inputs]}"
        )
    if inputs and input_shape is None:
        input_shape = inputs[0].shape[1:]
        is_plain = type(network).__module__.startswith("keras.")
    else:
        is_plain = False
    if is_plain:
        images, found = inputs[0], network.output
    elif input_shape is None:
        raise ValueError(
            "`input_shape` must be given for a network that does not know it. Received: "
            f"{network.name!r} of type {type(network).__name__}, with input_shape=None"
        )
    else:
        images = keras.Input(input_shape, name="images")
        found = network(images)
    x = _chosen(found, output)
    kinds = {2: layers.Identity, 3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D}
    if len(x.shape) not in kinds:
        raise ValueError(
            "`network` must return feature maps (batch, h, w, features), tokens (batch, n, features) "
            f"or vectors. Received: {network.name!r} returning {x.shape}"
        )
    # float32 where the network computes in half precision, as losses and evaluation want it.
    features = kinds[len(x.shape)](dtype="float32", name="pooled_features")(x)
    return keras.Model(images, features, name=network.name)


def _chosen(found: object, output: str | None) -> keras.KerasTensor:
    if isinstance(found, dict):
        if output not in found:
            raise ValueError(
                f"`output` must be one of {', '.join(found)}. Received: output={output!r}"
            )
        return found[output]
    if output is not None or not isinstance(found, keras.KerasTensor):
        raise ValueError(
            "`output` chooses among outputs with names. Received: "
            f"output={output!r} for a network that returns {found}"
        )
    return found
