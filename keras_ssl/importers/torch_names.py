"""The names of ResNet weights in torchvision and timm."""

import re

import keras

from keras_ssl.importers.architecture import iterate_weights
from keras_ssl.importers.matching import Place

_STEMS = {"stem_conv": "conv1", "stem_norm": "bn1"}
_DEEP_STEMS = {  # timm's names for the stem of three convolutions, of ResNet-D
    "stem_conv1": "conv1.0",
    "stem_norm1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_norm2": "conv1.4",
    "stem_conv3": "conv1.6",
    "stem_norm3": "bn1",
}
_BLOCK = re.compile(r"block(\d)_(\d+)_(conv|norm|shortcut_conv|shortcut_norm)(\d?)")
_WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def torch_places(backbone: keras.Model, prefix: str = "") -> dict[str, Place]:
    """Returns the weights of a ResNet by torchvision's names; a ResNet-D has timm's names.

    Args:
        backbone: network of `keras_ssl.backbones.ResNet`.
        prefix: prefix of each name.

    Raises:
        ValueError: if a layer has no counterpart in these libraries.

    Source: `torchvision/models/resnet.py`; `timm/models/resnet.py`.
    """
    names = {layer.name for layer in backbone.layers}
    is_resnet_d = any(name.endswith("_shortcut_pool") for name in names)
    places = {}
    for layer, kind, variable in iterate_weights(backbone):
        layer_name = _layer_name(layer.name, is_resnet_d)
        if layer_name is None or kind not in _WEIGHTS:
            raise ValueError(
                "torchvision and timm have no counterpart for a layer of the backbone. Expected: a "
                f"keras_ssl.backbones.ResNet without selective kernels. Received: {layer.name!r} "
                f"of {backbone.name!r}"
            )
        layout = "torch_convolution" if kind == "kernel" else "keras"
        places[f"{prefix}{layer_name}.{_WEIGHTS[kind]}"] = Place(variable, layout)
    return places


def _layer_name(name: str, is_resnet_d: bool) -> str | None:
    stems = _STEMS | _DEEP_STEMS
    if name in stems:
        return stems[name]
    if (match := _BLOCK.fullmatch(name)) is None:
        return None
    stage, block, part, number = match.groups()
    # In a ResNet-D, pooling is number 0 of the shortcut, also where it does nothing.
    parts = {
        "conv": f"conv{number}",
        "norm": f"bn{number}",
        "shortcut_conv": f"downsample.{int(is_resnet_d)}",
        "shortcut_norm": f"downsample.{1 + is_resnet_d}",
    }
    return f"layer{stage}.{int(block) - 1}.{parts[part]}"
