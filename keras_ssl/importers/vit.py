"""Imports vision transformers with timm's names: of timm, DINO, MoCo v3, MAE and many others."""

import logging
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.backbones import ViT
from keras_ssl.backbones.positions import sincos_positions
from keras_ssl.importers.matching import Place, fill, join_names
from keras_ssl.importers.number_formats import to_float32
from keras_ssl.importers.state_dict import (
    choose_prefix,
    find_vit_prefixes,
    state_dict,
    take_prefix,
)

_LOG = logging.getLogger("keras_ssl")

# Attention heads by width, from ViT-Ti to ViT-H, of timm, DINO and MAE.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
# MoCo v3's ViT-S differs: see its `vits.py`.
MOCO_V3_HEADS = {**HEADS, 384: 12}

_BLOCK = re.compile(r"blocks\.(\d+)\.")
# Parts of a checkpoint beside a backbone without a prefix: heads, MAE's decoder, weight averages.
_OTHERS = re.compile(
    r"(head|fc|linear|classifier|projector|projection_head|prototypes|predictor|decoder_\w+)\."
    r"|(decoder_pos_embed|mask_token|n_averaged)$"
)
_LAYER = re.compile(r"block(\d+)_(attention|norm1|norm2|dense1|dense2)")
_PARTS = {"norm1": "norm1", "norm2": "norm2", "dense1": "mlp.fc1", "dense2": "mlp.fc2"}
_LAYOUTS = {1: "keras", 2: "torch_dense", 4: "torch_convolution"}  # by the number of axes
_FIRST_PARTS = {  # and their numbers of axes
    "patch_embed.proj.weight": 4,
    "cls_token": 3,
    "pos_embed": 3,
    "blocks.0.mlp.fc1.weight": 2,
}


def torch_vit(
    path: str | os.PathLike | Mapping[str, np.ndarray],
    prefix: str | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    heads: int | None = None,
    resize_offset: float = 0.0,
) -> keras.Model:
    """Returns a vision transformer with the weights of a PyTorch network that has timm's names.

    Width, depth and patches are detected from the tensors. Supported are plain vision transformers
    with a class token and one embedding for each position, such as timm's `vit_small_patch16_224` and
    `deit_small_patch16_224`. Classifiers, projection heads and decoders are ignored. Of a network with
    `fc_norm`, the features are the normalized mean of the tokens, as timm computes them; of all others,
    the normalized class token. Fixed position embeddings, sines and cosines, stay fixed in training.

    Checkpoints of whole methods are read too; see `torch_resnet` for the wrappers and prefixes. Use
    `checkpoint` for those of DINO, MoCo v3 and MAE.

    The inputs are those of the PyTorch network: for DeiT, DINO, MoCo v3 and MAE, pixels in [0, 1],
    minus the mean [0.485, 0.456, 0.406], divided by [0.229, 0.224, 0.225]. For timm's own `vit_*`
    weights ("augreg"), mean and divisor are 0.5.

    Args:
        path: a file written by `torch.save`, a `.safetensors` file, or a dictionary of arrays. No code
            in the file is run.
        prefix: prefix of the names, such as "backbone."; `None` to find it.
        input_shape: (height, width, channels) of the images, with `None` for free sides; `None` for
            images of any size. Position embeddings are resized for other sizes than the network's.
        heads: number of attention heads. The weights do not tell, and a wrong number gives wrong
            features. `None`: 3, 6, 12, 16 and 16 for widths of 192, 384, 768, 1024 and 1280, which is
            logged; 12 for a width of 384 with the position embeddings of MoCo v3.
        resize_offset: see `keras_ssl.backbones.ViT`.

    Returns:
        A model of `keras_ssl.backbones.ViT`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, contains another network or several, a tensor is
            missing, unexpected, or has the wrong shape, or `heads` is `None` for another width.

    Example:
        ```python
        backbone = keras_ssl.importers.torch_vit("deit_small_patch16_224.pth")
        features = backbone(images)  # (batch, 384)
        ```

    Source: `timm/models/vision_transformer.py`.
    """
    tensors, origin = state_dict(path)
    if prefix is None:
        prefix = choose_prefix(find_vit_prefixes(tensors), origin) or ""
    network = take_prefix(tensors, origin, prefix)
    return build_vit(network, origin, input_shape, heads, resize_offset=resize_offset)


