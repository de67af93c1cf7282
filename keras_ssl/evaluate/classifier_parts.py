"""Separates a trained classifier into its encoder and its classification layer."""

import keras

from keras_ssl.evaluate.classifier import CLASSES

_TEMPERATURE = "temperature"  # the layer that `keras_ssl.distill.calibrated` adds


def encoder_of_classifier(network: keras.Model) -> keras.Model | None:
    """Returns the encoder of a fine-tuned or distilled classifier; `None` if it is no such network.

    Args:
        network: any model. One of `with_classes` ends in the layer "classes", after a distillation
            followed by its temperature.

    Returns:
        `keras.Model` from images `(batch, height, width, channels)` to the inputs of the layer
        "classes", `(batch, dim)`. It shares the weights.

    Example:
        >>> network = with_classes(keras_ssl.backbones.Tiny((8, 8, 3)), classes=10)
        >>> encoder_of_classifier(network).output_shape
        (None, 64)
    """
    if not getattr(network, "inputs", None) or not network.layers:
        return None
    last = network.layers[-1]
    if last.name == CLASSES and isinstance(last, keras.layers.Dense):
        return keras.Model(network.inputs[0], last.input, name=f"{network.name}_encoder")
    if last.name == _TEMPERATURE and isinstance(network.layers[-2], keras.Model):
        return encoder_of_classifier(network.layers[-2])
    return None
