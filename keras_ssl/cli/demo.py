"""The settings of `keras-ssl demo`."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Demo:
    """Pretrain on scikit-learn's handwritten digits and evaluate, in about a minute on two cores."""

    out: pathlib.Path | None = None
    """Run directory to make; by default runs/demo-<date and time>."""
    epochs: int = 200
    """Passes over the 1,437 training images."""
    seed: int = 0
    """Of everything random."""
