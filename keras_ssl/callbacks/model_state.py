"""All variables of a model and its optimizer, in a file and back, to the bit."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def collect(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns copies of all variables that training depends on, by part, place and path.

    Those of layers that draw random numbers are among them; metrics are not. Under several workers all
    must call it.
    """
    parts = {"model": _variables(model)}
    if model.compiled:
        parts["optimizer"] = model.optimizer.variables
    return {
        f"{part}/{place:05d}/{variable.path}": np.array(keras.ops.convert_to_numpy(variable))
        for part, variables in parts.items()
        for place, variable in enumerate(variables)
    }


def save(path: pathlib.Path, values: Mapping[str, np.ndarray]) -> None:
    """Writes collected variables to an `.npz` file.

    (HDF5 ends the process where a disk is full.)
    """
    arrays: Any = {name: _plain(value) for name, value in values.items()}
    np.savez(path, **arrays)


def load(model: keras.Model, path: pathlib.Path) -> None:
    """Gives a model, and its optimizer if it is compiled, the variables of a file.

    Raises:
        ValueError: if the file is of another network or optimizer; says which variables differ.
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
        _check(part, saved, variables)
        for variable, value in zip(variables, saved.values(), strict=True):
            variable.assign(_own_copy(_as(value, variable.dtype)))


def _variables(model: keras.Model) -> list:
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def _check(part: str, saved: Mapping[str, np.ndarray], variables: list) -> None:
    there = [(_stem(name), value.shape) for name, value in saved.items()]
    here = [(_stem(variable.path), tuple(variable.shape)) for variable in variables]
    differences = [
        f"{name.split('/', 2)[2]} {value.shape} in the file, {variable.path} {variable.shape} here"
        for (name, value), variable, one, other in zip(
            saved.items(), variables, there, here, strict=False
        )
        if one != other
    ]
    if differences or len(there) != len(here):
        raise ValueError(
            f"The checkpoint could not be loaded: it is of another {part}. Expected: {len(here)} "
            f"variables. Received: {len(there)}; {'; '.join(differences[:3]) or 'the first are alike'}"
        )


def _stem(path: str) -> str:
    """Returns the last part of a path without the numbers by which Keras tells layers apart."""
    return re.sub(r"_\d+", "", path.split("/")[-1])


def _plain(value: np.ndarray) -> np.ndarray:
    """Returns what `.npz` can hold: bfloat16 as bytes, which `_as` undoes."""
    return value.view("V2") if value.dtype.name == "bfloat16" else value


def _as(value: np.ndarray, dtype: str) -> np.ndarray:
    return value.view(tf.as_dtype(dtype).as_numpy_dtype) if value.dtype.kind == "V" else value


def _own_copy(value: np.ndarray) -> tf.Tensor:
    # A tensor may share NumPy's memory, which is aligned otherwise than TensorFlow's, and kernels
    # choose their order of summation by that.
    return tf.raw_ops.DeepCopy(x=tf.constant(value))
