"""Imports published checkpoints of BYOL: pickles of Haiku's parameters."""

import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.importers.architecture import Architecture, find_depth, iterate_weights
from keras_ssl.importers.licences import show_licence
from keras_ssl.importers.matching import Place, fill, join_names
from keras_ssl.importers.pickle_values import Record, describe
from keras_ssl.importers.safe_pickle import read_pickle
from keras_ssl.layers import MLPHead
from keras_ssl.methods import BYOL

# The fields of `_ByolExperimentState`, in order.
_FIELDS = ("online_params", "target_params", "online_state", "target_state")
_HEADS = ("projector", "predictor", "classifier")
_GROUP = re.compile(r"block_group_(\d+)/block_(\d+)/")
_STEM = "initial_conv/w"
_FIRST_PROJECTION = "block_group_0/block_0/shortcut_conv/w"
_LAYERS = {"stem_conv": "initial_conv", "stem_norm": "initial_batchnorm"}
_BLOCK = re.compile(r"block(\d)_(\d+)_(conv|norm|shortcut_conv|shortcut_norm)(\d?)")
_WEIGHTS = {
    "kernel": "w",
    "bias": "b",
    "gamma": "scale",
    "beta": "offset",
    "moving_mean": "mean_ema",
    "moving_variance": "var_ema",
}


