"""Checks that an evaluation does not change the network."""

import contextlib
import hashlib
from collections.abc import Iterator

import keras
import numpy as np

__all__ = ["fingerprint", "unchanged"]


def fingerprint(backbone: keras.Model) -> str:
    """Returns the hexadecimal SHA-256 of all variables: their paths, dtypes, shapes and values.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> fingerprint(model) == fingerprint(model)
        True
    """
    digest = hashlib.sha256()
    for variable in backbone.variables:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{variable.path} {value.dtype} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def unchanged(backbone: keras.Model) -> Iterator[None]:
    """Raises RuntimeError if any variable of `backbone` changes within the block, even by one bit.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> with unchanged(model):
        ...     features = model(np.zeros((1, 3), np.float32), training=False)
    """
    before = fingerprint(backbone)
    yield
    after = fingerprint(backbone)
    if after != before:
        raise RuntimeError(
            f"The backbone {backbone.name!r} changed during its evaluation, so the result is invalid. "
            "Expected: no layer that updates variables with `training=False`, and no training at the "
            f"same time. Received: SHA-256 {before[:12]} before, {after[:12]} after."
        )
