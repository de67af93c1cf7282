"""Imports published checkpoints of MoCo, versions 1 and 2."""

import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.importers.licences import show_licence
from keras_ssl.importers.matching import Place, fill, join_names
from keras_ssl.importers.state_dict import state_dict
from keras_ssl.importers.torchvision import build_resnet
from keras_ssl.layers import MLPHead
from keras_ssl.methods import MoCo

_QUERY, _KEY = "encoder_q.", "encoder_k."
_HEADS = {("fc.weight", "fc.bias"): 1, ("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"): 2}
_TEMPERATURES = {1: 0.07, 2: 0.2}  # by the depth of the head: 1 in version 1, 2 in version 2


def moco(
    path: str | os.PathLike | Mapping[str, Any],
    whole: bool = False,
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Returns the network of a MoCo v1 or v2 checkpoint (`.pth.tar`).

    The network takes normalized images; see `torch_resnet`. The authors published their weights for
    non-commercial use (CC BY-NC 4.0; the newest files of their repository name the MIT licence); a
    warning is logged.

    Args:
        path: the file, or its content as returned by `read_torch`. No code in the file is run.
        whole: whether to return a `keras_ssl.methods.MoCo`, with head, target networks, queue, and the
            temperature of its version (0.07 or 0.2), to continue training.
        input_shape: (height, width, channels) of the images; `None` for any size.

    Returns:
        The query encoder's backbone, or the method.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, or a tensor is missing, unexpected, or has the wrong
            shape.

    Example:
        ```python
        backbone = keras_ssl.importers.moco("moco_v2_800ep_pretrain.pth.tar")
        ```

    Source: `moco/builder.py`, `main_moco.py` and LICENSE of facebookresearch/moco.
    """
    tensors, origin = state_dict(path)
    parts = {
        start: {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        for start in (_QUERY, _KEY)
    }
    if not parts[_QUERY]:
        raise ValueError(
            f"{origin} is not a MoCo checkpoint. Expected: tensors named module.{_QUERY}*. "
            f"Received: {join_names(tensors)}"
        )
    show_licence("moco", origin)
    backbone = build_resnet(parts[_QUERY], origin, input_shape)
    return _method(backbone, tensors, parts, origin) if whole else backbone


def _method(backbone: keras.Model, tensors: dict, parts: dict, origin: str) -> MoCo:
    depth = _head_depth(parts[_QUERY], origin)
    last = np.asarray(parts[_QUERY]["fc.weight" if depth == 1 else "fc.2.weight"])
    queue, pointer = (np.asarray(tensors.get(name)) for name in ("queue", "queue_ptr"))
    if queue.ndim != 2 or pointer.size != 1 or pointer.dtype.kind != "i":
        raise ValueError(
            f"{origin} lacks a part of MoCo's state; without `whole` it can be read. Expected: a queue "
            f"of shape (dim, size), encoder_k and queue_ptr. Received: {join_names(tensors)}"
        )
    model = MoCo(
        backbone,
        MLPHead(last.shape[0], depth=depth, name="projector"),
        queue_size=queue.shape[1],
        temperature=_TEMPERATURES[depth],
    )
    for start, head in ((_QUERY, model.projector), (_KEY, model.target_projector)):
        found = {k: v for k, v in parts[start].items() if k.startswith("fc.")}
        fill(_head_places(head, depth), found, f"{origin}, {start}fc")
    target = build_resnet(parts[_KEY], origin, tuple(backbone.input_shape[1:]))
    model.target_backbone.set_weights(target.get_weights())
    fill({"queue": Place(model.queue.keys, "torch_dense")}, {"queue": queue}, origin)
    model.queue.pointer.assign(int(pointer.item()) % queue.shape[1])
    return model


def _head_depth(tensors: Mapping[str, Any], origin: str) -> int:
    names = tuple(sorted(name for name in tensors if name.startswith("fc.")))
    if names not in {tuple(sorted(known)) for known in _HEADS}:
        raise ValueError(
            f"{origin} has a head that is not one of MoCo. Expected: "
            f"{' or '.join(', '.join(known) for known in _HEADS)}. Received: {join_names(names)}"
        )
    return 1 if "fc.weight" in tensors else 2


def _head_places(head: MLPHead, depth: int) -> dict[str, Place]:
    dense = [layer for layer in head.stack if isinstance(layer, keras.layers.Dense)]
    places = {}
    for layer, name in zip(dense, ("fc",) if depth == 1 else ("fc.0", "fc.2"), strict=True):
        places[f"{name}.weight"] = Place(layer.kernel, "torch_dense")
        places[f"{name}.bias"] = Place(layer.bias)
    return places
