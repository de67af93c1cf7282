"""Augmentations, each a Keras layer, and the policies that make two views of an image."""

from keras_ssl.augment.augmentation import Augmentation, Policy
from keras_ssl.augment.blur import RandomBlur
from keras_ssl.augment.color import ColorJitter, RandomGrayscale
from keras_ssl.augment.crop import CenterCrop, RandomCrop
from keras_ssl.augment.flip import RandomFlip
from keras_ssl.augment.layer import AugmentationLayer
from keras_ssl.augment.policies import (
    byol,
    centred,
    crop_and_flip,
    evaluation,
    moco_v1,
    moco_v2,
    multi_crop,
    pirl,
    simclr,
)
from keras_ssl.augment.solarize import RandomSolarize
from keras_ssl.augment.warp import RandomWarp

__all__ = [
    "Augmentation",
    "AugmentationLayer",
    "CenterCrop",
    "ColorJitter",
    "Policy",
    "RandomBlur",
    "RandomCrop",
    "RandomFlip",
    "RandomGrayscale",
    "RandomSolarize",
    "RandomWarp",
    "byol",
    "centred",
    "crop_and_flip",
    "evaluation",
    "moco_v1",
    "moco_v2",
    "multi_crop",
    "pirl",
    "simclr",
]
