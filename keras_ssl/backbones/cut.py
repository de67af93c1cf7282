"""Encoders that end at a block of a backbone."""

import re

import keras
from keras import layers

from keras_ssl.backbones.tokens import TokenPooling
from keras_ssl.backbones.two_streams import STREAMS

_BLOCK = re.compile(rf"(?:(?:{'|'.join(STREAMS)})_)?(stem|block\d+)")


def cut(backbone: keras.Model, block: str) -> keras.Model:
    """Returns an encoder that ends at a block of a backbone; it shares all weights.

    Its features are the feature maps of the block, averaged over all places. Tokens of a vision
    transformer are pooled and normalized as those of its last block, as in DINO's
    `get_intermediate_layers`. Of a backbone with two streams, the features of both are joined.

    Pretext tasks such as rotation often leave their best features before the last block.

    Args:
        backbone: functional model whose layers have names such as "stem", "block1", "block2".
        block: one of these names; `block_names` lists them.

    Returns:
        A functional model from `(batch, height, width, channels)` to float32 `(batch, features)`.

    Raises:
        ValueError: if the backbone has no such block, or the block has neither feature maps nor tokens.

    Example:
        >>> cut(Tiny((32, 32, 3)), "block2")(keras.ops.ones((2, 32, 32, 3))).shape
        TensorShape([2, 32])

    Source: for vision transformers, `vision_transformer.py` of facebookresearch/dino.
    """
    backbone = without_wrappers(backbone)
    features = block_features(backbone, block, "features")
    return keras.Model(backbone.inputs[0], features, name=f"{backbone.name}_{block}")


def block_features(backbone: keras.Model, block: str, name: str | None = None) -> keras.KerasTensor:
    """Returns the symbolic output of `cut`, float32 (batch, features).

    Args:
        backbone: see `cut`.
        block: see `cut`.
        name: name of the layer that pools feature maps.

    Raises:
        ValueError: see `cut`.
    """
    tensors = block_tensors(backbone, block)
    if len(tensors) == 1:
        return _pool(backbone, tensors[0], name)
    parts = [_pool(backbone, tensor, None) for tensor in tensors]
    return layers.Concatenate(dtype="float32", name=name)(parts)


def block_names(backbone: keras.Model) -> list[str]:
    """Returns the names of a backbone's blocks: "stem" if it has one, "block1", "block2", ...

    The list is empty if the model is not functional or has no layers of such names.

    Example:
        >>> block_names(Tiny((32, 32, 3)))
        ['block1', 'block2', 'block3']
    """
    return list(_blocks(backbone))


def without_wrappers(network: keras.Model) -> keras.Model:
    """Returns the functional model in a model whose only layer it is, such as that of a classifier.

    Other models are returned unchanged.
    """
    inner = [
        layer
        for layer in (network.layers if getattr(network, "inputs", None) else [])
        if not isinstance(layer, layers.InputLayer)
    ]
    if len(inner) == 1 and isinstance(inner[0], keras.Model) and getattr(inner[0], "inputs", None):
        return without_wrappers(inner[0])
    return network


def block_tensors(backbone: keras.Model, block: str) -> list[keras.KerasTensor]:
    """Returns the output of a block: one tensor, or one of each stream of a backbone with two.

    Raises:
        ValueError: if the backbone has no such block, or the block has neither feature maps nor tokens.
    """
    found = _blocks(backbone)
    if block not in found:
        raise ValueError(
            "`block` must be a block of the network. "
            f"Expected: {', '.join(found) or 'a functional network with layers stem, block1, ...'}. "
            f"Received: block={block!r} for {backbone.name!r}"
        )
    for tensor in found[block]:
        if len(tensor.shape) not in (3, 4):
            raise ValueError(
                "A block must return feature maps (batch, h, w, features) or tokens (batch, n, "
                f"features). Received: {block!r} of {backbone.name!r}, which returns {tensor.shape}"
            )
    return found[block]


def _blocks(backbone: keras.Model) -> dict[str, list[keras.KerasTensor]]:
    found: dict[str, list[keras.KerasTensor]] = {}
    backbone = without_wrappers(backbone)
    for layer in backbone.layers if getattr(backbone, "inputs", None) else []:
        match = _BLOCK.fullmatch(layer.name)
        if match:
            found.setdefault(match[1], []).append(layer.output)
    number = {name: -1 if name == "stem" else int(name.removeprefix("block")) for name in found}
    return dict(sorted(found.items(), key=lambda item: number[item[0]]))


def _pool(backbone: keras.Model, tensor: keras.KerasTensor, name: str | None) -> keras.KerasTensor:
    """Returns (batch, features) of feature maps or tokens."""
    if len(tensor.shape) == 4:
        return layers.GlobalAveragePooling2D(dtype="float32", name=name)(tensor)
    for pooling in backbone.layers:
        if isinstance(pooling, TokenPooling):
            features = pooling(tensor)
            for layer in backbone.layers:
                is_next = isinstance(layer, layers.LayerNormalization)
                if is_next and layer.input is pooling.output:
                    return layer(features)
            return features
    return layers.GlobalAveragePooling1D(dtype="float32", name=name)(tensor)
