"""Writes the predicted classes of many images to a CSV file, in shards, so that it can resume."""

import csv
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from keras_ssl.data import Source
from keras_ssl.export.whole_file import whole_file
from keras_ssl.search.embed import image_names
from keras_ssl.search.shards import compute_in_shards

_HEADER = ("name", "class", "probability")


def predict(
    network: keras.Model,
    class_names: Sequence[str],
    sources: dict[str, Source],
    path: str | os.PathLike,
    batch_size: int = 256,
    shard_size: int = 4096,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pathlib.Path:
    """Writes a CSV file with the columns name, class and probability, one line per image.

    The class is the one with the highest score; its probability is that of the softmax of all scores.
    Complete shards of `shard_size` images are written to `<path>.parts`. If the call is interrupted,
    the same call resumes after the last complete shard. Images are preprocessed as for
    `keras_ssl.evaluate.extract`.

    Args:
        network: built `keras.Model` from float32 images in [0, 1] to scores before the softmax,
            `(batch, classes)`.
        class_names: names of the classes, one per score.
        sources: maps a prefix to a source, as for `keras_ssl.search.embed`.
        path: file to write. An existing file is replaced.
        batch_size: images per forward pass.
        shard_size: images per shard.
        progress: called after each shard with the number of processed images and the total.

    Returns:
        `path`.

    Raises:
        TypeError: if a source is streamed.
        ValueError: if there is not one name per score, or as for `keras_ssl.search.embed`.

    Example:
        >>> network = keras_ssl.export.load("runs/finetune/export")
        >>> predict(network, ["cat", "dog"], {"": image_folder("photos")}, "predictions.csv")
        PosixPath('predictions.csv')
    """
    path = pathlib.Path(path)
    classes = network.output_shape[-1]
    if len(class_names) != classes:
        raise ValueError(
            "`class_names` must have one name for each score of the network. Received: "
            f"{len(class_names)} names and {classes} scores"
        )
    parts = path.with_name(f"{path.name}.parts")
    scores = compute_in_shards(network, sources, parts, batch_size, shard_size, progress)
    names = _names(sources)
    probabilities = softmax(scores)
    best = probabilities.argmax(axis=1)
    with whole_file(path, overwrite=True) as draft, draft.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(_HEADER)
        for row, (name, number) in enumerate(zip(names, best, strict=True)):
            table.writerow((name, class_names[number], f"{probabilities[row, number]:.6f}"))
    shutil.rmtree(parts)
    return path


def _names(sources: Mapping[str, Source]) -> np.ndarray:
    """Returns the names of all images: paths relative to their folder if they share one."""
    folders = {source.root for source in sources.values()}
    share_one = len(folders) == 1 and None not in folders  # split by a table of labels
    return np.concatenate(
        [image_names(source, "" if share_one else prefix) for prefix, source in sources.items()]
    )


def softmax(scores: np.ndarray) -> np.ndarray:
    """Returns the softmax of each row, computed in float64.

    Args:
        scores: (n, classes).

    Example:
        >>> softmax(np.array([[0.0, np.log(3.0)]]))
        array([[0.25, 0.75]])
    """
    scores = np.asarray(scores, np.float64)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
