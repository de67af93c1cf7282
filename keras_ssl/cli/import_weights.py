"""The settings of `keras-ssl import`."""

import pathlib
from dataclasses import dataclass
from typing import Literal

import tyro


@dataclass(frozen=True)
class ImportWeights:
    """Write weights that others trained as a SavedModel; nothing in their file is run."""

    file: tyro.conf.Positional[pathlib.Path]
    """File of the weights; for simclr the prefix of a checkpoint, or the directory of one."""
    kind: Literal["torchvision", "moco", "simclr", "byol"]
    """Whose file it is; torchvision stands for all ResNets with torchvision's names, timm's too."""
    out: pathlib.Path
    """Directory to write, which must not be there."""
    image_size: int = 224
    """Side in pixels of the images that the SavedModel takes; 0 for any."""
    prefix: str = ""
    """Of the names in a file of torchvision's kind; tensors without it are left out."""
