"""Filling a network with named tensors: every tensor has its place, and every place its tensor."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

_MOST_LISTED = 12

# The axes of a stored tensor, as axes of Keras' weight.
_LAYOUTS = {
    "keras": None,
    "torch_convolution": (3, 2, 0, 1),  # (out, in, height, width)
    "torch_dense": (1, 0),  # (out, in)
}


@dataclass(frozen=True)
class Place:
    """Where a tensor goes.

    Attributes:
        variable: of the network.
        layout: how the stored tensor's axes are ordered: "keras", "torch_convolution" or
            "torch_dense".
    """

    variable: keras.Variable
    layout: str = "keras"

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape that the stored tensor must have."""
        shape = tuple(self.variable.shape)
        axes = _LAYOUTS[self.layout]
        return shape if axes is None else tuple(shape[axis] for axis in axes)

    def stored(self) -> np.ndarray:
        """Returns the variable's value as it is stored, in float32."""
        value = keras.ops.convert_to_numpy(self.variable).astype(np.float32)
        axes = _LAYOUTS[self.layout]
        return np.ascontiguousarray(value if axes is None else value.transpose(axes))

    def fill(self, tensor: np.ndarray) -> None:
        """Gives the variable a stored tensor's value."""
        axes = _LAYOUTS[self.layout]
        value = np.asarray(tensor, np.float32)
        self.variable.assign(value if axes is None else value.transpose(np.argsort(axes)))


def fill(places: Mapping[str, Place], tensors: Mapping[str, Any], what: str) -> None:
    """Fills a network with tensors of the same names and shapes; nothing changes if they differ.

    Args:
        places: by the name that a tensor has in the file.
        tensors: by name.
        what: where the tensors come from, for messages.

    Raises:
        ValueError: if a tensor is missing, superfluous, of another shape, or not made of finite
            numbers. They are named, the first twelve of each kind.
    """
    complaints = []
    missing = [
        f"{name} {place.stored_shape}" for name, place in places.items() if name not in tensors
    ]
    extra = [f"{name} {_shape(value)}" for name, value in tensors.items() if name not in places]
    if missing:
        complaints.append(f"Missing from it: {listed(missing)}.")
    if extra:
        complaints.append(f"Only in it: {listed(extra)}.")
    shared = {name: tensors[name] for name in places if name in tensors}
    shapes = [
        f"{name} {places[name].stored_shape}, not {_shape(value)}"
        for name, value in shared.items()
        if _shape(value) != places[name].stored_shape
    ]
    if shapes:
        complaints.append(f"Of another shape: {listed(shapes)}.")
    if complaints:
        raise ValueError(
            f"The weights of {what} do not fit the network. Expected: {len(places)} tensors, "
            f"{listed(places)}. Received: {len(tensors)}, {listed(tensors)}. {' '.join(complaints)}"
        )
    for name, value in shared.items():
        if value.dtype.kind not in "fiub" or not np.isfinite(value).all():
            raise ValueError(
                f"The weights of {what} must be finite numbers. Received: {name} of "
                f"{value.dtype} with values that are not"
            )
    for name, place in places.items():
        place.fill(shared[name])


def listed(names: Iterable[str]) -> str:
    """Returns names in one line, the first of them where there are many."""
    names = list(names)
    text = ", ".join(names[:_MOST_LISTED])
    rest = len(names) - _MOST_LISTED
    return text + (f", and {rest} more" if rest > 0 else "") or "nothing"


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
