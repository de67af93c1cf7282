"""Callbacks for pretraining."""

from keras_ssl.callbacks.knn_monitor import KNNMonitor

__all__ = ["KNNMonitor"]
