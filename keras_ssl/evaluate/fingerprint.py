"""Proof that an evaluation left the network as it was, to the bit."""

import contextlib
import hashlib
from collections.abc import Iterator

import keras
import numpy as np

__all__ = ["fingerprint", "unchanged"]


def fingerprint(backbone: keras.Model) -> str:
    """Returns the SHA-256, in hexadecimal, of all variables: paths, types, shapes and bytes.

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
    """Raises RuntimeError if a variable of `backbone` changes, by a bit, within the block.

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
            f"The backbone {backbone.name!r} changed while it was evaluated, so the result would "
            "be that of another network. Expected: no layer that updates its variables with "
            f"`training=False`, and no training at the same time. Received: SHA-256 {after[:12]} "
            f"after, {before[:12]} before."
        )
