"""Where in a model numbers stop being finite."""

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

_CHUNK = 32  # images at a time: the outputs of all layers take much memory
_HEADS = ("projector", "predictor")  # each takes what the one before it returns


def all_finite(tensors: Iterable) -> tf.Tensor:
    """Returns whether all numbers in tensors or variables are finite: a scalar bool."""
    values = [tf.convert_to_tensor(tensor) for tensor in tensors]
    finite = [tf.reduce_all(tf.math.is_finite(v)) for v in values if v.dtype.is_floating]
    return tf.reduce_all(tf.stack([tf.constant(True), *finite]))


def first_not_finite(model: keras.Model, views: Sequence[tf.Tensor]) -> str:
    """Says where NaN or infinity comes up first, in the order in which images pass.

    That is: the views themselves; the layers of the backbone; the projector and the predictor, where
    the model has them; the weights of all else. Of each layer the weights are looked at first, then the
    output in inference mode. Of what is no functional model (or `Sequential`), such as a subclassed
    backbone, the weights of all its layers are looked at, and the output of the whole.

    Args:
        model: model with a `backbone`, or one that is its own.
        views: batches of images, each (batch, height, width, channels); weights alone are looked at
            where there are none.

    Returns:
        A clause, such as "layer 'block1_conv' of the backbone: its weights 'block1_conv/kernel' are not
        finite".
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
    """Returns the name of the first layer that is not finite, and what of it; `None` for none."""
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
    """Looks into a layer that is a model itself, with what the network passes to it."""
    if not isinstance(layer, keras.Model):
        return None
    # The property of the base class: a model's own `input` is the one that it was made with.
    passed = keras.Operation.input.fget(layer)
    return _first_within(layer, _outputs(keras.Model(network.inputs[0], passed), values))


def _with_all_outputs(network: keras.layers.Layer) -> keras.Model | None:
    """Returns a model that gives the output of each layer; `None` where that cannot be."""
    if len(getattr(network, "inputs", None) or ()) != 1:
        return None  # not functional, or not of images alone
    try:
        return keras.Model(network.inputs[0], [layer.output for layer in network.layers])
    except (AttributeError, ValueError):
        return None  # a layer that is shared with another model


def _finite_outputs(probe: keras.Model, values: list) -> list[bool]:
    """Returns for each output of a model whether it is finite for all images."""

    # A graph, so that no more outputs are kept than the layers to come need.
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
    """Returns the layer of the first variable that is not finite, and what to say; `None` for none."""
    for variable in variables:
        if not all_finite([variable]):
            return variable.path.rpartition("/")[0], f"its weights {variable.path!r} are"
    return None
