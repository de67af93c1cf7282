"""BYOL's published checkpoints: pickles of Haiku's parameters."""

import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.importers.architecture import Architecture, depth_of, weights
from keras_ssl.importers.licences import show_licence
from keras_ssl.importers.matching import Place, fill, listed
from keras_ssl.importers.pickle_values import Record, kind_of
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

    All ResNets of the reference are read, those of 18 and 34 layers with the projection that the
    reference has in their first block. The copy pads as TensorFlow does ("SAME"), as the reference
    does, so that features agree for all image sizes.

    The network takes pixels in [0, 1] less the mean [0.485, 0.456, 0.406] and divided by [0.229, 0.224,
    0.225]. The published weights are licensed for non-commercial use (CC BY-NC 4.0), which is logged.

    Args:
        path: the file, or its content as `read_pickle` returns it. Nothing in a file is run.
        whole: return the `keras_ssl.methods.BYOL`, to train on: with projector, predictor and target
            networks.
        input_shape: (height, width, channels) of the images; any size unless told.

    Returns:
        The online encoder's backbone, or the method.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, or a tensor is missing, superfluous or of another shape.

    Example:
        ```python
        backbone = keras_ssl.importers.byol("pretrain_res50x1.pkl")
        ```

    Source: `byol/byol_experiment.py`, `byol/utils/networks.py` and `byol/README.md` ("License") of
    google-deepmind/deepmind-research; `haiku/_src/nets/resnet.py` of dm-haiku.
    """
    what = "the checkpoint" if isinstance(path, Mapping) else str(path)
    content = path if isinstance(path, Mapping) else read_pickle(path)
    state = _experiment_state(content, what)
    show_licence("byol", what)
    online = _tensors(state["online_params"], state["online_state"])
    backbone = _backbone(online, what, input_shape)
    if not whole:
        return backbone
    target = _tensors(state["target_params"], state["target_state"])
    shape = tuple(backbone.input_shape[1:])
    projector, predictor = (_head(online, name, what) for name in ("projector", "predictor"))
    model = BYOL(backbone, projector, predictor)
    model.target_backbone.set_weights(_backbone(target, what, shape).get_weights())
    for head, tensors, name in (
        (model.projector, online, "projector"),
        (model.predictor, online, "predictor"),
        (model.target_projector, target, "projector"),
    ):
        found = {k: v for k, v in tensors.items() if k.startswith(f"{name}/")}
        fill(_head_places(head, name), found, what)
    return model


def _experiment_state(content: Any, what: str) -> dict[str, Any]:
    is_mapping = isinstance(content, Mapping)
    state = content.get("experiment_state") if is_mapping else None
    if isinstance(state, Record) and len(state.args) >= len(_FIELDS):  # a named tuple
        state = dict(zip(_FIELDS, state.args, strict=False))
    if not isinstance(state, Mapping) or not set(_FIELDS) <= set(state):
        raise ValueError(
            f"{what} is no checkpoint of BYOL. Expected: experiment_state with {', '.join(_FIELDS)}. "
            f"Received: {listed(map(kind_of, content)) if is_mapping else kind_of(content)}"
        )
    return dict(state)


def _tensors(parameters: Any, averages: Any) -> dict[str, Any]:
    """Returns tensors by path, such as "initial_conv/w" and "initial_batchnorm/mean_ema"."""
    found = {
        f"{_path(module)}/{name}": _without_ones(value) if name in ("scale", "offset") else value
        for module, values in _mapping(parameters).items()
        for name, value in _mapping(values).items()
    }
    for module, values in _mapping(averages).items():
        # The bias-corrected average is the one that inference takes.
        found[_path(module)] = _without_ones(_mapping(values).get("average"))
    return found


def _mapping(value: Any) -> dict:
    """Returns a dictionary, also one within Haiku's `FlatMapping` or `frozendict`."""
    while isinstance(value, Record) and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(
            "Haiku's parameters must be dictionaries of dictionaries, by name. "
            f"Received: {kind_of(value)}"
        )
    return dict(value)


def _path(module: str) -> str:
    """Returns "block_group_0/block_0/conv_0" for "res_net50/~/block_group_0/~/block_0/~/conv_0"."""
    words = [word for word in module.split("/") if word != "~"]
    return "/".join(words if words[:1] and words[0] in _HEADS else words[1:])


def _without_ones(value: Any) -> Any:
    # Haiku keeps a normalisation's parameters as (1, 1, 1, channels), or (1, units).
    is_vector = isinstance(value, np.ndarray) and value.ndim and value.size == value.shape[-1]
    return value.reshape(-1) if is_vector else value


def _backbone(tensors: Mapping[str, Any], what: str, input_shape: tuple | None) -> keras.Model:
    own = {k: v for k, v in tensors.items() if k.split("/")[0] not in _HEADS}
    if getattr(own.get(_STEM), "ndim", 0) != 4:
        raise ValueError(
            f"{what} holds no ResNet of BYOL. Expected: {_STEM} of four axes. Received: {listed(own)}"
        )
    blocks: dict[int, int] = {}
    for name in own:
        if match := _GROUP.match(name):
            stage, block = (int(number) + 1 for number in match.groups())
            blocks[stage] = max(blocks.get(stage, 0), block)
    bottleneck = "block_group_0/block_0/conv_2/w" in own
    backbone = Architecture(
        depth=depth_of(blocks, bottleneck, what),
        filters=own[_STEM].shape[-1],
        channels=own[_STEM].shape[-2],
        pooling="tensorflow",
        convolutions="tensorflow",
        first_projection=not bottleneck and _FIRST_PROJECTION in own,
    ).build(input_shape)
    places = {
        f"{_layer_name(layer.name)}/{_WEIGHTS[kind]}": Place(variable)
        for layer, kind, variable in weights(backbone)
    }
    fill(places, own, what)
    return backbone


def _layer_name(name: str) -> str:
    if name in _LAYERS:
        return _LAYERS[name]
    stage, block, part, number = _BLOCK.fullmatch(name).groups()  # type: ignore[union-attr]
    last = part.replace("norm", "batchnorm") + (f"_{int(number) - 1}" if number else "")
    return f"block_group_{int(stage) - 1}/block_{int(block) - 1}/{last}"


def _head(tensors: Mapping[str, Any], name: str, what: str) -> MLPHead:
    shapes: list[tuple] = [
        getattr(tensors.get(f"{name}/{layer}/w"), "shape", ()) for layer in ("linear", "linear_1")
    ]
    if not all(len(shape) == 2 for shape in shapes):
        raise ValueError(
            f"{what} must have the two layers of the {name}, {name}/linear/w and {name}/linear_1/w. "
            f"Received: {listed(tensors)}"
        )
    return MLPHead(shapes[1][1], shapes[0][1], batch_norm=True, name=name)


def _head_places(head: MLPHead, name: str) -> dict[str, Place]:
    layers = {"dense_1": "linear", "norm_1": "batch_norm", "dense_2": "linear_1"}
    return {
        f"{name}/{layers[layer.name]}/{_WEIGHTS[variable.name]}": Place(variable)
        for layer in head.stack
        for variable in layer.weights
    }
