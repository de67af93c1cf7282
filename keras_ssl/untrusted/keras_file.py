"""What a `.keras` file would build, read before Keras builds it."""

import json
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

from keras_ssl.untrusted.names import is_safe_name

_MOST_CONFIG = 2**26  # bytes; ResNet-152 has 0.5 MB
_MOST_BYTES = 2**34
_PARTS = re.compile(r"metadata\.json|config\.json|model\.weights\.(h5|npz)|assets/.*")
# What a network is made of. `keras.utils` and the like stand outside: they read and write files.
_MODULES = re.compile(
    r"builtins|keras_(ssl|hub|cv)(\..+)?|keras(\.src)?(\.(activations|applications|constraints|"
    r"dtype_policies|initializers|layers|losses|metrics|models|ops|quantizers|random|regularizers|"
    r"saving|optimizers|backend)(\..+)?)?"
)
# They hold or name programs: Python's byte code, a SavedModel, a pickle of PyTorch, JAX functions.
_PROGRAMS = {"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}


def check_keras_file(path: str | os.PathLike) -> None:
    """Raises ValueError unless a `.keras` file describes layers only; nothing of it is built.

    Allowed are the layers, initialisers, regularisers and the like of Keras, keras_ssl, KerasHub and
    KerasCV, and classes that are registered in this process
    (`keras.saving.register_keras_serializable`). Refused are layers that carry a program (`Lambda`,
    `TFSMLayer`, `TorchModuleWrapper`, `JaxLayer`, `FlaxLayer`), whatever Keras itself would say,
    and names from anywhere else. Keras' own safe mode comes on top when the file is loaded.

    Args:
        path: the file.

    Raises:
        ValueError: as said, and if the file is damaged or holds other parts than Keras writes.

    Example:
        >>> check_keras_file("saved_models/tiny/backbone.keras")
    """
    try:
        config = _config(path)
        found = list(_objects(config))
    except (zipfile.BadZipFile, KeyError, EOFError, RecursionError, UnicodeError) as error:
        raise _refusal(
            path, "a file that Keras wrote", f"one that cannot be read: {error!r}"
        ) from error
    for module, name, registered in found:
        known = registered and keras.saving.get_registered_object(registered) is not None
        if name in _PROGRAMS:
            raise _refusal(path, "layers without programs of their own", f"a {name}")
        if not known and not _MODULES.fullmatch(module):
            raise _refusal(path, "parts of Keras, or registered classes", f"{module}.{name}")


def _refusal(path: str | os.PathLike, expected: str, received: str) -> ValueError:
    return ValueError(
        f"The .keras file is not loaded: it could do more than compute. Expected: {expected}. "
        f"Received: {os.fspath(path)!r} with {received}"
    )


def _config(path: str | os.PathLike) -> Any:
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        for member in members:
            if not is_safe_name(member.filename) or not _PARTS.fullmatch(member.filename):
                raise _refusal(path, "the parts that Keras writes", repr(member.filename))
        config = file.getinfo("config.json").file_size
        if config > _MOST_CONFIG or sum(member.file_size for member in members) > _MOST_BYTES:
            raise _refusal(path, "at most 64 MiB of description, 16 GiB in all", "more")
        try:
            return json.loads(file.read("config.json"))
        except ValueError as error:
            raise zipfile.BadZipFile(f"config.json: {error}") from error


def _objects(config: Any) -> Iterator[tuple[str, str, str]]:
    """Yields (module, class, registered name) of everything that a configuration names."""
    if isinstance(config, dict):
        if "class_name" in config:
            words = (config.get("module"), config["class_name"], config.get("registered_name"))
            module, name, registered = (str(word or "") for word in words)
            # Without a module Keras looks at what is built in or registered alone.
            yield module or "builtins", name, registered
            if name == "function":  # its name is the configuration
                yield module or "builtins", str(config.get("config") or ""), registered
        for value in config.values():
            yield from _objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _objects(value)
