"""Layers that methods and backbones are made of."""

from keras_ssl.layers.batch_norm import BatchNorm
from keras_ssl.layers.heads import ProjectionHead

__all__ = ["BatchNorm", "ProjectionHead"]
