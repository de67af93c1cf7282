"""Imports the backbones of published checkpoints of further self-supervised methods."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from keras_ssl.importers.licences import LICENCES, show_licence
from keras_ssl.importers.matching import join_names
from keras_ssl.importers.state_dict import find_prefixes, select_network, state_dict
from keras_ssl.importers.torchvision import build_resnet

# For each method, the prefixes of the network that its authors evaluate, the preferred one first. They
# published some networks alone, without a prefix.
PREFIXES: dict[str, tuple[str, ...]] = {
    "simsiam": ("encoder.", ""),
    "barlow-twins": ("backbone.", ""),
    "vicreg": ("backbone.", ""),
    "swav": ("",),
    "dino": ("teacher.backbone.", "backbone.", ""),
    "moco-v3": ("base_encoder.", ""),
    "mae": ("",),
}


def checkpoint(
    path: str | os.PathLike | Mapping[str, Any],
    method: str,
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Returns the backbone of a checkpoint of SimSiam, Barlow Twins, VICReg, SwAV, DINO or MoCo v3.

    Checkpoints with heads, targets and optimizers are read, and those of the network alone. From
    DINO's, the teacher is taken, and from MoCo v3's, the base encoder, as for the evaluation in their
    papers. Networks must be ResNets; the vision transformers of DINO, MoCo v3 and MAE are refused.

    The network takes normalized images; see `torch_resnet`. If the weights were published for
    non-commercial use, a warning is logged.

    Args:
        path: the file, or its content as returned by `read_torch`. No code in the file is run.
        method: "simsiam", "barlow-twins", "vicreg", "swav", "dino", "moco-v3" or "mae".
        input_shape: (height, width, channels) of the images; `None` for any size.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if `method` is unknown, the file cannot be read or has no such network, or a tensor
            is missing, unexpected, or has the wrong shape.

    Example:
        ```python
        backbone = keras_ssl.importers.checkpoint("swav_800ep_pretrain.pth.tar", "swav")
        ```

    Source: `simsiam/builder.py` of facebookresearch/simsiam; `main.py` of barlowtwins;
    `main_vicreg.py` of vicreg; `src/resnet50.py` of swav; `main_dino.py` and `eval_linear.py` of dino;
    `moco/builder.py` of moco-v3; `models_mae.py` of mae.
    """
    if method not in PREFIXES:
        raise ValueError(
            f"`method` must be one of {', '.join(PREFIXES)}. Received: method={method!r}"
        )
    tensors, origin = state_dict(path)
    found = find_prefixes(tensors)
    prefix = next((prefix for prefix in PREFIXES[method] if prefix in found), None)
    if prefix is None and found:
        expected = " or ".join(f"{prefix}layer1.*" for prefix in PREFIXES[method])
        raise ValueError(
            f"{origin} is not a checkpoint of {method}. Expected: tensors named {expected}. "
            f"Received: {join_names(tensors)}"
        )
    network = select_network(tensors, origin, prefix)
    if method in LICENCES:
        show_licence(method, origin)
    return build_resnet(network, origin, input_shape)
