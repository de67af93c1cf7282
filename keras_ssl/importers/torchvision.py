"""Imports ResNets with torchvision's names: state dicts of torchvision, timm and many others."""

import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.importers.architecture import Architecture, find_depth
from keras_ssl.importers.matching import fill, join_names
from keras_ssl.importers.pickle_values import describe
from keras_ssl.importers.safetensors_file import read_safetensors
from keras_ssl.importers.torch_file import read_torch
from keras_ssl.importers.torch_names import torch_places

_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
# Keys under which training scripts save weights.
_CONTAINERS = ("state_dict", "model", "model_state_dict")
_HEAD = re.compile(r"fc\.|head\.")
_COUNTER = ".num_batches_tracked"


def torch_resnet(
    path: str | os.PathLike | Mapping[str, np.ndarray],
    prefix: str = "",
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Returns a ResNet with the weights and running statistics of a PyTorch network.

    Depth, width and stem are detected from the tensors. Supported are torchvision's `resnet18` to
    `resnet152`, timm's networks of the same names, timm's `resnet18d` and `resnet34d`, and narrower or
    wider ones. A stem of one 3x3 convolution is assumed to be that for small images, without pooling.
    The classifier (`fc`) is ignored.

    The inputs are those of the PyTorch network: for most published weights, pixels in [0, 1], minus
    the mean [0.485, 0.456, 0.406], divided by [0.229, 0.224, 0.225].

    Args:
        path: a file written by `torch.save`, a `.safetensors` file, or a dictionary of arrays. No code
            in the file is run.
        prefix: prefix of the names, such as "backbone."; tensors without it are ignored. The prefix
            "module." is removed automatically if all names have it.
        input_shape: (height, width, channels) of the images, with `None` for free sides; `None` for
            images of any size.

    Returns:
        A functional model with the layers of `keras_ssl.backbones.ResNet`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, contains another network, or a tensor is missing,
            unexpected, or has the wrong shape. The message names the tensors.

    Example:
        ```python
        backbone = keras_ssl.importers.torch_resnet("resnet50.pth")
        features = backbone(images)  # (batch, 2048)
        ```

    Source: `torchvision/models/resnet.py`; `timm/models/resnet.py`.
    """
    tensors, origin = state_dict(path)
    return build_resnet(_with_prefix(tensors, prefix, origin), origin, input_shape)


def state_dict(path: str | os.PathLike | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Returns the tensors by name, without the prefix "module.", and their origin for messages."""
    origin = "the state dict" if isinstance(path, Mapping) else str(path)
    saved = path if isinstance(path, Mapping) else _read(path)
    for key in _CONTAINERS:
        if isinstance(saved, Mapping) and isinstance(saved.get(key), Mapping):
            saved = saved[key]
    if not isinstance(saved, Mapping) or not all(isinstance(name, str) for name in saved):
        raise ValueError(
            f"{origin} must contain tensors by name, as torch.save(model.state_dict(), path) writes. "
            f"Received: {describe(saved)}"
        )
    if saved and all(name.startswith("module.") for name in saved):  # written from DataParallel
        saved = {name.removeprefix("module."): tensor for name, tensor in saved.items()}
    return dict(saved), origin


def _read(path: str | os.PathLike) -> Any:
    is_safetensors = os.fspath(path).endswith(".safetensors")
    return read_safetensors(path) if is_safetensors else read_torch(path)


def _with_prefix(tensors: dict[str, Any], prefix: str, origin: str) -> dict[str, Any]:
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not found:
        raise ValueError(
            f"No tensor in {origin} has the prefix. Expected: a prefix of {join_names(tensors)}. "
            f"Received: prefix={prefix!r}"
        )
    return found


def build_resnet(
    tensors: Mapping[str, Any], origin: str, input_shape: tuple | None = None
) -> keras.Model:
    """Returns a ResNet with tensors that have torchvision's names; see `torch_resnet`."""
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not _HEAD.match(name) and not name.endswith(_COUNTER)
    }
    backbone = _architecture(kept, origin).build(input_shape)
    fill(torch_places(backbone), kept, origin)
    return backbone


def _architecture(tensors: Mapping[str, Any], origin: str) -> Architecture:
    deep = "conv1.0.weight" in tensors
    first, last = ("conv1.0.weight", "conv1.6.weight") if deep else ("conv1.weight",) * 2
    for name in (first, last):
        if getattr(tensors.get(name), "ndim", 0) != 4:
            raise ValueError(
                f"{origin} is not a ResNet with torchvision's names. Expected: {name} with four axes. "
                f"Received: {join_names(tensors)}"
            )
    blocks: dict[int, int] = {}
    for name in tensors:
        if match := _BLOCK.match(name):
            stage, block = map(int, match.groups())
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    bottleneck = "layer1.0.conv3.weight" in tensors
    if deep and bottleneck:
        raise ValueError(
            f"{origin} is a ResNet-D with bottleneck blocks, which keras_ssl.backbones.ResNet only has "
            "together with selective kernels. Expected: a plain ResNet, resnet18d or resnet34d. "
            f"Received: {first}, {last} and layer1.0.conv3.weight"
        )
    return Architecture(
        depth=find_depth(blocks, bottleneck, origin),
        filters=tensors[last].shape[0],
        stem="small" if not deep and tensors[first].shape[2:] == (3, 3) else "imagenet",
        # The blocks of depths 18 and 34 have no selective kernels.
        sk_ratio=0.0625 if deep else 0.0,
        channels=tensors[first].shape[1],
    )
