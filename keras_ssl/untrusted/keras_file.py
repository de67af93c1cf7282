"""Checks the layers of an untrusted `.keras` file before Keras builds them."""

import json
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

from keras_ssl.untrusted.names import is_safe_name

_MAX_CONFIG_BYTES = 2**26  # ResNet-152 has 0.5 MB
_MAX_BYTES = 2**34
_ALLOWED_FILES = re.compile(r"metadata\.json|config\.json|model\.weights\.(h5|npz)|assets/.*")
# Modules with building blocks of networks. Modules such as `keras.utils` read and write files.
_ALLOWED_MODULES = re.compile(
    r"builtins|keras_(ssl|hub|cv)(\..+)?|keras(\.src)?(\.(activations|applications|constraints|"
    r"dtype_policies|initializers|layers|losses|metrics|models|ops|quantizers|random|regularizers|"
    r"saving|optimizers|backend)(\..+)?)?"
)
# These contain or load code: Python bytecode, a SavedModel, a PyTorch pickle, JAX functions.
_CODE_LAYERS = {"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}


def check_keras_file(path: str | os.PathLike) -> None:
    """Checks that a `.keras` file only contains known layers, without building any of them.

    Layers, initializers, regularizers and other building blocks of Keras, keras_ssl, KerasHub and
    KerasCV are allowed, and classes registered in this process with
    `keras.saving.register_keras_serializable`. Layers that contain code (`Lambda`, `TFSMLayer`,
    `TorchModuleWrapper`, `JaxLayer`, `FlaxLayer`) are refused, whether or not Keras would allow them.
    Names from other modules are refused too. When the file is loaded, Keras' safe mode applies in
    addition.

    Args:
        path: `.keras` file.

    Raises:
        ValueError: if the file contains anything else, is damaged, or has files that Keras does not
            write.

    Example:
        >>> check_keras_file("saved_models/tiny/backbone.keras")
    """
    try:
        config = _read_config(path)
        found = list(_find_objects(config))
    except (zipfile.BadZipFile, KeyError, EOFError, RecursionError, UnicodeError) as error:
        raise _unsafe_error(
            path, "a file that Keras wrote", f"content that cannot be read: {error!r}"
        ) from error
    for module, name, registered in found:
        known = registered and keras.saving.get_registered_object(registered) is not None
        if name in _CODE_LAYERS:
            raise _unsafe_error(path, "layers without code", f"a {name}")
        if not known and not _ALLOWED_MODULES.fullmatch(module):
            raise _unsafe_error(path, "classes of Keras, or registered classes", f"{module}.{name}")


def _unsafe_error(path: str | os.PathLike, expected: str, received: str) -> ValueError:
    return ValueError(
        f"The .keras file is not loaded because it may be unsafe. Expected: {expected}. "
        f"Received: {os.fspath(path)!r} with {received}"
    )


def _read_config(path: str | os.PathLike) -> Any:
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        for member in members:
            if not is_safe_name(member.filename) or not _ALLOWED_FILES.fullmatch(member.filename):
                raise _unsafe_error(path, "only the files that Keras writes", repr(member.filename))
        config_bytes = file.getinfo("config.json").file_size
        if (
            config_bytes > _MAX_CONFIG_BYTES
            or sum(member.file_size for member in members) > _MAX_BYTES
        ):
            raise _unsafe_error(path, "at most 64 MiB of configuration and 16 GiB in total", "more")
        try:
            return json.loads(file.read("config.json"))
        except ValueError as error:
            raise zipfile.BadZipFile(f"config.json: {error}") from error


def _find_objects(config: Any) -> Iterator[tuple[str, str, str]]:
    """Yields (module, class, registered name) of every object in a configuration."""
    if isinstance(config, dict):
        if "class_name" in config:
            values = (config.get("module"), config["class_name"], config.get("registered_name"))
            module, name, registered = (str(value or "") for value in values)
            # Without a module, Keras only looks up built-in and registered names.
            yield module or "builtins", name, registered
            if name == "function":  # the configuration is its name
                yield module or "builtins", str(config.get("config") or ""), registered
        for value in config.values():
            yield from _find_objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _find_objects(value)
