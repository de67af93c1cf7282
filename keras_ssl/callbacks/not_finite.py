"""Finds the first layer of a model with NaN or infinite values."""

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

_CHUNK = 32  # images at a time, because the outputs of all layers take much memory
_HEADS = ("projector", "predictor")  # each takes the output of the previous network


def all_finite(tensors: Iterable) -> tf.Tensor:
    """Returns whether all values in tensors or variables are finite, as a scalar bool."""
    values = [tf.convert_to_tensor(tensor) for tensor in tensors]
    finite = [tf.reduce_all(tf.math.is_finite(v)) for v in values if v.dtype.is_floating]
    return tf.reduce_all(tf.stack([tf.constant(True), *finite]))


def first_not_finite(model: keras.Model, views: Sequence[tf.Tensor]) -> str:
    """Describes where NaN or infinity appears first, in forward order.

    The order is: the views; the layers of the backbone; the projector and the predictor, if the
    model has them; all other weights. For each layer, the weights are checked first, then the
    output in inference mode. A network that is not functional or `Sequential`, such as a subclassed
    backbone, is checked like one layer.

    Args:
        model: model with a `backbone`, or one that maps images to features itself.
        views: batches of images, each (batch, height, width, channels). Without any, only weights
            are checked.

    Returns:
        A clause, such as "layer 'block1_conv' of the backbone: its weights 'block1_conv/kernel' are
        not finite".
    """
    for number, view in enumerate(views, start=1):
        if not all_finite([view]):
            return f"view {number} of the last batch is not finite"
    values = list(views)
    for name, network in _networks(model):
        if found := _first_within(network, values):
            return f"layer {found[0]!r} of the {name}: {found[1]} not finite"
        values = _outputs(network, values)
    if found := _first_weights(model.weights):
        return f"layer {found[0]!r}: {found[1]} not finite"
    return (
        "all weights are finite, and so are the outputs for the last batch (of the first replica)"
    )


def _networks(model: keras.Model) -> Iterator[tuple[str, keras.layers.Layer]]:
    if not hasattr(model, "backbone"):
        yield "model", model
        return
    yield "backbone", model.backbone
    for name in _HEADS:
        head = getattr(model, name, None)
        if not isinstance(head, keras.layers.Layer):
            return
        yield name, head


def _first_within(network: keras.layers.Layer, values: list) -> tuple[str, str] | None:
    """Returns the name of the first layer that is not finite and its problem, or `None`."""
    probe = _with_all_outputs(network)
    if probe is None:
        if found := _first_weights(network.weights):
            return found
        is_finite = all_finite(_outputs(network, values))
        return None if is_finite else (network.name, "its output is, with finite weights,")
    flags = _finite_outputs(probe, values) if values else [True] * len(network.layers)
    for layer, is_finite in zip(network.layers, flags, strict=True):
        if found := _first_weights(layer.weights):
            return found
        if not is_finite:
            return _within_nested(network, layer, values) or (
                layer.name,
                "its output for the last batch is, with finite weights,",
            )
    return None


def _within_nested(
    network: keras.Model, layer: keras.layers.Layer, values: list
) -> tuple[str, str] | None:
    """Checks a layer that is itself a model, with the input that it gets in the network."""
    if not isinstance(layer, keras.Model):
        return None
    # The base class's property is the input within the network; the model's own `input` is the one
    # that the model was built with.
    layer_input = keras.Operation.input.fget(layer)
    return _first_within(layer, _outputs(keras.Model(network.inputs[0], layer_input), values))


def _with_all_outputs(network: keras.layers.Layer) -> keras.Model | None:
    """Returns a model with the outputs of all layers; `None` if that is not possible."""
    if len(getattr(network, "inputs", None) or ()) != 1:
        return None  # not functional, or with several inputs
    try:
        return keras.Model(network.inputs[0], [layer.output for layer in network.layers])
    except (AttributeError, ValueError):
        return None  # a layer is shared with another model


def _finite_outputs(probe: keras.Model, values: list) -> list[bool]:
    """Returns, for each output of a model, whether it is finite for all images."""

    # A graph frees each output once no later layer needs it.
    @tf.function(autograph=False, reduce_retracing=True)
    def finite(images):
        outputs = probe(images, training=False)
        return tf.stack([all_finite(tf.nest.flatten(output)) for output in outputs])

    parts = [finite(images).numpy() for value in values for images in _chunks(value)]
    return np.all(parts, axis=0).tolist()


def _outputs(network: keras.layers.Layer, values: list) -> list:
    return [
        tf.concat([network(images, training=False) for images in _chunks(value)], axis=0)
        for value in values
    ]


def _chunks(value: tf.Tensor) -> Iterator[tf.Tensor]:
    for start in range(0, len(value), _CHUNK):
        yield value[start : start + _CHUNK]


def _first_weights(variables: Iterable[keras.Variable]) -> tuple[str, str] | None:
    """Returns the layer of the first variable that is not finite and its problem, or `None`."""
    for variable in variables:
        if not all_finite([variable]):
            return variable.path.rpartition("/")[0], f"its weights {variable.path!r} are"
    return None
