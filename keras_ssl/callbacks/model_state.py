"""Saves and restores all variables of a model and its optimizer, bit for bit."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def collect(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns copies of all variables that training depends on.

    They include the state of layers that draw random numbers, but no metrics. Under several
    workers, all must call this function.

    Returns:
        A dictionary with keys such as "model/00003/<path of the variable>".
    """
    parts = {"model": _variables(model)}
    if model.compiled:
        parts["optimizer"] = model.optimizer.variables
    return {
        f"{part}/{position:05d}/{variable.path}": np.array(keras.ops.convert_to_numpy(variable))
        for part, variables in parts.items()
        for position, variable in enumerate(variables)
    }


def save(path: pathlib.Path, values: Mapping[str, np.ndarray]) -> None:
    """Writes the variables from `collect` to an `.npz` file.

    (HDF5 would end the process when the disk is full.)
    """
    arrays: Any = {name: _npz_compatible(value) for name, value in values.items()}
    np.savez(path, **arrays)


def load(model: keras.Model, path: pathlib.Path) -> None:
    """Loads variables from a file into a model and, if it is compiled, its optimizer.

    Raises:
        ValueError: if the file belongs to a different model or optimizer. The message lists the
            variables that differ.
    """
    with np.load(path) as file:
        values = {name: file[name] for name in file.files}
    parts = {"model": _variables(model)}
    if model.compiled:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        parts["optimizer"] = model.optimizer.variables
    for part, variables in parts.items():
        saved = {name: each for name, each in values.items() if name.startswith(f"{part}/")}
        _check_variables(part, saved, variables)
        for variable, value in zip(variables, saved.values(), strict=True):
            variable.assign(_aligned_copy(_with_dtype(value, variable.dtype)))


def _variables(model: keras.Model) -> list:
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def _check_variables(part: str, saved: Mapping[str, np.ndarray], variables: list) -> None:
    received = [(_base_name(name), value.shape) for name, value in saved.items()]
    expected = [(_base_name(variable.path), tuple(variable.shape)) for variable in variables]
    differences = [
        f"{name.split('/', 2)[2]} {value.shape} in the file, {variable.path} {variable.shape} in the "
        f"{part}"
        for (name, value), variable, one, other in zip(
            saved.items(), variables, received, expected, strict=False
        )
        if one != other
    ]
    if differences or len(received) != len(expected):
        listed = "; ".join(differences[:3]) or "the first ones match"
        raise ValueError(
            f"The checkpoint could not be loaded: it belongs to a different {part}. Expected: "
            f"{len(expected)} variables. Received: {len(received)}; {listed}"
        )


def _base_name(path: str) -> str:
    """Returns the last part of a path, without the numbers that Keras adds to make names unique."""
    return re.sub(r"_\d+", "", path.split("/")[-1])


def _npz_compatible(value: np.ndarray) -> np.ndarray:
    """Returns bfloat16, which `.npz` cannot hold, as two-byte voids; see `_with_dtype`."""
    return value.view("V2") if value.dtype.name == "bfloat16" else value


def _with_dtype(value: np.ndarray, dtype: str) -> np.ndarray:
    """Reverses `_npz_compatible`."""
    return value.view(tf.as_dtype(dtype).as_numpy_dtype) if value.dtype.kind == "V" else value


def _aligned_copy(value: np.ndarray) -> tf.Tensor:
    # A tensor may share NumPy's memory, which has another alignment than TensorFlow's. Kernels
    # choose their order of summation by alignment, so results would differ in the last bits.
    return tf.raw_ops.DeepCopy(x=tf.constant(value))
