"""What fine-tuning begins with: a pretrained backbone and the first layers of its head."""

from typing import Any

import keras

from keras_ssl.layers import SplitBatchNorm, split_batch_norm
from keras_ssl.layers.rebuilt import rebuilt
from keras_ssl.methods import SelfSupervised


def encoder(model: keras.Model, from_layer: int = 0) -> keras.Model:
    """Returns a copy of a backbone with the first layers of its projection head, to be fine-tuned.

    The copy has weights and moving statistics of its own: training it leaves `model` as it is. All of
    it can be trained, also what was frozen, and in batches of any size: split batch normalisation is
    whole again. The layers of the head stand behind those of the backbone, named "projector_dense_1"
    and so on. It is made in the scope of the current distribution strategy, in inference mode equal to
    the original.

    Args:
        model: self-supervised method, or any built `keras.Model` from images to `(batch, features)`.
        from_layer: layer of the head to end with: 0 is the backbone's output, 1 the ReLU behind the
            first dense layer, which is SimCLRv2's choice for few labels, the head's depth its output.

    Returns:
        Functional model, images `(batch, height, width, channels)` to `(batch, dim)`.

    Raises:
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if the head has no such layer, there is no head, or the backbone cannot be rebuilt
            from its configuration or does not map images to one vector each.

    Example:
        >>> model = keras_ssl.methods.SimCLR(keras_ssl.backbones.Tiny((8, 8, 3)))
        >>> encoder(model, from_layer=1).output_shape, encoder(model, from_layer=2).output_shape
        ((None, 64), (None, 128))

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners", section
    2, "Fine-tuning"; `model_util.py` of google-research/simclr.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a self-supervised method, or a keras.Model that maps images to features. "
            f"Received: model={model!r} of type {type(model).__name__}"
        )
    backbone = model.backbone if isinstance(model, SelfSupervised) else model
    if not backbone.built:
        raise ValueError(
            "`model` must be built: call it once, or give it an input shape. "
            f"Received: the unbuilt model {backbone.name!r}"
        )
    kept = _layers_of_the_head(model, from_layer)
    images, features = _ends(_copied(backbone))
    for layer in kept:
        own = type(layer).from_config({**layer.get_config(), "name": f"projector_{layer.name}"})
        features = own(features)
        own.set_weights(layer.get_weights())
    part = keras.Model(images, features, name=backbone.name)
    for each in part._flatten_layers():  # `part.trainable = True` does nothing where it is true
        each.trainable = True
    return part


def _layers_of_the_head(model: Any, from_layer: int) -> list[keras.layers.Layer]:
    head: Any = getattr(model, "projector", None) if isinstance(model, SelfSupervised) else None
    depth = getattr(head, "depth", 0) if hasattr(head, "first_layers") else 0
    if (
        isinstance(from_layer, bool)
        or not isinstance(from_layer, int)
        or not 0 <= from_layer <= depth
    ):
        raise ValueError(
            "`from_layer` must be an integer from 0, the backbone's output, to the depth of the "
            "model's projector; of a network without one, or with one that has no `first_layers`, only "
            f"0. Received: from_layer={from_layer!r}, {_described(model, head, depth)}"
        )
    return head.first_layers(from_layer) if from_layer else []


def _described(model: Any, head: Any, depth: int) -> str:
    if head is None:
        return f"a {type(model).__name__} without projector"
    return f"a {type(model).__name__} with a {type(head).__name__} of depth {depth}"


def _copied(backbone: keras.Model) -> keras.Model:
    if any(isinstance(layer, SplitBatchNorm) for layer in backbone._flatten_layers()):
        return split_batch_norm(backbone, groups=1)
    return rebuilt(backbone, "model")


def _ends(network: keras.Model) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the symbolic images and features of a network."""
    images: list = getattr(network, "inputs", None) or []
    features: list = getattr(network, "outputs", None) or []
    if not images:  # a class of its own knows what built it, and becomes one layer
        shape = (network.get_build_config() or {}).get("input_shape") or (None,)
        images = [keras.Input(shape[1:])]
        features = keras.tree.flatten(network(*images)) if len(shape) == 4 else []
    ranks = [[len(tensor.shape) for tensor in tensors] for tensors in (images, features)]
    if ranks != [[4], [2]]:
        raise ValueError(
            "`model` must map images (batch, height, width, channels) to one vector each, (batch, "
            "features); global average pooling turns a feature map into one. "
            f"Received: {network.name!r} from {[t.shape for t in images]} to "
            f"{[t.shape for t in features]}"
        )
    return images[0], features[0]
