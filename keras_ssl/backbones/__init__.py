"""Backbones: networks that map images to features. Any `keras.Model` that does so can be used."""

from keras_ssl.backbones.maps import maps
from keras_ssl.backbones.pooled import pooled
from keras_ssl.backbones.resnet import ResNet
from keras_ssl.backbones.selective_kernel import SelectiveKernel
from keras_ssl.backbones.small_resnet import SmallResNet
from keras_ssl.backbones.tiny import Tiny
from keras_ssl.backbones.vit import ViT

__all__ = ["ResNet", "SelectiveKernel", "SmallResNet", "Tiny", "ViT", "maps", "pooled"]
