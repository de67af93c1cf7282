"""Reads the tensors of a PyTorch checkpoint by name, and finds the network among them."""

import logging
import os
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from keras_ssl.importers.matching import join_names
from keras_ssl.importers.pickle_values import describe
from keras_ssl.importers.safetensors_file import read_safetensors
from keras_ssl.importers.torch_file import read_torch

_LOG = logging.getLogger("keras_ssl")

# Keys under which training scripts save weights.
_CONTAINERS = ("state_dict", "model", "model_state_dict")
# Parts of names that come from wrappers: DataParallel and AveragedModel, torch.compile.
_WRAPPERS = ("module", "_orig_mod")
_FIRST_BLOCK = re.compile(r"(|.*\.)layer1\.0\.conv1\.weight")
_FIRST_NUMBERED_BLOCK = re.compile(r"(|.*\.)(\d+)\.0\.conv1\.weight")
_TRANSFORMER = re.compile(r"(|.*\.)blocks\.0\.attn\.qkv\.weight")
# Words in the prefix of a network that follows another one.
_FOLLOWERS = {"momentum", "teacher", "target", "ema", "key", "k"}


def state_dict(path: str | os.PathLike | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Returns the tensors of a checkpoint by name, and their origin for messages.

    Names are those of the network without wrappers: without the parts "module." of `DataParallel` and
    of weight averages, and "_orig_mod." of `torch.compile`. If the checkpoint has several state dicts,
    as {"student": {...}, "teacher": {...}}, names start with their keys.

    Args:
        path: a file of `torch.save` or safetensors, or its content.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, or has no tensors by name.
    """
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
    named = _join_parts(saved)
    tensors = {remove_wrappers(name): tensor for name, tensor in named.items()}
    if len(tensors) < len(named):
        raise ValueError(
            f"{origin} has tensors whose names differ only by 'module.' or '_orig_mod.'. Expected: one "
            f"network. Received: {join_names(named)}"
        )
    return tensors, origin


def _read(path: str | os.PathLike) -> Any:
    is_safetensors = os.fspath(path).endswith(".safetensors")
    return read_safetensors(path) if is_safetensors else read_torch(path)


def _join_parts(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tensors of all state dicts in a checkpoint that has several."""
    parts = {
        key: part
        for key, part in saved.items()
        if isinstance(part, Mapping)
        and all(isinstance(name, str) for name in part)
        and any(isinstance(tensor, np.ndarray) for tensor in part.values())
    }
    if not parts:
        return dict(saved)
    return {f"{key}.{name}": tensor for key, part in parts.items() for name, tensor in part.items()}


def remove_wrappers(name: str) -> str:
    """Returns a name, or a prefix that ends with a dot, without the parts of wrappers."""
    *parts, last = name.split(".")
    return ".".join([*(part for part in parts if part not in _WRAPPERS), last])


def select_network(
    tensors: Mapping[str, Any], origin: str, prefix: str | None = None
) -> dict[str, Any]:
    """Returns the tensors of one network, with torchvision's names.

    Without `prefix`, networks are found by the name of their first block. If there are several, the
    one is taken that does not follow another, such as "backbone." rather than "momentum_backbone.".
    The choice is logged.

    Args:
        tensors: tensors by name, from `state_dict`.
        origin: origin of the tensors, for messages.
        prefix: prefix of the names of the network; `None` to find it.

    Raises:
        ValueError: if no tensor has the prefix, several networks are possible, or the only network is
            a vision transformer.
    """
    if prefix is None:
        prefix = choose_prefix(find_prefixes(tensors), origin)
        if prefix is None:
            _refuse_transformers(tensors, origin)
            prefix = ""
    return _with_torchvisions_names(take_prefix(tensors, origin, prefix))


def take_prefix(tensors: Mapping[str, Any], origin: str, prefix: str) -> dict[str, Any]:
    """Returns the tensors with a prefix, without it; raises ValueError if there are none."""
    prefix = remove_wrappers(prefix)
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not found:
        raise ValueError(
            f"No tensor in {origin} has the prefix. Expected: a prefix of {join_names(tensors)}. "
            f"Received: prefix={prefix!r}"
        )
    return found


def find_prefixes(names: Collection[str]) -> list[str]:
    """Returns the prefixes of all ResNets among tensors, whose layers may be named or numbered."""
    found = set()
    for name in names:
        named = _FIRST_BLOCK.fullmatch(name)
        numbered = _FIRST_NUMBERED_BLOCK.fullmatch(name)
        if named:
            found.add(named[1])
        elif numbered and f"{numbered[1]}0.weight" in names:
            found.add(numbered[1])
    return sorted(found)


def find_vit_prefixes(names: Collection[str]) -> list[str]:
    """Returns the prefixes of all vision transformers with timm's names among tensors."""
    return sorted({match[1] for name in names if (match := _TRANSFORMER.fullmatch(name))})


def choose_prefix(prefixes: list[str], origin: str) -> str | None:
    """Returns the prefix of the network that does not follow another; `None` if there is none.

    Raises:
        ValueError: if several networks are possible.
    """
    if not prefixes:
        return None
    leading = [prefix for prefix in prefixes if not _FOLLOWERS & set(re.split(r"[._]", prefix))]
    chosen = leading if len(prefixes) > 1 else prefixes
    if len(chosen) != 1:
        raise ValueError(
            f"{origin} has several networks. Expected: the prefix of one of them, as prefix= or "
            f"--prefix. Received: no prefix, for networks with {join_names(map(repr, prefixes))}"
        )
    others = [repr(prefix) for prefix in prefixes if prefix not in chosen]
    if chosen[0]:
        _LOG.warning(
            "%s: reading the network with the prefix %r%s. `prefix` (--prefix) selects another.",
            origin,
            chosen[0],
            f", not {join_names(others)}" if others else "",
        )
    return chosen[0]


def _refuse_transformers(tensors: Mapping[str, Any], origin: str) -> None:
    prefixes = find_vit_prefixes(tensors)
    if prefixes:
        raise ValueError(
            f"{origin} contains a vision transformer (ViT). Expected: a ResNet; "
            "`importers.torch_vit` (--kind vit) reads vision transformers. Received: tensors named "
            f"{prefixes[0]}blocks.*"
        )


def _with_torchvisions_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Renames numbered layers, as of `nn.Sequential(*resnet.children())`, and shortcuts."""
    starts = [
        int(match[2])
        for name in tensors
        if (match := _FIRST_NUMBERED_BLOCK.fullmatch(name)) and not match[1]
    ]
    roots = {}
    if starts and "conv1.weight" not in tensors:
        roots = {"0": "conv1", "1": "bn1"}
        roots |= {str(min(starts) + stage): f"layer{stage + 1}" for stage in range(4)}
    renamed = {}
    for name, tensor in tensors.items():
        root, dot, rest = name.partition(".")
        name = f"{roots.get(root, root)}{dot}{rest}"
        renamed[name.replace(".shortcut.", ".downsample.")] = tensor
    return renamed
