"""Layers used by methods and backbones."""

from keras_ssl.layers.batch_norm import BatchNorm
from keras_ssl.layers.color_bins import ColorBins
from keras_ssl.layers.convolution import Conv2D
from keras_ssl.layers.embedding_bank import EmbeddingBank
from keras_ssl.layers.heads import MLPHead, ProjectionHead
from keras_ssl.layers.in_chunks import in_chunks
from keras_ssl.layers.key_queue import KeyQueue
from keras_ssl.layers.lab import ABChannels, LabToRGB, Lightness, RGBToLab
from keras_ssl.layers.linear_probe import LinearProbe
from keras_ssl.layers.split_batch_norm import SplitBatchNorm, split_batch_norm
from keras_ssl.layers.target import momentum_update, target_network, target_pairs

__all__ = [
    "ABChannels",
    "BatchNorm",
    "ColorBins",
    "Conv2D",
    "EmbeddingBank",
    "KeyQueue",
    "LabToRGB",
    "Lightness",
    "LinearProbe",
    "MLPHead",
    "ProjectionHead",
    "RGBToLab",
    "SplitBatchNorm",
    "in_chunks",
    "momentum_update",
    "split_batch_norm",
    "target_network",
    "target_pairs",
]
