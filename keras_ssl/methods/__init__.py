"""Self-supervised methods: each is a `keras.Model` to compile and fit."""

from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.byol import BYOL
from keras_ssl.methods.exemplar import Exemplar
from keras_ssl.methods.learner import Learner
from keras_ssl.methods.memory_bank import MemoryBank
from keras_ssl.methods.moco import MoCo
from keras_ssl.methods.rotation import Rotation
from keras_ssl.methods.simclr import SimCLR
from keras_ssl.methods.simclr_memory import SimCLRMemory
from keras_ssl.methods.spreading import InvariantSpreading

__all__ = [
    "BYOL",
    "Exemplar",
    "InvariantSpreading",
    "Learner",
    "MemoryBank",
    "MoCo",
    "Rotation",
    "SelfSupervised",
    "SimCLR",
    "SimCLRMemory",
]
