"""Loads an export as a Keras model."""

import os
import pathlib

import keras

# Registers the classes of the layers, which loading needs.
import keras_ssl.backbones  # noqa: F401
from keras_ssl.export.manifest import verify
from keras_ssl.export.publish import FILES, KERAS_FILE, join_names
from keras_ssl.untrusted import check_keras_file


def load(path: str | os.PathLike) -> keras.Model:
    """Returns the backbone of an export as a trainable Keras model with all its layers.

    First every file is compared with manifest.json, and the layers are checked: a layer that could
    do more than compute is refused; see docs/security.md.

    Args:
        path: directory that `saved_model` wrote.

    Raises:
        FileNotFoundError: if there is no such directory.
        ValueError: if the directory is not an export of `saved_model`, a file is missing or has
            changed, or a layer could do more than compute.

    Example:
        >>> path = saved_model(keras_ssl.backbones.Tiny(), "saved_models/tiny")
        >>> load(path).input_shape
        (None, 32, 32, 3)
    """
    directory = pathlib.Path(path).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(
            "There is no export to load. Expected: a directory written by "
            f"keras_ssl.export.saved_model. Received: path={path}"
        )
    found = {entry.name for entry in directory.iterdir()}
    if not found >= FILES:
        raise ValueError(
            "`path` is not an export of keras_ssl.export.saved_model. "
            f"Expected: {join_names(FILES)}. Missing: {join_names(FILES - found)}. "
            f"Found: {join_names(found)}. Received: path={path}"
        )
    verify(directory)
    check_keras_file(directory / KERAS_FILE)
    return keras.models.load_model(directory / KERAS_FILE, compile=False)
