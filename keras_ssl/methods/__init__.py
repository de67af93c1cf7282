"""Self-supervised methods: each is a `keras.Model` to compile and fit."""

from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.simclr import SimCLR

__all__ = ["SelfSupervised", "SimCLR"]
