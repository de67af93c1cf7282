"""Builds the temperature of a distilled student into its scores."""

import keras


def calibrated(network: keras.Model, temperature: float) -> keras.Model:
    """Returns a network that divides the scores of another network by a temperature.

    A student that was distilled at temperature 0.1 learned probabilities softmax(scores / 0.1). The
    softmax of its undivided scores is nearly uniform, and useless as probabilities or for another
    distillation at temperature 1. The predicted classes and their order do not change.

    Args:
        network: built functional `keras.Model` from images to scores, `(batch, classes)`. Its layers
            are shared, not copied.
        temperature: temperature at which the network was trained, positive.

    Returns:
        `network` itself if the temperature is 1, otherwise a `keras.Model` with one more layer.

    Raises:
        ValueError: if `temperature` is not positive.

    Example:
        >>> student = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> images = keras.ops.ones((1, 2))
        >>> bool((calibrated(student, 0.5)(images) == 2 * student(images)).numpy().all())
        True
    """
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
    if temperature == 1:
        return network
    layer = keras.layers.Rescaling(1 / temperature, dtype=keras.config.floatx(), name="temperature")
    # After a second distillation, the network already has a layer of this name. Nesting avoids a clash.
    inner = keras.Model(network.inputs[0], network.outputs[0], name=f"{network.name}_scores")
    images = keras.Input(network.input_shape[1:], name="images")
    return keras.Model(images, layer(inner(images)), name=network.name)
