"""Losses of self-supervised methods: pure functions of embeddings or logits."""

from keras_ssl.losses.cosine import CosineRegression
from keras_ssl.losses.distillation import Distillation
from keras_ssl.losses.info_nce import InfoNCE
from keras_ssl.losses.masked_error import MaskedError
from keras_ssl.losses.nt_xent import NTXent
from keras_ssl.losses.spatial_prediction import SpatialPrediction
from keras_ssl.losses.spreading import Spreading

__all__ = [
    "CosineRegression",
    "Distillation",
    "InfoNCE",
    "MaskedError",
    "NTXent",
    "SpatialPrediction",
    "Spreading",
]
