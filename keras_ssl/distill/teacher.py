"""Loads and freezes teachers: Keras models and exported SavedModels."""

import os
import pathlib
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import export
from keras_ssl.distill.teacher_outputs import TeacherOutputs
from keras_ssl.layers import target_network
from keras_ssl.untrusted import check_saved_model


def freeze_teacher(teacher: Any) -> keras.layers.Layer:
    """Returns a teacher without trainable weights.

    Args:
        teacher: `keras.Model`, which is copied; the directory of an exported model; or
            `TeacherOutputs`.

    Raises:
        TypeError: if `teacher` is none of these.
        ValueError: for the reasons given in `load_teacher` and `keras_ssl.layers.target_network`.
    """
    if isinstance(teacher, TeacherOutputs):
        return teacher
    if isinstance(teacher, (str, os.PathLike)):
        return _freeze(load_teacher(teacher))
    if not isinstance(teacher, keras.Model):
        raise TypeError(
            "`teacher` must be a keras.Model, the directory of an export, or TeacherOutputs. "
            f"Received: teacher={teacher!r} of type {type(teacher).__name__}"
        )
    if not teacher.trainable_variables:
        return teacher  # loaded from a SavedModel, or already frozen: no copy is needed
    return target_network(teacher, name=teacher.name)


def load_teacher(path: str | os.PathLike) -> keras.Model:
    """Loads a teacher from a SavedModel, for prediction only.

    A model exported by `keras_ssl.export.saved_model` is loaded as the original Keras model. Any other
    SavedModel needs a signature "serving_default" from one tensor of float images to one tensor of
    scores.

    Args:
        path: directory of the SavedModel.

    Returns:
        `keras.Model` from images to scores, `(batch, classes)`.

    Raises:
        FileNotFoundError: if `path` is not the directory of a SavedModel.
        ValueError: if the signature is missing or different, or the graph contains operations that
            are not allowed (see `keras_ssl.untrusted.check_saved_model`).
    """
    directory = pathlib.Path(path).expanduser()
    if not (directory / "saved_model.pb").is_file():
        raise FileNotFoundError(
            f"`teacher` must be the directory of a SavedModel. Received: {os.fspath(path)!r}"
        )
    if (directory / "backbone.keras").is_file():
        return export.load(directory)
    check_saved_model(directory)
    signature = tf.saved_model.load(str(directory)).signatures.get("serving_default")
    inputs = [] if signature is None else list(signature.structured_input_signature[1].values())
    outputs = {} if signature is None else signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].shape.rank != 4:
        raise ValueError(
            "The teacher's SavedModel must have a signature 'serving_default' from one batch of images "
            f"to one batch of scores. Received: {os.fspath(path)!r} with inputs {inputs} and outputs "
            f"{list(outputs)}"
        )
    images = keras.Input(tuple(inputs[0].shape[1:]), name="images")
    layer = keras.layers.TFSMLayer(str(directory), call_endpoint="serving_default")
    (scores,) = layer(images).values()
    return keras.Model(images, scores, name="teacher")


def count_classes(network: Any, name: str) -> int:
    """Returns the number of classes for which a network returns scores.

    Args:
        network: teacher or student.
        name: argument name for error messages.

    Raises:
        TypeError: if the network is not a Keras model.
        ValueError: if it is not built, or does not return one row of scores per image.
    """
    if isinstance(network, TeacherOutputs):
        return network.classes
    if not isinstance(network, keras.Model):
        raise TypeError(
            f"`{name}` must be a keras.Model that maps images to class scores. "
            f"Received: {name}={network!r} of type {type(network).__name__}"
        )
    # A subclassed keras.Model has no `output_shape`.
    shape = getattr(network, "output_shape", None) if network.built else None
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] is None:
        raise ValueError(
            f"`{name}` must be built and return one row of scores per image, (batch, classes). A "
            "subclassed model must be made functional: "
            "images = keras.Input((height, width, channels)); keras.Model(images, network(images)). "
            f"Received: {network.name!r} of type {type(network).__name__} with output shape {shape}"
        )
    return shape[-1]


def _freeze(network: keras.Model) -> keras.Model:
    for variable in network.variables:
        variable.trainable = False
    return network
