"""Which networks can be exported, and what images they take."""

import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

# A backbone loads only where the classes of its layers are registered.
import keras_ssl.backbones  # noqa: F401
from keras_ssl.layers import SplitBatchNorm, split_batch_norm

_SAMPLE_SIDE = 64  # pixels, where the backbone leaves the size open


def checked_backbone(model: Any) -> keras.Model:
    """Returns the network to export: the model or its backbone.

    Raises:
        TypeError: if there is no Keras model.
        ValueError: if it is not built, or has weights of which none is trainable.
    """
    backbone = getattr(model, "backbone", None)
    backbone = backbone if isinstance(backbone, keras.Model) else model
    if not isinstance(backbone, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model, or have one as `backbone`. Received: model={model!r}"
        )
    if not backbone.built:
        raise ValueError(
            "`model` must be built: call it on a batch of images first. Received a model that is "
            f"not: {backbone.name!r}"
        )
    if backbone.weights and not backbone.trainable_weights:
        raise ValueError(
            "`model` is frozen, and so would be everything fine-tuned from the artefact. Expected: "
            "a model with trainable weights; set `model.trainable = False` and then True, as Keras "
            "passes on to the layers only what changes. Received: "
            f"{len(backbone.weights)} weights of {backbone.name!r}, none trainable"
        )
    if any(isinstance(layer, SplitBatchNorm) for layer in backbone._flatten_layers()):
        return split_batch_norm(backbone, groups=1)  # fine-tuning has batches of any size
    return backbone


def shapes(backbone: keras.Model) -> tuple[tuple[int | None, int | None, int], int]:
    """Returns (height, width, channels) of the images and the number of features, both checked."""
    inputs = getattr(backbone, "inputs", None)  # a subclassed model only knows what built it
    shape = inputs[0].shape if inputs else (backbone.get_build_config() or {}).get("input_shape")
    if (inputs and len(inputs) != 1) or shape is None or len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            "`model` must take images of shape (batch, height, width, channels), channels known. "
            f"Received: {backbone.name!r} with inputs {[i.shape for i in inputs or []] or shape}"
        )
    if inputs and shape[0] is not None:
        raise ValueError(
            f"`model` must take batches of any size. Received: {backbone.name!r} with input shape "
            f"{shape}"
        )
    features = backbone.compute_output_spec(keras.KerasTensor((None, *shape[1:])))
    if not isinstance(features, keras.KerasTensor) or len(features.shape) != 2:
        raise ValueError(
            "`model` must return features of shape (batch, features); global average pooling turns "
            f"a feature map into them. Received: {backbone.name!r} returning {features}"
        )
    return tuple(shape[1:]), features.shape[-1]


def float32_copy(backbone: keras.Model) -> keras.Model:
    """Returns a copy that computes in float32, whatever the precision it was trained in.

    Its batch normalisation is not synchronised, which is an operation of training alone.

    Args:
        backbone: built network; its layers survive saving.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "backbone.keras")
        backbone.save(file, include_optimizer=False)
        twin = keras.models.load_model(file, compile=False)
    for layer in (twin, *twin._flatten_layers()):
        layer.dtype_policy = "float32"
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = False
    return twin


def sample_images(image_shape: tuple[int | None, int | None, int], count: int) -> np.ndarray:
    """Returns random float32 images that a network takes; 64 pixels where a side is free."""
    height, width, channels = image_shape
    shape = (count, height or _SAMPLE_SIDE, width or _SAMPLE_SIDE, channels)
    return np.random.default_rng(0).uniform(size=shape).astype("float32")
