"""Loads verified pretrained encoders by name, path or URL; see docs/zoo.md."""

from keras_ssl.zoo.index import available, index
from keras_ssl.zoo.load import load

__all__ = ["available", "index", "load"]
