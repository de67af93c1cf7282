"""Imports the backbones of published checkpoints of further self-supervised methods."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from keras_ssl.importers.licences import LICENCES, show_licence
from keras_ssl.importers.matching import join_names
from keras_ssl.importers.state_dict import (
    find_prefixes,
    find_vit_prefixes,
    select_network,
    state_dict,
    take_prefix,
)
from keras_ssl.importers.torchvision import build_resnet
from keras_ssl.importers.vit import HEADS, MOCO_V3_HEADS, build_vit

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
# Added by DINO to the number of patches to compute the scale of its position embeddings.
_DINO_OFFSET = 0.1


def checkpoint(
    path: str | os.PathLike | Mapping[str, Any],
    method: str,
    input_shape: tuple[int | None, int | None, int] | None = None,
    heads: int | None = None,
) -> keras.Model:
    """Returns the backbone of a checkpoint of one of seven self-supervised methods.

    Checkpoints with heads, targets, decoders and optimizers are read, and those of the network alone.
    From DINO's, the teacher is taken, and from MoCo v3's, the base encoder, as for the evaluation in
    their papers. Networks are ResNets, or the vision transformers of DINO, MoCo v3 and MAE (see
    `torch_vit`). For images of other sizes, position embeddings are resized as DINO does, for MoCo v3
    and MAE without its offset of 0.1.

    The network takes normalized images; see `torch_resnet`. If the weights were published for
    non-commercial use, a warning is logged.

    Args:
        path: the file, or its content as returned by `read_torch`. No code in the file is run.
        method: "simsiam", "barlow-twins", "vicreg", "swav", "dino", "moco-v3" or "mae".
        input_shape: (height, width, channels) of the images; `None` for any size.
        heads: number of attention heads of a vision transformer. `None`: that of the method's
            published networks, by their width.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if `method` is unknown, the file cannot be read or has no such network, a tensor is
            missing, unexpected, or has the wrong shape, `heads` is given for a ResNet, or it is `None`
            for a vision transformer of another width.

    Example:
        ```python
        backbone = keras_ssl.importers.checkpoint("swav_800ep_pretrain.pth.tar", "swav")
        ```

    Source: `simsiam/builder.py` of facebookresearch/simsiam; `main.py` of barlowtwins;
    `main_vicreg.py` of vicreg; `src/resnet50.py` of swav; `main_dino.py` and `eval_linear.py` of dino;
    `moco/builder.py` and `vits.py` of moco-v3; `vision_transformer.py` of dino; `models_mae.py` and
    `models_vit.py` of mae.
    """
    if method not in PREFIXES:
        raise ValueError(
            f"`method` must be one of {', '.join(PREFIXES)}. Received: method={method!r}"
        )
    tensors, origin = state_dict(path)
    resnets, vits = find_prefixes(tensors), find_vit_prefixes(tensors)
    found = [*resnets, *vits]
    prefix = next((prefix for prefix in PREFIXES[method] if prefix in found), None)
    if prefix is None and found:
        first = "layer1" if resnets else "blocks"
        expected = " or ".join(f"{prefix}{first}.*" for prefix in PREFIXES[method])
        raise ValueError(
            f"{origin} is not a checkpoint of {method}. Expected: tensors named {expected}. "
            f"Received: {join_names(tensors)}"
        )
    if prefix is not None and prefix in vits:
        network = take_prefix(tensors, origin, prefix)
        known = MOCO_V3_HEADS if method == "moco-v3" else HEADS
        offset = _DINO_OFFSET if method == "dino" else 0.0
        backbone = build_vit(network, origin, input_shape, heads, known, offset)
    elif heads is not None:
        raise ValueError(
            f"`heads` goes with vision transformers. Received: heads={heads} for {origin}, which has "
            "no vision transformer"
        )
    else:
        network = select_network(tensors, origin, prefix)
        backbone = build_resnet(network, origin, input_shape)
    if method in LICENCES:
        show_licence(method, origin)
    return backbone
