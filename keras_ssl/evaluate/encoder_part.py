"""Builds the encoder that is fine-tuned: a backbone and the first layers of its projection head."""

from typing import Any

import keras

from keras_ssl.layers import SplitBatchNorm, split_batch_norm
from keras_ssl.layers.rebuilt import rebuilt
from keras_ssl.methods import SelfSupervised


def encoder(model: keras.Model, from_layer: int = 0) -> keras.Model:
    """Returns a copy of a backbone with the first layers of its projection head, for fine-tuning.

    The copy has its own weights and moving statistics, so training it does not change `model`. All
    layers are trainable, even those frozen in `model`. Split batch normalization becomes ordinary
    batch normalization, so any batch size works. The head's layers follow the backbone and are named
    "projector_dense_1" and so on. The copy is created in the current distribution strategy's scope; in
    inference mode its outputs equal the original's.

    Args:
        model: self-supervised method, or any built `keras.Model` from images to `(batch, features)`.
        from_layer: last layer of the head to keep. 0 is the backbone's output; 1 is the ReLU after the
            first dense layer, SimCLRv2's choice for few labels; the head's depth is its output.

    Returns:
        Functional model, images `(batch, height, width, channels)` to `(batch, dim)`.

    Raises:
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if there is no head or it has no such layer, or if the backbone cannot be rebuilt
            from its configuration or does not map each image to one vector.

    Example:
        >>> model = keras_ssl.methods.SimCLR(keras_ssl.backbones.Tiny((8, 8, 3)))
        >>> encoder(model, from_layer=1).output_shape, encoder(model, from_layer=2).output_shape
        ((None, 64), (None, 128))

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners", section
    2, "Fine-tuning"; `model_util.py` of google-research/simclr.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a self-supervised method or a keras.Model that maps images to features. "
            f"Received: model={model!r} of type {type(model).__name__}"
        )
    backbone = model.backbone if isinstance(model, SelfSupervised) else model
    if not backbone.built:
        raise ValueError(
            "`model` must be built: call it once or give it an input shape. "
            f"Received: the unbuilt model {backbone.name!r}"
        )
    head_layers = _head_layers(model, from_layer)
    images, features = _symbolic_ends(_copy(backbone))
    for layer in head_layers:
        copy = type(layer).from_config({**layer.get_config(), "name": f"projector_{layer.name}"})
        features = copy(features)
        copy.set_weights(layer.get_weights())
    part = keras.Model(images, features, name=backbone.name)
    for (
        layer
    ) in part._flatten_layers():  # `part.trainable = True` does nothing if it is already True
        layer.trainable = True
    return part


def _head_layers(model: Any, from_layer: int) -> list[keras.layers.Layer]:
    head: Any = getattr(model, "projector", None) if isinstance(model, SelfSupervised) else None
    depth = getattr(head, "depth", 0) if hasattr(head, "first_layers") else 0
    if (
        isinstance(from_layer, bool)
        or not isinstance(from_layer, int)
        or not 0 <= from_layer <= depth
    ):
        raise ValueError(
            "`from_layer` must be an integer from 0 (the backbone's output) to the depth of the "
            "model's projector. It must be 0 if there is no projector, or the projector has no "
            f"`first_layers`. Received: from_layer={from_layer!r}, {_describe(model, head, depth)}"
        )
    return head.first_layers(from_layer) if from_layer else []


def _describe(model: Any, head: Any, depth: int) -> str:
    if head is None:
        return f"a {type(model).__name__} without projector"
    return f"a {type(model).__name__} with a {type(head).__name__} of depth {depth}"


def _copy(backbone: keras.Model) -> keras.Model:
    if any(isinstance(layer, SplitBatchNorm) for layer in backbone._flatten_layers()):
        return split_batch_norm(backbone, groups=1)
    return rebuilt(backbone, "model")


def _symbolic_ends(network: keras.Model) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns a network's symbolic input and output: images and features."""
    images: list = getattr(network, "inputs", None) or []
    features: list = getattr(network, "outputs", None) or []
    if not images:  # a subclassed model becomes one layer; its build config has the input shape
        shape = (network.get_build_config() or {}).get("input_shape") or (None,)
        images = [keras.Input(shape[1:])]
        features = keras.tree.flatten(network(*images)) if len(shape) == 4 else []
    ranks = [[len(tensor.shape) for tensor in tensors] for tensors in (images, features)]
    if ranks != [[4], [2]]:
        raise ValueError(
            "`model` must map images (batch, height, width, channels) to vectors (batch, features). "
            "Global average pooling turns a feature map into a vector. "
            f"Received: {network.name!r} from {[t.shape for t in images]} to "
            f"{[t.shape for t in features]}"
        )
    return images[0], features[0]
