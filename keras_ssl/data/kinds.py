"""Checks that data are given as one of the kinds that are accepted."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssl.data.source import Source

_EXPECTED = (
    "`{argument}` must be 'digits', 'tfds:<name>', the path of a folder, .npz or .csv file, a source, "
    "or a pair of a training and a test source."
)


def check_kind(data: Any, argument: str = "data"):
    """Checks that data are a name, a path, a source, or a pair of sources.

    Args:
        data: what the user passed.
        argument: name of the argument, for the error message.

    Raises:
        TypeError: if they are something else, such as an array. The error says how to make a source.

    Example:
        >>> check_kind("digits")
        >>> check_kind((digits("train"), digits("test")))
    """
    if isinstance(data, (str, os.PathLike, Source)):
        return
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(d, Source) for d in data):
        return
    expected = _EXPECTED.format(argument=argument)
    raise TypeError(f"{expected} {_advice(data)} Received: {_describe(data)}")


def _advice(data: Any) -> str:
    if _is_array(data):
        return "Make a source of an array: `keras_ssl.data.arrays(images, labels)`."
    if isinstance(data, tf.data.Dataset):
        return (
            "Make a source of a tf.data.Dataset that fits into memory: `keras_ssl.data.arrays(images, "
            "labels)` with its images as one array; or train with a class of `keras_ssl.methods` and "
            "`fit(keras_ssl.data.views(dataset, ...))`."
        )
    if isinstance(data, (tuple, list)) and data:
        if all(isinstance(each, (str, os.PathLike)) for each in data):
            return (
                "Pass the folder of these files, or a .csv file that names them and their labels."
            )
        if len(data) == 2 and all(_is_array(each) for each in data):
            return "Make a source of arrays: `keras_ssl.data.arrays(images, labels)`."
        return "Make a source of each array: `keras_ssl.data.arrays(images, labels)`."
    if hasattr(data, "columns"):  # a DataFrame
        return (
            "Save a table of files and labels as a .csv file in the folder of the images, with the "
            "columns file and label, and pass its path."
        )
    return "Make a source of arrays: `keras_ssl.data.arrays(images, labels)`."


def _is_array(data: Any) -> bool:
    return isinstance(data, (np.ndarray, tf.Tensor, tf.Variable)) or (
        hasattr(data, "__array__") and not hasattr(data, "columns")
    )


def _describe(data: Any) -> str:
    if isinstance(data, (tuple, list)):
        kinds = ", ".join(type(each).__name__ for each in data[:4]) + ", ..." * (len(data) > 4)
        return (
            f"a {type(data).__name__} of {len(data)}: {kinds}"
            if data
            else f"an empty {type(data).__name__}"
        )
    shape = getattr(data, "shape", None)
    return f"{type(data).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")
