"""Opens the images that a network is applied to, for `embed` and `predict`."""

import pathlib
from typing import TYPE_CHECKING

from keras_ssl.cli.export import load_value_range

if TYPE_CHECKING:
    from rich.console import Console

    from keras_ssl.data import Source


def open_images(
    console: "Console", model: pathlib.Path, data: str, data_dir: pathlib.Path | None, channels: int
) -> "dict[str, Source]":
    """Returns all images of the data, training and test images, by the prefix of their names.

    Their values are scaled as those that the network was trained on. Skipped files are reported.

    Args:
        console: where to report.
        model: run directory, or directory of an export.
        data: images, as for `pretrain`.
        data_dir: directory of TensorFlow Datasets.
        channels: channels of the network's input.

    Raises:
        FileNotFoundError: if there are no such images.
        ValueError: if the images are of another kind than the network's.
    """
    from keras_ssl.data.open_source import open_source, report_skipped

    value_range = load_value_range(model) or "full"
    train, test = open_source(data, data_dir, channels, value_range=value_range)
    report_skipped(console, train, test)
    return {"": train} if test is None else {"train": train, "test": test}
