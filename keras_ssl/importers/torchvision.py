"""Imports ResNets with torchvision's names: state dicts of torchvision, timm and many others."""

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.importers.architecture import Architecture, find_depth
from keras_ssl.importers.matching import fill, join_names
from keras_ssl.importers.number_formats import to_float32
from keras_ssl.importers.state_dict import select_network, state_dict
from keras_ssl.importers.torch_names import torch_places

_LOG = logging.getLogger("keras_ssl")

_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
# Parts of a checkpoint beside a backbone without a prefix: heads, and the counter of a weight average.
_HEAD = re.compile(
    r"(fc|head|linear|classifier|projector|projection_head|prototypes|predictor)\.|n_averaged$"
)
_COUNTER = ".num_batches_tracked"
# Biases of convolutions, and the normalization that follows.
_BIAS = re.compile(r"(|.*\.)(conv|downsample\.|conv1\.)(\d)\.bias")
_FIRST_STRIDE = re.compile(r"caffe|keras(?!.ssl)|msra", re.IGNORECASE)


def torch_resnet(
    path: str | os.PathLike | Mapping[str, np.ndarray],
    prefix: str | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    stride_in: str | None = None,
    stem_padding: int | None = None,
) -> keras.Model:
    """Returns a ResNet with the weights and running statistics of a PyTorch network.

    Depth, width and stem are detected from the tensors. Supported are torchvision's `resnet18` to
    `resnet152`, timm's networks of the same names, timm's `resnet18d` to `resnet200d`, and narrower or
    wider ones. A stem of one 3x3 convolution is assumed to be that for small images, without pooling.
    Classifiers and projection heads are ignored.

    Checkpoints of whole methods are read too, such as those of PyTorch Lightning, lightly and
    solo-learn, also from `DataParallel`, `torch.compile` and weight averages: the backbone is found by
    the name of its first block, in whose place a prefix may be. Layers may be numbered, as in
    `nn.Sequential(*resnet.children())`. If the backbone has a prefix, the choice is logged.

    The inputs are those of the PyTorch network: for most published weights, pixels in [0, 1], minus
    the mean [0.485, 0.456, 0.406], divided by [0.229, 0.224, 0.225].

    Args:
        path: a file written by `torch.save`, a `.safetensors` file, or a dictionary of arrays. No code
            in the file is run.
        prefix: prefix of the names, such as "backbone."; tensors without it are ignored. `None`: found
            from the names. Of several networks, that is the one that does not follow another, such as
            "backbone." rather than "momentum_backbone.".
        input_shape: (height, width, channels) of the images, with `None` for free sides; `None` for
            images of any size.
        stride_in: for depths from 50, the convolution that has the stride in the first block of a
            stage. "3x3": the second one, as in torchvision, timm and most PyTorch networks ("v1.5").
            "1x1": the first one, as in networks from Caffe and keras.applications ("v1"). The weights
            do not tell, and the wrong one gives wrong features. `None`: "3x3", which is logged, unless
            the file looks like one of the others.
        stem_padding: padding of the stem of one 3x3 convolution in pixels, 1 or 2. solo-learn pads its
            networks for CIFAR with 2. `None`: 2 for checkpoints of solo-learn, which have a
            `classifier` beside their `backbone`; otherwise 1.

    Returns:
        A functional model with the layers of `keras_ssl.backbones.ResNet`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, contains another network or several, or a tensor is
            missing, unexpected, or has the wrong shape; the message names the tensors. If `stride_in`
            is `None` and the file name contains "caffe", "keras" or "msra", convolutions have biases,
            or no normalization of a trained network has statistics.

    Example:
        ```python
        backbone = keras_ssl.importers.torch_resnet("resnet50.pth")
        features = backbone(images)  # (batch, 2048)
        ```

    Source: `torchvision/models/resnet.py`; `timm/models/resnet.py`; `solo/methods/base.py` of
    solo-learn; He et al. 2015 and the documentation of torchvision's `resnet50` on the strides.
    """
    if stride_in not in (None, "1x1", "3x3"):
        raise ValueError(
            f"`stride_in` must be '3x3', '1x1' or None. Received: stride_in={stride_in!r}"
        )
    if stem_padding not in (None, 1, 2):
        raise ValueError(
            f"`stem_padding` must be 1, 2 or None. Received: stem_padding={stem_padding!r}"
        )
    tensors, origin = state_dict(path)
    network = select_network(tensors, origin, prefix)
    if "layer1.0.conv3.weight" in network and stride_in is None:
        stride_in = _default_stride(network, origin)
    if stem_padding is None and "classifier.weight" in tensors and not prefix:
        is_small = getattr(network.get("conv1.weight"), "shape", ())[2:] == (3, 3)
        if is_small and any(re.match(r"(backbone|encoder)\.conv1\.", name) for name in tensors):
            stem_padding = 2
            _LOG.warning(
                "%s: taken to be of solo-learn, which pads the 3x3 convolution of the stem with 2 "
                "pixels. `stem_padding=1` (--stem-padding 1) reads it with 1 pixel.",
                origin,
            )
    return build_resnet(network, origin, input_shape, stride_in or "3x3", stem_padding or 1)


