"""Rows of pictures that show what a method does with images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Panel:
    """One row of a picture: one image per example, such as "with a hole" or "filled".

    Args:
        title: what the row shows.
        images: (count, height, width, channels) float32 in [0, 1], with 1 or 3 channels.
        captions: a text below each image, or none at all.
    """

    title: str
    images: np.ndarray
    captions: Sequence[str] = ()
