"""Optimizers and learning-rate schedules for self-supervised training."""

from keras_ssl.optimizers.adamw import AdamW
from keras_ssl.optimizers.lars import LARS
from keras_ssl.optimizers.schedules import WarmupCosine, scaled_learning_rate
from keras_ssl.optimizers.sgd import SGD

__all__ = ["LARS", "SGD", "AdamW", "WarmupCosine", "scaled_learning_rate"]
