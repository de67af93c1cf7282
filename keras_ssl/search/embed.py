"""Writes the features of many images to one file, in shards, so that a stopped run can resume."""

import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ssl.data import Source
from keras_ssl.data.classes import join_labels
from keras_ssl.search.feature_file import FeatureFile, check_extension, write_features
from keras_ssl.search.shards import compute_in_shards, weights_digest


def embed(
    backbone: keras.Model,
    sources: dict[str, Source],
    path: str | os.PathLike,
    about: dict[str, Any] | None = None,
    batch_size: int = 256,
    shard_size: int = 4096,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pathlib.Path:
    """Writes the features and names of the images of one or more sources to a file.

    Complete shards of `shard_size` images are written to `<path>.parts` and joined at the end. If the
    call is interrupted, the same call resumes after the last complete shard. Images are preprocessed
    as for `keras_ssl.evaluate.extract`.

    Args:
        backbone: built `keras.Model` from float32 images in [0, 1] to `(batch, features)`.
        sources: maps a prefix to a source. Image names start with the prefix; "" adds none. The
            sources are processed in the order of the dictionary and need random access.
        path: .npz or .parquet file to write. An existing file is replaced.
        about: metadata to store in the file. Must be JSON-serializable.
        batch_size: images per forward pass.
        shard_size: images per shard.
        progress: called after each shard with the number of processed images and the total.

    Returns:
        `path`.

    Raises:
        ImportError: if `path` ends in .parquet and pyarrow is not installed.
        TypeError: if a source is streamed.
        ValueError: if `<path>.parts` has shards of other images, another network or another shard
            size, or other files; if `batch_size` or `shard_size` is not positive; or if an image does
            not fit the network.

    Example:
        >>> backbone = keras_ssl.backbones.Tiny((8, 8, 1))
        >>> embed(backbone, {"": keras_ssl.data.digits("test")}, "features.npz")
        PosixPath('features.npz')
    """
    path = pathlib.Path(path)
    check_extension(path)
    parts = path.with_name(f"{path.name}.parts")
    features = compute_in_shards(backbone, sources, parts, batch_size, shard_size, progress)
    labels, class_names = join_labels(list(sources.values()))
    content = FeatureFile(
        features,
        np.concatenate([image_names(source, prefix) for prefix, source in sources.items()]),
        labels,
        {"class_names": class_names, **(about or {}), "network": weights_digest(backbone)},
    )
    write_features(content, path)
    shutil.rmtree(parts)
    return path


def image_names(source: Source, prefix: str = "") -> np.ndarray:
    """Returns the names of a source's images: file paths relative to the folder, or indices.

    Args:
        source: the images.
        prefix: put before each name, followed by a slash. An empty prefix adds nothing.
    """
    if source.files is not None and source.root is not None:
        root = pathlib.Path(source.root).expanduser()
        names = [pathlib.Path(file).relative_to(root).as_posix() for file in source.files]
    else:
        names = [str(index) for index in range(len(source))]
    return np.array([f"{prefix}/{name}" if prefix else name for name in names])
