"""Imports published weights as backbones and methods of keras_ssl, without running code in files."""

from keras_ssl.importers.byol import byol
from keras_ssl.importers.checkpoint import checkpoint
from keras_ssl.importers.licences import LICENCES
from keras_ssl.importers.moco import moco
from keras_ssl.importers.safe_pickle import read_pickle
from keras_ssl.importers.safetensors_file import read_safetensors
from keras_ssl.importers.simclr import simclr
from keras_ssl.importers.torch_file import read_torch
from keras_ssl.importers.torchvision import torch_resnet
from keras_ssl.importers.vit import torch_vit

__all__ = [
    "LICENCES",
    "byol",
    "checkpoint",
    "moco",
    "read_pickle",
    "read_safetensors",
    "read_torch",
    "simclr",
    "torch_resnet",
    "torch_vit",
]
