"""The versions of the packages that a run was started with."""

import importlib.metadata
import platform

import keras
import tensorflow as tf


def read_versions() -> dict[str, str]:
    """Returns the versions of Python and the main packages, by name."""
    return {
        "keras_ssl": importlib.metadata.version("keras_ssl"),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
