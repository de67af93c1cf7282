"""Exports backbones for serving, fine-tuning and other runtimes; see docs/export.md."""

from keras_ssl.export.lite import lite
from keras_ssl.export.load import load
from keras_ssl.export.onnx import onnx
from keras_ssl.export.saved_model import saved_model
from keras_ssl.export.torch_state_dict import torch_state_dict

__all__ = ["lite", "load", "onnx", "saved_model", "torch_state_dict"]
