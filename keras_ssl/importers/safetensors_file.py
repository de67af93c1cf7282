"""Files of safetensors, a format that holds tensors and nothing else."""

import os

import numpy as np

from keras_ssl.importers.bounded_file import existing_file


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a `.safetensors` file by name.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if the library safetensors is not installed.
        ValueError: if the file is not one of safetensors, or holds tensors that NumPy has not.

    Example:
        ```python
        weights = read_safetensors("model.safetensors")
        ```
    """
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "Files of safetensors need the library of that name: "
            'pip install "keras_ssl[safetensors]"'
        ) from error
    path = existing_file(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a file of safetensors: {error}") from error
