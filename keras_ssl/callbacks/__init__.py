"""Callbacks for pretraining."""

from keras_ssl.callbacks.checkpoint import Checkpoint, Interrupted, restore
from keras_ssl.callbacks.collapse_monitor import CollapseMonitor
from keras_ssl.callbacks.knn_monitor import KNNMonitor
from keras_ssl.callbacks.momentum_encoder import MomentumEncoder
from keras_ssl.callbacks.progress import ProgressBar

__all__ = [
    "Checkpoint",
    "CollapseMonitor",
    "Interrupted",
    "KNNMonitor",
    "MomentumEncoder",
    "ProgressBar",
    "restore",
]
