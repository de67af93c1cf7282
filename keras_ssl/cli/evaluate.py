"""The settings of `keras-ssl evaluate`."""

import pathlib
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Evaluate:
    """Measure a frozen encoder with labelled images: kNN and linear, with all labels and with few."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory, or the directory of an export."""
    data: str
    """Labelled images, as for pretrain. Without test images of their own, a fifth is set aside."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    labels_per_class: tuple[int, ...] = (1, 5, 10)
    """Numbers of labelled images per class; classes with fewer images drop a number."""
    draws: int = 10
    """Random draws of few labels, over which mean and spread are taken."""
    baselines: bool = False
    """Also measure raw pixels and the same encoder untrained (runs only)."""
    batch_size: int = 256
    """Images per forward pass."""
    seed: int = 0
    """Of the draws, and of the split where there are no test images."""