def _default_stride(tensors: Mapping[str, Any], origin: str) -> str:
    """Returns "3x3"; raises ValueError if the tensors look like those of another library."""
    signs = {
        "the file name": _FIRST_STRIDE.search(os.path.basename(origin)),
        "biases of convolutions": _following_means(tensors),
        # Frozen batch normalization: trained, and merged with its statistics.
        "normalization without statistics": _are_constant(tensors, ".running_mean", ".running_var")
        and not _are_constant(tensors, ".bias"),
    }
    found = [sign for sign, seen in signs.items() if seen]
    if found:
        raise ValueError(
            f"{origin} may be a ResNet whose stride is in the first 1x1 convolution of a block, as in "
            f"Caffe and keras.applications, which its weights do not tell ({', '.join(found)}). "
            "Expected: `stride_in` (--stride-in) of '1x1' for such a network, or of '3x3', as in "
            "torchvision. Received: stride_in=None"
        )
    _LOG.warning(
        "%s: strides are taken to be in the 3x3 convolutions, as in torchvision. `stride_in='1x1'` "
        "(--stride-in 1x1) reads networks from Caffe or keras.applications.",
        origin,
    )
    return "3x3"


def _are_constant(tensors: Mapping[str, Any], *endings: str) -> bool:
    """Whether each of the tensors with these endings consists of one number, to 0.0001."""
    values = [
        tensor.astype("float64")
        for name, tensor in tensors.items()
        if name.endswith(endings) and isinstance(tensor, np.ndarray) and tensor.size
    ]
    return bool(values) and all(np.ptp(tensor) < 1e-4 for tensor in values)


def build_resnet(
    tensors: Mapping[str, Any],
    origin: str,
    input_shape: tuple | None = None,
    stride_in: str = "3x3",
    stem_padding: int = 1,
) -> keras.Model:
    """Returns a ResNet with tensors that have torchvision's names; see `torch_resnet`."""
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not _HEAD.match(name) and not name.endswith(_COUNTER)
    }
    kept = _without_biases(kept)
    backbone = _architecture(kept, origin, stride_in, stem_padding).build(input_shape)
    fill(torch_places(backbone), kept, origin)
    return backbone


def _following_means(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Returns the biases of convolutions, each with the running mean of the next normalization."""
    found = {}
    for name in tensors:
        match = _BIAS.fullmatch(name)
        if match is None or _axes(tensors.get(f"{name.removesuffix('bias')}weight")) != 4:
            continue
        start, kind, number = match.groups()
        following = {
            "conv": f"bn{number}",
            "downsample.": f"downsample.{int(number) + 1}",
            # Of the three convolutions of a stem, the last one is followed by bn1.
            "conv1.": "bn1" if number == "6" else f"conv1.{int(number) + 1}",
        }
        found[name] = f"{start}{following[kind]}.running_mean"
    return found


def _without_biases(tensors: dict[str, Any]) -> dict[str, Any]:
    """Subtracts biases of convolutions from the running means that follow, which is the same."""
    result = dict(tensors)
    for bias_name, mean_name in _following_means(tensors).items():
        bias, mean = (_numbers(tensors.get(name)) for name in (bias_name, mean_name))
        if bias is not None and mean is not None and bias.shape == mean.shape:
            del result[bias_name]
            result[mean_name] = mean - bias
    return result


def _numbers(tensor: Any) -> np.ndarray | None:
    return to_float32(tensor) if isinstance(tensor, np.ndarray) else None


def _axes(tensor: Any) -> int:
    return tensor.ndim if isinstance(tensor, np.ndarray) else 0


def _architecture(
    tensors: Mapping[str, Any], origin: str, stride_in: str, stem_padding: int
) -> Architecture:
    deep = "conv1.0.weight" in tensors
    first, last = ("conv1.0.weight", "conv1.6.weight") if deep else ("conv1.weight",) * 2
    for name in (first, last):
        if _axes(tensors.get(name)) != 4:
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
    is_small = not deep and tensors[first].shape[2:] == (3, 3)
    return Architecture(
        depth=find_depth(blocks, bottleneck, origin),
        filters=tensors[last].shape[0],
        stem="small" if is_small else "imagenet",
        channels=tensors[first].shape[1],
        # In a ResNet-D, number 0 of a shortcut is its pooling.
        resnet_d=deep or _axes(tensors.get("layer2.0.downsample.1.weight")) == 4,
        stride_in=stride_in if bottleneck else "3x3",
        stem_padding=stem_padding if is_small else 1,
    )
