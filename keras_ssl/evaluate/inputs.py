"""Turns sources, datasets and arrays into batches of preprocessed images for evaluation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssl import augment
from keras_ssl.data import parallel

__all__ = ["Images", "check_classes", "check_labels", "image_dataset", "prepare", "source_name"]

# A keras_ssl.data source, a tf.data.Dataset, a pair of arrays, or Features.
Images = Any


def source_name(source: Images) -> str:
    """Returns the name of `source` for messages."""
    return str(getattr(source, "name", "source"))


def check_labels(source: Images, name: str) -> None:
    """Raises ValueError if `source` lacks labels.

    Only arrays of labels are checked in full; the labels of a `tf.data.Dataset` are not read.

    Args:
        source: anything that `extract` takes.
        name: name of the argument in messages.
    """
    if isinstance(source, tf.data.Dataset):
        labels = source.element_spec[1] if isinstance(source.element_spec, tuple) else None
    elif isinstance(source, tuple):
        labels = source[1] if len(source) > 1 else None
    else:
        labels = getattr(source, "labels", None)
    if labels is None:
        raise ValueError(
            f"`{name}` must have labels: the protocol trains on the labels of `train` and is "
            f"tested on those of `test`. Received: {name}={type(source).__name__} without labels."
        )
    if isinstance(labels, np.ndarray) and (labels < 0).any():
        raise ValueError(
            f"Every image of `{name}` must have a label. Received: {np.sum(labels < 0)} of "
            f"{len(labels)} images without one (-1)."
        )


def check_classes(labels: np.ndarray, classes: int, name: str) -> None:
    """Raises ValueError if a label is not one of the classes that a network distinguishes.

    Args:
        labels: integers, (n,).
        classes: number of outputs of the network.
        name: name of the images in messages.
    """
    highest = int(np.max(labels, initial=-1))
    if highest >= classes:
        raise ValueError(
            f"The labels of `{name}` must be classes of the network, 0 to {classes - 1}. "
            f"Received: label {highest}"
        )


def image_dataset(source: Images, name: str) -> tf.data.Dataset:
    """Returns a dataset of single (image, label) pairs, in order; the label is -1 if unlabeled.

    Raises:
        TypeError: if `source` has an unsupported type.
        ValueError: if images or labels have the wrong shape or range, or the dataset is infinite.
    """
    if isinstance(source, tf.data.Dataset):
        dataset = source
    elif isinstance(source, tuple) and len(source) == 2:
        dataset = _from_arrays(*source, name)
    elif hasattr(source, "dataset"):
        dataset = source.dataset()
    else:
        raise TypeError(
            f"{name!r} must be a keras_ssl.data source, a tf.data.Dataset of (image, label), a "
            f"pair of arrays (images, labels) or Features. Received: {type(source).__name__}."
        )
    if isinstance(dataset.element_spec, tf.TensorSpec):
        dataset = dataset.map(lambda image: (image, tf.constant(-1, tf.int64)))
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise TypeError(
            f"{name!r} must be a dataset of (image, label) or of images; `tfds.load` returns one "
            f"with `as_supervised=True`. Received: elements {spec}."
        )
    if spec[0].shape.rank == 4:
        dataset = dataset.unbatch()
        spec = dataset.element_spec
    if (spec[1].shape.rank not in (0, None) and spec[1].shape != (1,)) or spec[1].dtype.is_floating:
        raise ValueError(
            f"The labels of {name!r} must be integers, one per image. Received: labels of "
            f"shape {tuple(spec[1].shape)} and type {spec[1].dtype.name}. `np.argmax(labels, -1)` "
            "converts one-hot vectors."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"{name!r} must be finite. Received: a dataset that repeats forever.")
    return dataset


def _from_arrays(images: np.ndarray, labels: np.ndarray | None, name: str) -> tf.data.Dataset:
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"The images of {name!r} must have the shape (n, height, width, channels). Received: "
            f"{images.shape}."
        )
    if np.issubdtype(images.dtype, np.floating) and images.size:
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"Float images of {name!r} must be in [0, 1]; use uint8 for [0, 255]. "
                f"Received: values from {low:g} to {high:g}."
            )
        images = images.astype(np.float32)
    labels = np.full(len(images), -1, np.int64) if labels is None else np.asarray(labels)
    if len(labels) != len(images):
        raise ValueError(
            f"{name!r} must have one label per image. Received: {len(images)} images and "
            f"{len(labels)} labels."
        )
    return tf.data.Dataset.from_tensor_slices((images, labels))


def prepare(
    dataset: tf.data.Dataset,
    input_shape: tuple[int | None, ...],
    batch_size: int,
    augmentation: Callable | None,
    name: str,
) -> tuple[tf.data.Dataset, str]:
    """Returns batches of (preprocessed images, labels) and the name of the preprocessing.

    Args:
        dataset: from `image_dataset`.
        input_shape: the backbone's input shape (batch, height, width, channels), `None` for free
            dimensions.
        batch_size: images per batch.
        augmentation: function of one image; `None` for the evaluation preprocessing.
        name: name of the source in messages.

    Raises:
        ValueError: if `batch_size` is not positive, or the backbone takes non-square images and
            there is no `augmentation`.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive. Received: batch_size={batch_size}.")
    height, width = input_shape[1:3]
    shape = dataset.element_spec[0].shape
    if augmentation is not None:
        change, title = augmentation, _title(augmentation)
    elif height is None or width is None:
        change, title = _unit_range, "whole images"
    elif height == width:
        change, title = augment.evaluation(width), f"evaluation({width})"
    elif (height, width) == tuple(shape[:2]):
        change, title = _unit_range, "whole images"
    else:
        raise ValueError(
            "The evaluation preprocessing makes square images. Expected: an `augmentation` that "
            f"makes images of {height} x {width}. Received: augmentation=None for {name!r}."
        )

    def preprocess(image, label):
        return change(image), label

    if augmentation is None and shape.is_fully_defined():
        batches = dataset.batch(batch_size).map(preprocess, parallel.BATCHES)
    else:
        batches = dataset.map(preprocess, parallel.IMAGES).batch(batch_size)
    return parallel.with_threads(batches.prefetch(parallel.READY)), title


def _unit_range(images: tf.Tensor) -> tf.Tensor:
    return tf.image.convert_image_dtype(images, tf.float32)


def _title(augmentation: Callable) -> str:
    return getattr(augmentation, "__name__", type(augmentation).__name__)
