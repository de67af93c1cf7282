"""PyTorch export: a backbone's weights with torchvision's or timm's names."""

import re

import keras
import numpy as np
from keras import layers

from keras_ssl.backbones.tokens import PatchTokens
from keras_ssl.importers.torch_names import torch_places
from keras_ssl.importers.vit import vit_places
from keras_ssl.layers import Conv2D

_STATISTIC = "running_var"
_VIT_LAST = "features"
_VIT_LAYER = re.compile(r"patches|tokens|features|block\d+_(attention|norm[12]|dense[12])")


def torch_state_dict(backbone: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a ResNet with torchvision's names, or of a vision transformer with timm's.

    torchvision's network of the same depth, width and stem can load them, and then computes the same
    features. For a ResNet-D, that network is timm's, such as `resnet50d`. For a
    `keras_ssl.backbones.ViT`, it is timm's `VisionTransformer` without a classifier, with
    `global_pool="avg"` for `pooling="mean"`. Its images have the size of the position embeddings,
    `grid` times `patch`; the tensors do not contain the number of heads.

    Args:
        backbone: network of `keras_ssl.backbones.ResNet` or `keras_ssl.backbones.ViT`, or a model with
            one as its `backbone`.

    Returns:
        Arrays by name, in PyTorch's layout: float32, except for batch counters, which are int64.
        There is no classifier (`fc` or `head`).

    Raises:
        TypeError: if `backbone` is not a Keras model.
        ValueError: if these libraries have no such network: for networks with selective kernels, with
            TensorFlow's padding (such as those imported from SimCLR or BYOL), with strides in 1x1
            convolutions, or that are neither a ResNet nor a ViT.

    Example:
        ```python
        weights = keras_ssl.export.torch_state_dict(backbone)
        network = torchvision.models.resnet18()
        network.fc = torch.nn.Identity()
        network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        ```

    Source: `torchvision/models/resnet.py`; `timm/models/resnet.py`;
    `timm/models/vision_transformer.py`.
    """
    inner = getattr(backbone, "backbone", None)
    backbone = inner if isinstance(inner, keras.Model) else backbone
    if not isinstance(backbone, keras.Model):
        raise TypeError(f"`backbone` must be a keras.Model. Received: backbone={backbone!r}")
    if any(isinstance(layer, PatchTokens) for layer in backbone.layers):
        _check_vit(backbone)
        return {name: place.stored() for name, place in vit_places(backbone).items()}
    places = torch_places(backbone)
    _check_padding(backbone)
    weights = {}
    for name, place in places.items():
        weights[name] = place.stored()
        if name.endswith(_STATISTIC):
            counter = name.removesuffix(_STATISTIC) + "num_batches_tracked"
            weights[counter] = np.zeros((), np.int64)
    return weights


def _check_vit(backbone: keras.Model) -> None:
    """Raises ValueError if `vit_places` would leave out a weight or the last layers of a network."""
    names = [layer.name for layer in backbone.layers if layer.weights]
    other = [name for name in names if not _VIT_LAYER.fullmatch(name)]
    last = backbone.layers[-1].name
    if other or last != _VIT_LAST:
        raise ValueError(
            "timm has no counterpart for a layer of the backbone. Expected: a keras_ssl.backbones.ViT, "
            f"which ends in the layer {_VIT_LAST!r}, without further layers. Received: "
            f"{backbone.name!r}, which ends in {last!r}, with {other or 'no further weights'}"
        )


def _check_padding(backbone: keras.Model) -> None:
    names = {layer.name for layer in backbone.layers}
    different = [layer.name for layer in backbone.layers if _pads_as_tensorflow(layer)]
    if "block1_1_conv3" in names and backbone.get_layer("block2_1_conv1").strides != (1, 1):
        different.append("block2_1_conv1")
    if "stem_extra_pad" in names:
        different.append("stem_extra_pad")
    if "block1_1_conv3" not in names and "block1_1_shortcut_conv" in names:
        different.append("block1_1_shortcut_conv")
    if different:
        raise ValueError(
            "torchvision has no counterpart for this network: it would compute other features from "
            "the same weights. Expected: a keras_ssl.backbones.ResNet, with PyTorch's padding and "
            f"strides. Received: {backbone.name!r} with other padding or strides, or an additional "
            f"projection, in {different}"
        )


def _pads_as_tensorflow(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, layers.MaxPooling2D):
        return layer.padding == "same"
    is_strided = isinstance(layer, Conv2D) and layer.strides != (1, 1)
    return is_strided and layer.padding == "same" and layer.kernel_size != (1, 1)
