"""The settings of `keras-ssl embed`."""

import pathlib
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Embed:
    """Write the features of images, with their names, into one file; a stopped run goes on."""

    model: tyro.conf.Positional[pathlib.Path]
    """Run directory, or the directory of an export."""
    data: str
    """Images, as for pretrain; labels are kept where there are any."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    out: pathlib.Path = pathlib.Path("features.npz")
    """File to write, .npz or .parquet; one that is there is replaced."""
    batch_size: int = 256
    """Images per forward pass."""
    shard_size: int = 4096
    """Images after which what is done is kept, in <out>.parts, for a run that goes on after a stop."""
