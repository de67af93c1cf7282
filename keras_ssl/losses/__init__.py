"""Losses of self-supervised methods: pure mathematics on embeddings."""

from keras_ssl.losses.nt_xent import NTXent

__all__ = ["NTXent"]
