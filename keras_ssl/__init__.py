"""keras_ssl: self-supervised pretraining for Keras 3 on TensorFlow.

`import keras_ssl` is fast: packages, and TensorFlow with them, are imported when they are first used.
"""

import importlib
import json
import os
import pathlib
import sys

__all__ = [
    "Run",
    "augment",
    "backbones",
    "callbacks",
    "data",
    "distill",
    "distribute",
    "evaluate",
    "export",
    "importers",
    "layers",
    "losses",
    "methods",
    "optimizers",
    "presets",
    "pretrain",
    "runs",
    "search",
    "untrusted",
    "zoo",
]


def _keras_backend() -> str:
    """Returns the current or future backend of Keras, without importing Keras."""
    if "keras" in sys.modules:
        return sys.modules["keras"].config.backend()
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    home = pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras")
    try:
        return json.loads((home / "keras.json").read_text()).get("backend", "tensorflow")
    except (OSError, ValueError):
        return "tensorflow"


if _keras_backend() != "tensorflow":
    raise ImportError(
        "keras_ssl runs with Keras' TensorFlow backend only. Expected: KERAS_BACKEND=tensorflow, set "
        f"before Keras is imported. Received: backend={_keras_backend()!r}"
    )


def __getattr__(name: str):
    if name == "pretrain":
        return importlib.import_module("keras_ssl.runs.pretrain").pretrain
    if name == "Run":
        return importlib.import_module("keras_ssl.runs.directory").Run
    if name in __all__:
        return importlib.import_module(f"keras_ssl.{name}")
    raise AttributeError(f"module 'keras_ssl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
