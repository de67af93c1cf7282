"""Compares the arrays of an `.npz` file with the free memory before they are read."""

import math
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from keras_ssl.data.host_memory import GIB, free_host_memory

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_KEPT = ("uint8", "uint16", "int16", "float32")  # other types are converted
_CONVERTED = {"int8": 2}  # bytes per value; 4 for all others


def check_fits(path: pathlib.Path, keys: Sequence[str]):
    """Checks that arrays of images fit into memory, from their headers.

    While an array is loaded, it is in memory twice: in the file's type, and as the tensor that the
    source keeps. A conversion adds a third copy.

    Args:
        path: `.npz` file.
        keys: names of the arrays, in the order in which they are loaded. Others than those in the
            file are ignored.

    Raises:
        ValueError: if they do not fit.

    Example:
        >>> check_fits(pathlib.Path("cifar10.npz"), ["x_train", "x_test"])
    """
    free = free_host_memory()
    if free is None:
        return
    kept, peak, described = 0, 0, []
    with zipfile.ZipFile(path) as file:
        for key in keys:
            header = _read_header(file, f"{key}.npy")
            if header is None:
                continue
            shape, dtype = header
            loaded = math.prod(shape) * dtype.itemsize
            is_kept = dtype.name in _KEPT
            tensor = loaded if is_kept else math.prod(shape) * _CONVERTED.get(dtype.name, 4)
            peak = max(peak, kept + loaded + tensor * (1 if is_kept else 2))
            kept += tensor
            described.append(f"{key!r} of shape {shape}, {dtype.name}, {loaded / GIB:.1f} GiB")
    if peak > free:
        raise ValueError(
            f"The images of {str(path)!r} do not fit into memory. Expected: at most "
            f"{free / GIB:.1f} GiB, which are free. Received: {' and '.join(described)}, which "
            f"need {peak / GIB:.1f} GiB while they are loaded. Use a folder of image files, which "
            "are read when they are needed, or fewer images per file"
        )


def _read_header(file: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype] | None:
    """Returns shape and type of an array; `None` if it is missing or in an unknown format."""
    if member not in file.namelist():
        return None
    with file.open(member) as content:
        try:
            read = _HEADERS.get(np.lib.format.read_magic(content))
            if read is None:
                return None
            shape, _, dtype = read(content)
        except ValueError:  # reported when the array is read
            return None
    return shape, dtype
