"""Number formats of stored tensors, including those that NumPy lacks."""

import ml_dtypes
import numpy as np

# Types by the name that PyTorch and ml_dtypes give them; stored numbers are little-endian.
FORMATS: dict[str, np.dtype] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}


def to_float32(tensor: np.ndarray) -> np.ndarray | None:
    """Returns a tensor of any format in `FORMATS` as float32; `None` if its type is not a number.

    Numbers beyond the range of float32 become infinite.
    """
    is_extension = tensor.dtype.name in FORMATS  # NumPy has no kind for them
    if tensor.dtype.kind not in "fiub" and not is_extension:
        return None
    with np.errstate(over="ignore"):
        return tensor.astype(np.float32, copy=False)
