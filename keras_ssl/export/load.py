"""From an artefact back to the Keras model that it was."""

import os
import pathlib

import keras

# A backbone loads only where the classes of its layers are registered.
import keras_ssl.backbones  # noqa: F401
from keras_ssl.export.manifest import verify
from keras_ssl.export.publish import FILES, KERAS_FILE, listed
from keras_ssl.untrusted import check_keras_file


def load(path: str | os.PathLike) -> keras.Model:
    """Returns the backbone of an artefact as the Keras model it was: trainable, with named layers.

    Every file of the artefact is compared with manifest.json first, and its layers are looked at:
    those that could do more than compute are refused, see docs/security.md.

    Args:
        path: directory that `saved_model` wrote.

    Raises:
        FileNotFoundError: if there is no such directory.
        ValueError: if the directory is not an artefact of `saved_model`, a file is missing or is not
            the one that was written, or it has layers that could do more than compute.

    Example:
        >>> path = saved_model(keras_ssl.backbones.Tiny(), "saved_models/tiny")
        >>> load(path).input_shape
        (None, 32, 32, 3)
    """
    directory = pathlib.Path(path).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(
            "There is no artefact to load. Expected: a directory written by "
            f"keras_ssl.export.saved_model. Received: path={path}"
        )
    found = {entry.name for entry in directory.iterdir()}
    if not found >= FILES:
        raise ValueError(
            "`path` is not an artefact of keras_ssl.export.saved_model. "
            f"Expected: {listed(FILES)}. Missing: {listed(FILES - found)}. "
            f"Found: {listed(found)}. Received: path={path}"
        )
    verify(directory)
    check_keras_file(directory / KERAS_FILE)
    return keras.models.load_model(directory / KERAS_FILE, compile=False)
