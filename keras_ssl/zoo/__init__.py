"""Networks by name, path or URL, verified before they are loaded; see docs/zoo.md."""

from keras_ssl.zoo.index import available, index
from keras_ssl.zoo.load import load

__all__ = ["available", "index", "load"]
