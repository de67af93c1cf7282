"""The settings of `keras-ssl search`."""

import pathlib
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Search:
    """Find the images nearest to one, and draw them."""

    features: tyro.conf.Positional[pathlib.Path]
    """File that `keras-ssl embed` wrote."""
    query: str
    """An image file; or the number of an image among the features, or its name there."""
    model: pathlib.Path | None = None
    """Run directory or export that an image file's features come from; by default the one that the
    file of features names."""
    data: str | None = None
    """The images of the features, if they have moved."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets, if that has moved."""
    out: pathlib.Path = pathlib.Path("neighbours.png")
    """Picture to write."""
    count: int = 10
    """Neighbours to show."""
