"""The words of the command line and the objects they stand for: the only such tables."""

from keras_ssl.names.backbones import backbone
from keras_ssl.names.method_options import OPTIONS, Options
from keras_ssl.names.methods import METHODS, Method, default_policy, known_method, method, options
from keras_ssl.names.optimizers import optimizer
from keras_ssl.names.table import unknown
from keras_ssl.names.views import AUGMENTATIONS, POLICIES, augmentation, policy

__all__ = [
    "AUGMENTATIONS",
    "METHODS",
    "OPTIONS",
    "POLICIES",
    "Method",
    "Options",
    "augmentation",
    "backbone",
    "default_policy",
    "known_method",
    "method",
    "optimizer",
    "options",
    "policy",
    "unknown",
]
