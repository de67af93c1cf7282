"""Makes a backbone out of any Keras, KerasHub or KerasCV network by pooling its feature maps."""

from typing import Any

import keras
from keras import layers


def pooled(
    network: keras.Model,
    output: str | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Adds global average pooling to a network, so that any method can use it as a backbone.

    The layers of a plain functional network, such as those of `keras.applications`, become layers of
    the backbone. A network of any other class, such as those of `keras_hub.models` and
    `keras_cv.models`, becomes a single layer, because only its class knows how to save it. The weights
    are shared in both cases. The output of a network that returns vectors is only cast to float32.

    Args:
        network: maps images `(batch, height, width, channels)` to feature maps `(batch, h, w,
            features)`, tokens `(batch, n, features)` or vectors, or to a dictionary of these.
        output: key of the output to use if the network returns a dictionary.
        input_shape: `(height, width, channels)` of the images. Required for a subclassed network that
            does not define its inputs.

    Returns:
        A functional model from images to float32 `(batch, features)`.

    Raises:
        TypeError: if `network` is not a Keras model.
        ValueError: if `input_shape` or `output` is missing or unknown, or the output does not have 2, 3
            or 4 dimensions.

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
        images, outputs = inputs[0], network.output
    elif input_shape is None:
        raise ValueError(
            "`input_shape` must be given for a network without defined inputs. Received: "
            f"{network.name!r} of type {type(network).__name__}, with input_shape=None"
        )
    else:
        images = keras.Input(input_shape, name="images")
        outputs = network(images)
    x = _select_output(outputs, output)
    kinds = {2: layers.Identity, 3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D}
    if len(x.shape) not in kinds:
        raise ValueError(
            "`network` must return feature maps (batch, h, w, features), tokens (batch, n, features) "
            f"or vectors. Received: {network.name!r} returning {x.shape}"
        )
    # Losses and evaluation need float32, also if the network computes in half precision.
    features = kinds[len(x.shape)](dtype="float32", name="pooled_features")(x)
    return keras.Model(images, features, name=network.name)


def _select_output(outputs: object, output: str | None) -> keras.KerasTensor:
    if isinstance(outputs, dict):
        if output not in outputs:
            raise ValueError(
                f"`output` must be one of {', '.join(outputs)}. Received: output={output!r}"
            )
        return outputs[output]
    if output is not None or not isinstance(outputs, keras.KerasTensor):
        raise ValueError(
            "`network` must return one tensor, or a dictionary with the key `output`. Received: "
            f"output={output!r} for a network that returns {outputs}"
        )
    return outputs
