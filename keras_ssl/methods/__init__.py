"""Self-supervised methods: each is a `keras.Model` to compile and fit."""

from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.byol import BYOL
from keras_ssl.methods.cmc import CMC
from keras_ssl.methods.colorization import Colorization
from keras_ssl.methods.context_encoder import AdversarialContextEncoder, ContextEncoder
from keras_ssl.methods.cpc import CPC
from keras_ssl.methods.deep_cluster import DeepCluster
from keras_ssl.methods.denoising_autoencoder import DenoisingAutoencoder
from keras_ssl.methods.exemplar import Exemplar
from keras_ssl.methods.jigsaw import Jigsaw
from keras_ssl.methods.learner import Learner
from keras_ssl.methods.memory_bank import MemoryBank
from keras_ssl.methods.moco import MoCo
from keras_ssl.methods.pirl import PIRL
from keras_ssl.methods.relative_location import RelativeLocation
from keras_ssl.methods.rotation import Rotation
from keras_ssl.methods.simclr import SimCLR
from keras_ssl.methods.simclr_memory import SimCLRMemory
from keras_ssl.methods.split_brain import SplitBrain
from keras_ssl.methods.spreading import InvariantSpreading
from keras_ssl.methods.video_colorization import VideoColorization

__all__ = [
    "BYOL",
    "CMC",
    "CPC",
    "PIRL",
    "AdversarialContextEncoder",
    "Colorization",
    "ContextEncoder",
    "DeepCluster",
    "DenoisingAutoencoder",
    "Exemplar",
    "InvariantSpreading",
    "Jigsaw",
    "Learner",
    "MemoryBank",
    "MoCo",
    "RelativeLocation",
    "Rotation",
    "SelfSupervised",
    "SimCLR",
    "SimCLRMemory",
    "SplitBrain",
    "VideoColorization",
]
