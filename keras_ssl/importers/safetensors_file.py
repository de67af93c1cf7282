"""Reads safetensors files, which contain only tensors."""

import os

import numpy as np

from keras_ssl.importers.bounded_file import find_file


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a `.safetensors` file by name.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if safetensors is not installed.
        ValueError: if the file is not a safetensors file, or has tensors of a type that NumPy lacks.

    Example:
        ```python
        weights = read_safetensors("model.safetensors")
        ```
    """
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            'Reading .safetensors files needs safetensors: pip install "keras_ssl[safetensors]"'
        ) from error
    path = find_file(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a safetensors file: {error}") from error
