"""Losses of self-supervised methods: pure mathematics on embeddings."""

from keras_ssl.losses.cosine import CosineRegression
from keras_ssl.losses.info_nce import InfoNCE
from keras_ssl.losses.nt_xent import NTXent

__all__ = ["CosineRegression", "InfoNCE", "NTXent"]
