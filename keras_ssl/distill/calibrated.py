"""Scores whose softmax is what a network learned at another temperature than 1."""

import keras


def calibrated(network: keras.Model, temperature: float) -> keras.Model:
    """Returns a network whose softmax is that of another one's scores divided by a temperature.

    A student that was distilled at a temperature of 0.1 predicts with its scores divided by 0.1. Its
    scores as they are have a softmax that is nearly uniform: whoever reads probabilities from them, or
    distils them again at a temperature of 1, gets next to nothing. The classes that are predicted, and
    their order, stay the same.

    Args:
        network: built functional `keras.Model` from images to scores, `(batch, classes)`. Its layers
            are shared, not copied.
        temperature: positive, that at which the network was trained.

    Returns:
        `network` itself at a temperature of 1, otherwise a `keras.Model` with one layer more.

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
    # A second distillation finds the layer of the first there already.
    inner = keras.Model(network.inputs[0], network.outputs[0], name=f"{network.name}_scores")
    images = keras.Input(network.input_shape[1:], name="images")
    return keras.Model(images, layer(inner(images)), name=network.name)