def byol(
    path: str | os.PathLike | Mapping[str, Any],
    whole: bool = False,
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Returns the network of a BYOL checkpoint (`pretrain.pkl`).

    All ResNets of the reference are supported. Those with 18 and 34 layers keep the projection that
    the reference has in their first block. Padding is TensorFlow's ("SAME"), as in the reference, so
    features agree for all image sizes.

    The network takes pixels in [0, 1], minus the mean [0.485, 0.456, 0.406], divided by [0.229, 0.224,
    0.225]. The published weights are licensed for non-commercial use (CC BY-NC 4.0); a warning is
    logged.

    Args:
        path: the file, or its content as returned by `read_pickle`. No code in the file is run.
        whole: whether to return a `keras_ssl.methods.BYOL`, with projector, predictor and target
            networks, to continue training.
        input_shape: (height, width, channels) of the images; `None` for any size.

    Returns:
        The online encoder's backbone, or the method.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, or a tensor is missing, unexpected, or has the wrong
            shape.

    Example:
        ```python
        backbone = keras_ssl.importers.byol("pretrain_res50x1.pkl")
        ```

    Source: `byol/byol_experiment.py`, `byol/utils/networks.py` and `byol/README.md` ("License") of
    google-deepmind/deepmind-research; `haiku/_src/nets/resnet.py` of dm-haiku.
    """
    origin = "the checkpoint" if isinstance(path, Mapping) else str(path)
    content = path if isinstance(path, Mapping) else read_pickle(path)
    state = _experiment_state(content, origin)
    show_licence("byol", origin)
    online = _tensors(state["online_params"], state["online_state"])
    backbone = _backbone(online, origin, input_shape)
    if not whole:
        return backbone
    target = _tensors(state["target_params"], state["target_state"])
    shape = tuple(backbone.input_shape[1:])
    projector, predictor = (_head(online, name, origin) for name in ("projector", "predictor"))
    model = BYOL(backbone, projector, predictor)
    model.target_backbone.set_weights(_backbone(target, origin, shape).get_weights())
    for head, tensors, name in (
        (model.projector, online, "projector"),
        (model.predictor, online, "predictor"),
        (model.target_projector, target, "projector"),
    ):
        found = {k: v for k, v in tensors.items() if k.startswith(f"{name}/")}
        fill(_head_places(head, name), found, origin)
    return model


def _experiment_state(content: Any, origin: str) -> dict[str, Any]:
    is_mapping = isinstance(content, Mapping)
    state = content.get("experiment_state") if is_mapping else None
    if isinstance(state, Record) and len(state.args) >= len(_FIELDS):  # a named tuple
        state = dict(zip(_FIELDS, state.args, strict=False))
    if not isinstance(state, Mapping) or not set(_FIELDS) <= set(state):
        raise ValueError(
            f"{origin} is not a BYOL checkpoint. Expected: experiment_state with {', '.join(_FIELDS)}. "
            f"Received: {join_names(map(describe, content)) if is_mapping else describe(content)}"
        )
    return dict(state)


def _tensors(parameters: Any, averages: Any) -> dict[str, Any]:
    """Returns tensors by path, such as "initial_conv/w" and "initial_batchnorm/mean_ema"."""
    found = {
        f"{_path(module)}/{name}": _squeeze(value) if name in ("scale", "offset") else value
        for module, values in _mapping(parameters).items()
        for name, value in _mapping(values).items()
    }
    for module, values in _mapping(averages).items():
        # Inference uses this average, which is bias-corrected.
        found[_path(module)] = _squeeze(_mapping(values).get("average"))
    return found


def _mapping(value: Any) -> dict:
    """Returns a dictionary, unpacked from Haiku's `FlatMapping` or `frozendict`."""
    while isinstance(value, Record) and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(
            "Haiku's parameters must be dictionaries of dictionaries, with names as keys. "
            f"Received: {describe(value)}"
        )
    return dict(value)


def _path(module: str) -> str:
    """Shortens "res_net50/~/block_group_0/~/block_0/~/conv_0" to "block_group_0/block_0/conv_0"."""
    words = [word for word in module.split("/") if word != "~"]
    return "/".join(words if words[:1] and words[0] in _HEADS else words[1:])


def _squeeze(value: Any) -> Any:
    # Haiku's normalization has parameters of shape (1, 1, 1, channels) or (1, units).
    is_vector = isinstance(value, np.ndarray) and value.ndim and value.size == value.shape[-1]
    return value.reshape(-1) if is_vector else value


def _backbone(tensors: Mapping[str, Any], origin: str, input_shape: tuple | None) -> keras.Model:
    own = {k: v for k, v in tensors.items() if k.split("/")[0] not in _HEADS}
    if getattr(own.get(_STEM), "ndim", 0) != 4:
        raise ValueError(
            f"{origin} contains no ResNet of BYOL. Expected: {_STEM} with four axes. "
            f"Received: {join_names(own)}"
        )
    blocks: dict[int, int] = {}
    for name in own:
        if match := _GROUP.match(name):
            stage, block = (int(number) + 1 for number in match.groups())
            blocks[stage] = max(blocks.get(stage, 0), block)
    bottleneck = "block_group_0/block_0/conv_2/w" in own
    backbone = Architecture(
        depth=find_depth(blocks, bottleneck, origin),
        filters=own[_STEM].shape[-1],
        channels=own[_STEM].shape[-2],
        pooling="tensorflow",
        convolutions="tensorflow",
        first_projection=not bottleneck and _FIRST_PROJECTION in own,
    ).build(input_shape)
    places = {
        f"{_layer_name(layer.name)}/{_WEIGHTS[kind]}": Place(variable)
        for layer, kind, variable in iterate_weights(backbone)
    }
    fill(places, own, origin)
    return backbone


def _layer_name(name: str) -> str:
    if name in _LAYERS:
        return _LAYERS[name]
    stage, block, part, number = _BLOCK.fullmatch(name).groups()  # type: ignore[union-attr]
    last = part.replace("norm", "batchnorm") + (f"_{int(number) - 1}" if number else "")
    return f"block_group_{int(stage) - 1}/block_{int(block) - 1}/{last}"


def _head(tensors: Mapping[str, Any], name: str, origin: str) -> MLPHead:
    shapes: list[tuple] = [
        getattr(tensors.get(f"{name}/{layer}/w"), "shape", ()) for layer in ("linear", "linear_1")
    ]
    if not all(len(shape) == 2 for shape in shapes):
        raise ValueError(
            f"{origin} must have the two layers of the {name}, {name}/linear/w and {name}/linear_1/w. "
            f"Received: {join_names(tensors)}"
        )
    return MLPHead(shapes[1][1], shapes[0][1], batch_norm=True, name=name)


def _head_places(head: MLPHead, name: str) -> dict[str, Place]:
    layers = {"dense_1": "linear", "norm_1": "batch_norm", "dense_2": "linear_1"}
    return {
        f"{name}/{layers[layer.name]}/{_WEIGHTS[variable.name]}": Place(variable)
        for layer in head.stack
        for variable in layer.weights
    }
