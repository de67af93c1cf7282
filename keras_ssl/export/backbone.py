"""Checks that a network can be exported, and determines its input and output shapes."""

import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

# Registers the classes of the layers; `copy_to_float32` loads a backbone.
import keras_ssl.backbones  # noqa: F401
from keras_ssl.backbones import cut
from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
from keras_ssl.layers import SplitBatchNorm, split_batch_norm

_SAMPLE_SIDE = 64  # pixels, if the backbone takes any size


def find_backbone(model: Any, block: str | None = None) -> keras.Model:
    """Returns the network to export: the backbone of the model, or the model itself.

    Split batch normalization is replaced by normal batch normalization.

    Args:
        model: network, or a model with a `backbone`.
        block: block of the network at which the export ends; see `keras_ssl.backbones.cut`. Of a
            classifier, the encoder is cut. `None`: the export is the whole network.

    Raises:
        TypeError: if neither the model nor its `backbone` is a `keras.Model`.
        ValueError: if the network is not built, has weights of which none is trainable, or has no such
            block.
    """
    backbone = getattr(model, "backbone", None)
    backbone = backbone if isinstance(backbone, keras.Model) else model
    if not isinstance(backbone, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model or have one as `backbone`. Received: model={model!r}"
        )
    if not backbone.built:
        raise ValueError(
            "`model` must be built. Expected: a model that was called on a batch of images. "
            f"Received: {backbone.name!r}, which is not built"
        )
    if backbone.weights and not backbone.trainable_weights:
        raise ValueError(
            "`model` is frozen, so its export could not be fine-tuned. Expected: a model with "
            "trainable weights; set `model.trainable = False` and then True, because Keras only "
            f"passes changes on to the layers. Received: {len(backbone.weights)} weights of "
            f"{backbone.name!r}, none trainable"
        )
    if any(isinstance(layer, SplitBatchNorm) for layer in backbone._flatten_layers()):
        backbone = split_batch_norm(
            backbone, groups=1
        )  # so that fine-tuning can use any batch size
    if block is None:
        return backbone
    encoder = encoder_of_classifier(backbone)
    return cut(backbone if encoder is None else encoder, block)


def find_shapes(backbone: keras.Model) -> tuple[tuple[int | None, int | None, int], int]:
    """Returns (height, width, channels) of the images, and the number of features.

    Raises:
        ValueError: if the network does not map batches of images to one vector per image, or has a
            fixed batch size.
    """
    # A subclassed model has no `inputs`, but stores the shape that it was built with.
    inputs = getattr(backbone, "inputs", None)
    shape = inputs[0].shape if inputs else (backbone.get_build_config() or {}).get("input_shape")
    if (inputs and len(inputs) != 1) or shape is None or len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            "`model` must take images of shape (batch, height, width, channels), with a fixed number "
            f"of channels. Received: {backbone.name!r} with inputs "
            f"{[i.shape for i in inputs or []] or shape}"
        )
    if inputs and shape[0] is not None:
        raise ValueError(
            f"`model` must take batches of any size. Received: {backbone.name!r} with input shape "
            f"{shape}"
        )
    features = backbone.compute_output_spec(keras.KerasTensor((None, *shape[1:])))
    if not isinstance(features, keras.KerasTensor) or len(features.shape) != 2:
        raise ValueError(
            "`model` must return features of shape (batch, features); if it returns feature maps, "
            f"add global average pooling. Received: {backbone.name!r} returning {features}"
        )
    return tuple(shape[1:]), features.shape[-1]


def copy_to_float32(backbone: keras.Model) -> keras.Model:
    """Returns a copy that computes in float32, whatever the precision of the network.

    Batch normalization in the copy is not synchronized, because only training synchronizes it.

    Args:
        backbone: built network whose layers can be saved and loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "backbone.keras")
        backbone.save(file, include_optimizer=False)
        copy = keras.models.load_model(file, compile=False)
    for layer in (copy, *copy._flatten_layers()):
        layer.dtype_policy = "float32"
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = False
    return copy


def sample_images(image_shape: tuple[int | None, int | None, int], count: int) -> np.ndarray:
    """Returns random float32 images for a network; free sides have 64 pixels."""
    height, width, channels = image_shape
    shape = (count, height or _SAMPLE_SIDE, width or _SAMPLE_SIDE, channels)
    return np.random.default_rng(0).uniform(size=shape).astype("float32")
