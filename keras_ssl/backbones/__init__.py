"""Backbones: networks that map images to features. Any `keras.Model` that does so can be used."""

from keras_ssl.backbones.cut import block_names, cut
from keras_ssl.backbones.maps import maps
from keras_ssl.backbones.of_lightness import of_lightness
from keras_ssl.backbones.pooled import pooled
from keras_ssl.backbones.resnet import ResNet
from keras_ssl.backbones.selective_kernel import SelectiveKernel
from keras_ssl.backbones.small_resnet import SmallResNet
from keras_ssl.backbones.tiny import Tiny
from keras_ssl.backbones.two_streams import two_streams
from keras_ssl.backbones.vit import ViT

__all__ = [
    "ResNet",
    "SelectiveKernel",
    "SmallResNet",
    "Tiny",
    "ViT",
    "block_names",
    "cut",
    "maps",
    "of_lightness",
    "pooled",
    "two_streams",
]
