"""Layers used by methods and backbones."""

from keras_ssl.layers.batch_norm import BatchNorm
from keras_ssl.layers.clusters import Clusters
from keras_ssl.layers.color_bins import ColorBins
from keras_ssl.layers.context_network import ContextNetwork
from keras_ssl.layers.convolution import Conv2D
from keras_ssl.layers.decoder import Decoder, Discriminator
from keras_ssl.layers.embedding_bank import EmbeddingBank
from keras_ssl.layers.heads import MLPHead, ProjectionHead
from keras_ssl.layers.in_chunks import in_chunks
from keras_ssl.layers.key_queue import KeyQueue
from keras_ssl.layers.lab import ABChannels, LabToRGB, Lightness, RGBToLab
from keras_ssl.layers.linear_probe import LinearProbe
from keras_ssl.layers.map_head import MapHead
from keras_ssl.layers.permutations import tile_permutations
from keras_ssl.layers.spherical_k_means import spherical_k_means
from keras_ssl.layers.split_batch_norm import SplitBatchNorm, split_batch_norm
from keras_ssl.layers.target import momentum_update, target_network, target_pairs
from keras_ssl.layers.tiles import Tiles
from keras_ssl.layers.without_batch_norm import without_batch_norm

__all__ = [
    "ABChannels",
    "BatchNorm",
    "Clusters",
    "ColorBins",
    "ContextNetwork",
    "Conv2D",
    "Decoder",
    "Discriminator",
    "EmbeddingBank",
    "KeyQueue",
    "LabToRGB",
    "Lightness",
    "LinearProbe",
    "MLPHead",
    "MapHead",
    "ProjectionHead",
    "RGBToLab",
    "SplitBatchNorm",
    "Tiles",
    "in_chunks",
    "momentum_update",
    "spherical_k_means",
    "split_batch_norm",
    "target_network",
    "target_pairs",
    "tile_permutations",
    "without_batch_norm",
]
