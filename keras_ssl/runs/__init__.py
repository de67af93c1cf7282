"""Run directories: settings, training, results.

Importing this package does not import TensorFlow: `Run` and `train` are loaded when they are used.
"""

import importlib

__all__ = ["Run", "train"]

_MODULES = {"Run": "keras_ssl.runs.directory", "train": "keras_ssl.runs.training"}


def __getattr__(name: str):
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'keras_ssl.runs' has no attribute {name!r}")
