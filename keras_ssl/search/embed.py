"""Writes the features of many images to one file, in shards, so that a stopped run can resume."""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ssl.data import Source
from keras_ssl.data.image_folder import FolderSource
from keras_ssl.evaluate.features import Encoder
from keras_ssl.export.whole_file import whole_file
from keras_ssl.search.feature_file import FeatureFile, check_extension, write_features

_ABOUT = "about.json"


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
    if shard_size < 1 or batch_size < 1:
        raise ValueError(
            "`batch_size` and `shard_size` must be positive. "
            f"Received: batch_size={batch_size}, shard_size={shard_size}"
        )
    parts = path.with_name(f"{path.name}.parts")
    _prepare_shards(parts, _describe_inputs(backbone, sources, shard_size))
    encoder = Encoder(backbone)
    total = sum(len(source) for source in sources.values())
    done, shards = 0, []
    for number, source in enumerate(sources.values()):
        for start in range(0, len(source), shard_size):
            shard = parts / f"{number}-{start:012d}.npy"
            indices = np.arange(start, min(start + shard_size, len(source)))
            if not shard.is_file():
                values = encoder(source.subset(indices), batch_size, name=source.name).values
                with whole_file(shard, overwrite=True) as draft:
                    np.save(draft, values)
            shards.append(shard)
            done += len(indices)
            progress(done, total)
    content = FeatureFile(
        np.concatenate([np.load(shard) for shard in shards]),
        np.concatenate([image_names(source, prefix) for prefix, source in sources.items()]),
        _join_labels(list(sources.values())),
        {**(about or {}), "network": weights_digest(backbone)},
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
    if isinstance(source, FolderSource):
        root = pathlib.Path(source.name).expanduser()
        names = [pathlib.Path(file).relative_to(root).as_posix() for file in source.files]
    else:
        names = [str(index) for index in range(len(source))]
    return np.array([f"{prefix}/{name}" if prefix else name for name in names])


def weights_digest(network: keras.Model) -> str:
    """Returns the SHA-256 of a network's weights, in hexadecimal."""
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(f"{weight.dtype} {weight.shape}".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _describe_inputs(
    backbone: keras.Model, sources: dict[str, Source], shard_size: int
) -> dict[str, Any]:
    return {
        "network": weights_digest(backbone),
        "images": {prefix: source.fingerprint() for prefix, source in sources.items()},
        "shard_size": shard_size,
    }


def _prepare_shards(parts: pathlib.Path, inputs: dict[str, Any]) -> None:
    """Creates the directory of shards, or checks that existing shards have the same inputs."""
    about = parts / _ABOUT
    if about.is_file():
        saved = json.loads(about.read_text())
        if saved != inputs:
            different = ", ".join(sorted(k for k in inputs if saved.get(k) != inputs[k]))
            raise ValueError(
                f"{str(parts)!r} has shards of other features. Expected: the same network, images and "
                "shard size as before; or delete this directory to start again. Received: different "
                f"{different}"
            )
        return
    if parts.exists() and any(parts.iterdir()):
        raise ValueError(
            f"The directory for shards must be new or empty. Received: {str(parts)!r}, with files"
        )
    with whole_file(about, overwrite=True) as draft:
        draft.write_text(json.dumps(inputs, indent=2))


def _join_labels(sources: list[Source]) -> np.ndarray | None:
    labels = [source.labels for source in sources]
    names = {tuple(source.class_names or ()) for source in sources}
    if len(names) > 1 or any(each is None for each in labels):
        return None  # the same label would mean different classes in different sources
    return np.concatenate([np.asarray(each, np.int64) for each in labels])
