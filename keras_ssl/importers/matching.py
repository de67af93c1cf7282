"""Assigns named tensors to the variables of a network; both must match exactly."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ssl.importers.number_formats import to_float32

_MAX_LISTED = 12

# For each axis of a stored tensor, the axis of the Keras variable.
_LAYOUTS = {
    "keras": None,
    "torch_convolution": (3, 2, 0, 1),  # (out, in, height, width)
    "torch_dense": (1, 0),  # (out, in)
}


@dataclass(frozen=True)
class Place:
    """A variable of a network, and the layout of the tensor that is stored for it.

    Attributes:
        variable: the variable.
        layout: order of the axes of the stored tensor: "keras", "torch_convolution" or
            "torch_dense".
    """

    variable: keras.Variable
    layout: str = "keras"

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the stored tensor."""
        shape = tuple(self.variable.shape)
        axes = _LAYOUTS[self.layout]
        return shape if axes is None else tuple(shape[axis] for axis in axes)

    def stored(self) -> np.ndarray:
        """Returns the value of the variable in the stored layout, as float32."""
        value = keras.ops.convert_to_numpy(self.variable).astype(np.float32)
        axes = _LAYOUTS[self.layout]
        return np.ascontiguousarray(value if axes is None else value.transpose(axes))

    def fill(self, tensor: np.ndarray) -> None:
        """Assigns a stored tensor to the variable."""
        axes = _LAYOUTS[self.layout]
        value = np.asarray(tensor, np.float32)
        self.variable.assign(value if axes is None else value.transpose(np.argsort(axes)))


def fill(places: Mapping[str, Place], tensors: Mapping[str, Any], origin: str) -> None:
    """Assigns tensors to variables by name; after an error, no variable has changed.

    Args:
        places: variables by the name of their tensor in the file.
        tensors: tensors by name.
        origin: origin of the tensors, for messages.

    Raises:
        ValueError: if a tensor is missing, unexpected, has the wrong shape, or is not finite. The
            message names up to twelve tensors of each kind.
    """
    differences = []
    missing = [
        f"{name} {place.stored_shape}" for name, place in places.items() if name not in tensors
    ]
    extra = [f"{name} {_shape(value)}" for name, value in tensors.items() if name not in places]
    if missing:
        differences.append(f"Missing: {join_names(missing)}.")
    if extra:
        differences.append(f"Unexpected: {join_names(extra)}.")
    shared = {name: tensors[name] for name in places if name in tensors}
    shapes = [
        f"{name} {_shape(value)} instead of {places[name].stored_shape}"
        for name, value in shared.items()
        if _shape(value) != places[name].stored_shape
    ]
    if shapes:
        differences.append(f"Wrong shape: {join_names(shapes)}.")
    if differences:
        raise ValueError(
            f"The weights of {origin} do not match the network. Expected: {len(places)} tensors, "
            f"{join_names(places)}. Received: {len(tensors)}, {join_names(tensors)}. "
            f"{' '.join(differences)}"
        )
    numbers = {name: _finite_numbers(name, value, origin) for name, value in shared.items()}
    for name, place in places.items():
        place.fill(numbers[name])


def _finite_numbers(name: str, tensor: np.ndarray, origin: str) -> np.ndarray:
    """Returns a tensor as float32; raises ValueError if it has other values than finite numbers."""
    numbers = to_float32(tensor)
    if numbers is None:
        raise ValueError(
            f"The weights of {origin} must be numbers: floating point, integers or booleans. "
            f"Received: {name} of type {tensor.dtype}"
        )
    bad = np.count_nonzero(~np.isfinite(numbers))
    if bad:
        raise ValueError(
            f"The weights of {origin} must be finite numbers in the range of float32. Received: "
            f"{name} of type {tensor.dtype}, with {bad} of {tensor.size} values NaN, infinite or "
            "beyond this range"
        )
    return numbers


def join_names(names: Iterable[str]) -> str:
    """Returns names as text for a message, at most the first twelve."""
    names = list(names)
    text = ", ".join(names[:_MAX_LISTED])
    rest = len(names) - _MAX_LISTED
    return text + (f", and {rest} more" if rest > 0 else "") or "nothing"


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
