"""The values of pixels that become 0 and 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class ValueRange:
    """Maps pixel values to [0, 1]: `low` to 0, `high` to 1, and clips what is outside.

    Args:
        low: value of each channel that becomes 0; one value stands for all channels.
        high: value of each channel that becomes 1. A channel with `high == low` becomes 0.
        of: NumPy type of the values: "uint8", "uint16", ...

    Raises:
        ValueError: if `low` and `high` do not have the same length, are not finite, or a `high` is
            below its `low`.

    Example:
        >>> ValueRange((0.0,), (4095.0,), "uint16")(np.array([[[4095]]], np.uint16)).numpy().max()
        1.0
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    of: str = "uint8"

    def __post_init__(self):
        low, high = (np.asarray(each, np.float64) for each in (self.low, self.high))
        if low.shape != high.shape or low.ndim != 1 or not len(low):
            raise ValueError(
                "A value range needs one `low` and one `high` per channel, or for all channels. "
                f"Received: low={self.low}, high={self.high}"
            )
        if not (np.isfinite([low, high]).all() and (high >= low).all()):
            raise ValueError(
                "A value range must be finite, and `high` must not be below `low`. "
                f"Received: low={self.low}, high={self.high}"
            )
        object.__setattr__(self, "low", tuple(low.tolist()))
        object.__setattr__(self, "high", tuple(high.tolist()))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns images (..., channels) of any type as float32 in [0, 1]."""
        low = tf.constant(self.low, tf.float32)
        width = np.subtract(self.high, self.low)
        factor = np.where(width > 0, 1 / np.where(width > 0, width, 1), 0)
        scaled = (tf.cast(images, tf.float32) - low) * tf.constant(factor, tf.float32)
        return tf.clip_by_value(scaled, 0.0, 1.0)

    def __str__(self) -> str:
        """Returns "0 to 4095", or "0 to 4095, 12 to 970" for two channels."""
        return ", ".join(f"{a:g} to {b:g}" for a, b in zip(self.low, self.high, strict=True))

    def check_channels(self, channels: int, name: str):
        """Raises ValueError unless the range is for images with this number of channels."""
        if len(self.low) not in (1, channels):
            raise ValueError(
                f"A value range must have 1 or {channels} values for images of {channels} channels. "
                f"Received: {len(self.low)} for {name!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-serializable dictionary, from which `from_json` makes the same range."""
        return {"low": list(self.low), "high": list(self.high), "of": self.of}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ValueRange":
        """Returns the range that `to_json` described."""
        return cls(tuple(values["low"]), tuple(values["high"]), values["of"])