def build_vit(
    tensors: Mapping[str, Any],
    origin: str,
    input_shape: tuple | None = None,
    heads: int | None = None,
    known_heads: Mapping[int, int] | None = None,
    resize_offset: float = 0.0,
) -> keras.Model:
    """Returns a vision transformer with tensors that have timm's names; see `torch_vit`.

    Args:
        known_heads: number of heads by width, which is taken without a message.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not _OTHERS.match(name)}
    depth, hidden = _check(kept, origin)
    dim, channels, patch, _ = kept["patch_embed.proj.weight"].shape
    if input_shape is not None and input_shape[-1] != channels:
        raise ValueError(
            f"`input_shape` must have {channels} channels, like the weights. "
            f"Received: input_shape={input_shape}"
        )
    side = math.isqrt(kept["pos_embed"].shape[1] - 1)
    order = _fixed_order(kept["pos_embed"], side)
    if heads is None:
        heads = _known_heads(dim, origin, known_heads, order)
    backbone = ViT(
        patch,
        dim,
        depth,
        heads,
        input_shape or (None, None, channels),
        mlp_dim=hidden,
        positions="learned" if order is None else "sincos",
        pooling="mean" if "fc_norm.weight" in kept else "token",
        grid=(side, side),
        resize_offset=resize_offset,
    )
    fill(vit_places(backbone), kept, origin)
    return backbone


def vit_places(backbone: keras.Model) -> dict[str, Place]:
    """Returns the weights of a `keras_ssl.backbones.ViT` by timm's names.

    Source: `timm/models/vision_transformer.py`.
    """
    tokens, patches = backbone.get_layer("tokens"), backbone.get_layer("patches")
    last = "fc_norm" if backbone.get_layer("pooling").pooling == "mean" else "norm"
    parts = {"patch_embed.proj": patches, last: backbone.get_layer("features")}
    for layer in backbone.layers:
        if match := _LAYER.fullmatch(layer.name):
            start, kind = f"blocks.{int(match[1]) - 1}", match[2]
            if kind == "attention":
                parts |= {f"{start}.attn.qkv": layer.qkv, f"{start}.attn.proj": layer.proj}
            else:
                parts[f"{start}.{_PARTS[kind]}"] = layer
    places = {"cls_token": Place(tokens.class_token), "pos_embed": Place(tokens.embeddings)}
    for name, layer in parts.items():
        for variable in layer.weights:
            layout = _LAYOUTS[len(variable.shape)]
            last_word = "weight" if variable.name in ("kernel", "gamma") else "bias"
            places[f"{name}.{last_word}"] = Place(variable, layout)
    return places


def _check(tensors: Mapping[str, Any], origin: str) -> tuple[int, int]:
    """Returns the number of blocks and the hidden units of their perceptrons.

    Raises:
        ValueError: if the tensors are not those of a plain vision transformer.
    """
    axes = {name: getattr(tensors.get(name), "ndim", 0) for name in _FIRST_PARTS}
    if axes != _FIRST_PARTS:
        raise ValueError(
            f"{origin} is not a plain vision transformer with timm's names. Expected: "
            f"{', '.join(_FIRST_PARTS)}. Received: {join_names(tensors)}"
        )
    height, width = tensors["patch_embed.proj.weight"].shape[2:]
    count = tensors["pos_embed"].shape[1] - 1
    if height != width or count < 1 or math.isqrt(count) ** 2 != count:
        raise ValueError(
            f"{origin} is not a vision transformer that keras_ssl supports. Expected: square patches, "
            "and position embeddings of a class token and a square of patches. Received: patches of "
            f"{height}x{width} pixels, and {count + 1} position embeddings"
        )
    depth = 1 + max(int(match[1]) for name in tensors if (match := _BLOCK.match(name)))
    return depth, tensors["blocks.0.mlp.fc1.weight"].shape[0]


def _fixed_order(embeddings: np.ndarray, side: int) -> str | None:
    """Returns which half of fixed position embeddings comes first; `None` if they are learned.

    "column" as in MAE, "row" as in MoCo v3.
    """
    dim = embeddings.shape[2]
    values = to_float32(embeddings)
    if values is None or dim % 4 or np.abs(values[0, 0]).max() > 0:
        return None
    column_first = sincos_positions(side, side, dim)
    row_first = column_first.reshape(side, side, dim).swapaxes(0, 1).reshape(-1, dim)
    for order, table in (("column", column_first), ("row", row_first)):
        if np.allclose(values[0, 1:], table, atol=0.01):  # for weights in half precision
            return order
    return None


def _known_heads(dim: int, origin: str, known: Mapping[int, int] | None, order: str | None) -> int:
    """Returns the number of heads of published networks of this width; logs it without `known`."""
    table = known or (MOCO_V3_HEADS if order == "row" else HEADS)
    if dim not in table:
        raise ValueError(
            f"The weights of {origin} do not tell the number of attention heads. Expected: `heads` "
            f"(--heads), for a width of {dim}; it is known for {', '.join(map(str, table))}. "
            "Received: heads=None"
        )
    if known is None:
        _LOG.warning(
            "%s: taken to have %d attention heads, as published networks of width %d. `heads` "
            "(--heads) sets another number.",
            origin,
            table[dim],
            dim,
        )
    return table[dim]
