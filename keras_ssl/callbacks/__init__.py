"""Callbacks for pretraining."""

from keras_ssl.callbacks.checkpoint import Checkpoint, Interrupted, restore
from keras_ssl.callbacks.collapse_monitor import CollapseMonitor
from keras_ssl.callbacks.knn_monitor import KNNMonitor
from keras_ssl.callbacks.progress import ProgressBar
from keras_ssl.methods.momentum_encoder import MomentumEncoder

__all__ = [
    "Checkpoint",
    "CollapseMonitor",
    "Interrupted",
    "KNNMonitor",
    "MomentumEncoder",
    "ProgressBar",
    "restore",
]
