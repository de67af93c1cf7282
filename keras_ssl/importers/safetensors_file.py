"""Reads safetensors files, which contain only tensors."""

import json
import math
import os
from typing import Any

import numpy as np

from keras_ssl.importers.bounded_file import BoundedFile, find_file, limit_reads
from keras_ssl.importers.number_formats import FORMATS
from keras_ssl.importers.pickle_values import describe

_MAX_HEADER = 100_000_000  # bytes, as in the safetensors library
_METADATA = "__metadata__"
_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a `.safetensors` file by name. No package is needed.

    Args:
        path: the file.

    Returns:
        Arrays by name. bfloat16 tensors become float32; float8 tensors keep their types, those of
        `ml_dtypes`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a safetensors file, is truncated, or has tensors of another
            type, such as complex numbers.

    Example:
        ```python
        weights = read_safetensors("model.safetensors")
        ```

    Source: "Format" in the README of huggingface/safetensors.
    """
    path = find_file(path)
    with path.open("rb") as file:
        try:
            return _read(limit_reads(file))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} cannot be read as a safetensors file: {error}") from error


def _read(file: BoundedFile) -> dict[str, np.ndarray]:
    # The file has: size of the header (8 bytes), header (JSON), contents of the tensors.
    size = int.from_bytes(file.read(8), "little")
    if size > _MAX_HEADER:
        raise ValueError(f"its header must have at most {_MAX_HEADER} bytes, but declares {size}")
    header = json.loads(file.read(size), object_pairs_hook=_dictionary)
    if not isinstance(header, dict):
        raise ValueError(f"its header must be a dictionary, not {describe(header)}")
    header.pop(_METADATA, None)
    entries = {name: _entry(name, value) for name, value in header.items()}
    content = file.read(file.size - file.tell())
    _check_layout(entries, len(content))
    tensors = {}
    for name, (number_format, shape, start, end) in entries.items():
        dtype = FORMATS[number_format]
        count = (end - start) // dtype.itemsize
        # `frombuffer` refuses to read nothing at the end of the file.
        found = np.frombuffer(content, dtype, count, start) if count else np.zeros(0, dtype)
        tensor = found.reshape(shape)
        tensors[name] = tensor.astype(np.float32) if number_format == "bfloat16" else tensor
    return tensors


def _dictionary(pairs: list) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("its header has a name twice")
    return values


def _entry(name: str, entry: Any) -> tuple[str, list[int], int, int]:
    """Returns the checked number format, shape, and first and last byte of a tensor."""
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _NAMES:
        raise ValueError(
            f"tensor {describe(name)} has the type {describe(dtype)}; supported are "
            f"{', '.join(_NAMES)}"
        )
    numbers = [shape, offsets]
    if not all(isinstance(v, list) and all(type(n) is int and n >= 0 for n in v) for v in numbers):
        raise ValueError(f"tensor {describe(name)} has an invalid shape or offset")
    if len(offsets) != 2 or len(shape) > 64:  # limit of NumPy
        raise ValueError(f"tensor {describe(name)} has an invalid shape or offset")
    needed = math.prod(shape) * FORMATS[_NAMES[dtype]].itemsize
    if offsets[1] - offsets[0] != needed:
        raise ValueError(
            f"tensor {describe(name)} of shape {tuple(shape)} and type {dtype} must have {needed} "
            f"bytes, but has {offsets[1] - offsets[0]}"
        )
    return _NAMES[dtype], shape, *offsets


def _check_layout(entries: dict, size: int) -> None:
    """Raises ValueError unless the tensors lie one after another and fill the file."""
    end = 0
    for name, (_, _, start, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if start != end:
            raise ValueError(f"tensor {describe(name)} overlaps with another, or leaves a gap")
        end = stop
    if end != size:
        raise ValueError(f"its tensors must have {end} bytes together, but the file has {size}")
