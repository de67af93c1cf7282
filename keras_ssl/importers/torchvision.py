"""ResNets with torchvision's names: state dicts of torchvision, timm, and many others."""

import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.importers.architecture import Architecture, depth_of
from keras_ssl.importers.matching import fill, listed
from keras_ssl.importers.pickle_values import kind_of
from keras_ssl.importers.safetensors_file import read_safetensors
from keras_ssl.importers.torch_file import read_torch
from keras_ssl.importers.torch_names import torch_places

_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
_CONTAINERS = ("state_dict", "model", "model_state_dict")  # what training scripts put weights under
_HEAD = re.compile(r"fc\.|head\.")
_COUNTER = ".num_batches_tracked"


def torch_resnet(
    path: str | os.PathLike | Mapping[str, np.ndarray],
    prefix: str = "",
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Returns a ResNet with the weights and running statistics of a PyTorch network.

    Depth, width and stem are found from the tensors: torchvision's `resnet18` to `resnet152`, timm's
    networks of the same names, `resnet18d` and `resnet34d`, and narrower or wider ones. A stem of one
    3x3 convolution is taken for that of small images, without pooling. The classifier (`fc`) is
    left out.

    The network takes what the PyTorch network took: for most published weights, pixels in [0, 1] less
    the mean [0.485, 0.456, 0.406] and divided by [0.229, 0.224, 0.225].

    Args:
        path: a file of `torch.save` or of safetensors (`.safetensors`), or a dictionary of arrays.
            Nothing in a file is run.
        prefix: of the names, such as "module." or "backbone."; tensors without it are left out. If
            all names start with "module.", this is not needed.
        input_shape: (height, width, channels), where sides may be `None`; images of any size unless
            told.

    Returns:
        A functional model with the layers of `keras_ssl.backbones.ResNet`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, holds another network, or a tensor is missing,
            superfluous or of another shape; they are named.

    Example:
        ```python
        backbone = keras_ssl.importers.torch_resnet("resnet50.pth")
        features = backbone(images)  # (batch, 2048)
        ```

    Source: `torchvision/models/resnet.py`; `timm/models/resnet.py`.
    """
    tensors, what = state_dict(path)
    return resnet_of(_below(tensors, prefix, what), what, input_shape)


def state_dict(path: str | os.PathLike | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Returns the tensors by name, without "module.", and a name for where they come from."""
    what = "the state dict" if isinstance(path, Mapping) else str(path)
    saved = path if isinstance(path, Mapping) else _read(path)
    for key in _CONTAINERS:
        if isinstance(saved, Mapping) and isinstance(saved.get(key), Mapping):
            saved = saved[key]
    if not isinstance(saved, Mapping) or not all(isinstance(name, str) for name in saved):
        raise ValueError(
            f"{what} must hold tensors by name, as torch.save(model.state_dict(), path) writes. "
            f"Received: {kind_of(saved)}"
        )
    if saved and all(name.startswith("module.") for name in saved):  # of DataParallel
        saved = {name.removeprefix("module."): tensor for name, tensor in saved.items()}
    return dict(saved), what


def _read(path: str | os.PathLike) -> Any:
    is_safetensors = os.fspath(path).endswith(".safetensors")
    return read_safetensors(path) if is_safetensors else read_torch(path)


def _below(tensors: dict[str, Any], prefix: str, what: str) -> dict[str, Any]:
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not found:
        raise ValueError(
            f"`prefix` must be that of tensors in {what}, which has {listed(tensors)}. "
            f"Received: prefix={prefix!r}"
        )
    return found


def resnet_of(
    tensors: Mapping[str, Any], what: str, input_shape: tuple | None = None
) -> keras.Model:
    """Returns the ResNet of tensors with torchvision's names; see `torch_resnet`."""
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not _HEAD.match(name) and not name.endswith(_COUNTER)
    }
    backbone = _architecture(kept, what).build(input_shape)
    fill(torch_places(backbone), kept, what)
    return backbone


def _architecture(tensors: Mapping[str, Any], what: str) -> Architecture:
    deep = "conv1.0.weight" in tensors
    first, last = ("conv1.0.weight", "conv1.6.weight") if deep else ("conv1.weight",) * 2
    for name in (first, last):
        if getattr(tensors.get(name), "ndim", 0) != 4:
            raise ValueError(
                f"{what} is no ResNet with torchvision's names. Expected: {name} of four axes. "
                f"Received: {listed(tensors)}"
            )
    blocks: dict[int, int] = {}
    for name in tensors:
        if match := _BLOCK.match(name):
            stage, block = map(int, match.groups())
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    bottleneck = "layer1.0.conv3.weight" in tensors
    if deep and bottleneck:
        raise ValueError(
            f"{what} is a ResNet-D with bottleneck blocks, which keras_ssl.backbones.ResNet has only "
            "together with selective kernels. Expected: a plain ResNet, resnet18d or resnet34d. "
            f"Received: {first}, {last} and layer1.0.conv3.weight"
        )
    return Architecture(
        depth=depth_of(blocks, bottleneck, what),
        filters=tensors[last].shape[0],
        stem="small" if not deep and tensors[first].shape[2:] == (3, 3) else "imagenet",
        # The blocks of depths 18 and 34 have no selective kernels.
        sk_ratio=0.0625 if deep else 0.0,
        channels=tensors[first].shape[1],
    )
