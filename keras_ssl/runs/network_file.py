"""Keeps a trained network in its run directory until its export is written and checked."""

import contextlib
import logging
import os
import pathlib
from collections.abc import Iterator

import keras

from keras_ssl.untrusted import check_keras_file

_NAME = "network.keras"
_LOG = logging.getLogger("keras_ssl")


@contextlib.contextmanager
def keep_network(network: keras.Model, directory: pathlib.Path) -> Iterator[None]:
    """Saves a network for the time of the context, and keeps the file if an error occurs there.

    An export is checked after it is written. A network that was trained for hours must not be lost if
    the check, or the disk, fails.

    Args:
        network: the trained network.
        directory: the run directory.

    Example:
        >>> with keep_network(network, run.path):
        ...     export.saved_model(network, run.export_path)
    """
    file = directory / _NAME
    draft = directory / f".draft-{_NAME}"  # Keras requires the extension
    network.save(draft, include_optimizer=False)
    os.replace(draft, file)
    try:
        yield
    except BaseException:
        _LOG.error(
            "The run %s is not exported yet. Its network is kept in %s, and `keras-ssl export %s` "
            "exports it.",
            directory,
            file,
            directory,
        )
        raise
    file.unlink()


def is_kept(directory: pathlib.Path) -> bool:
    """Returns whether a run directory has a network that is not exported yet."""
    return (directory / _NAME).is_file()


def load_kept(directory: pathlib.Path) -> keras.Model:
    """Returns the network of a run directory that is not exported yet.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file has layers that could do more than compute.
    """
    file = directory / _NAME
    if not file.is_file():
        raise FileNotFoundError(f"The run has no network to export. Expected: {str(file)!r}")
    check_keras_file(file)
    return keras.models.load_model(file, compile=False)


def remove_kept(directory: pathlib.Path):
    """Removes the network from a run directory, once it is exported."""
    (directory / _NAME).unlink(missing_ok=True)
