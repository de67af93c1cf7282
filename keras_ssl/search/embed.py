"""Features of any number of images into one file: in shards, so that a stop costs little."""

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
from keras_ssl.search.feature_file import FeatureFile, check_kind, write_features

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
    """Writes the features of the images of some sources, with the images' names.

    Shards of `shard_size` images are written to `<path>.parts`, each whole or not at all, and joined
    in the end; the same call after a stop goes on behind the last of them. Images are prepared as
    for `keras_ssl.evaluate.extract`.

    Args:
        backbone: built `keras.Model` from float32 images in [0, 1] to `(batch, features)`.
        sources: by a name that stands before those of its images, "" for none: the images that are
            decoded in the order of this dictionary. They need random access.
        path: file to write, .npz or .parquet. One that is there is replaced.
        about: what the file says of itself, as JSON holds it.
        batch_size: images per forward pass.
        shard_size: images per shard.
        progress: called with the number of images that are done, and that of all.

    Returns:
        `path`.

    Raises:
        ImportError: if a .parquet file is asked for and pyarrow is not installed.
        TypeError: if a source is streamed.
        ValueError: if `<path>.parts` holds the beginning of something else, a number is not
            positive, or an image does not fit the network.

    Example:
        >>> backbone = keras_ssl.backbones.Tiny((8, 8, 1))
        >>> embed(backbone, {"": keras_ssl.data.digits("test")}, "features.npz")
        PosixPath('features.npz')
    """
    path = pathlib.Path(path)
    check_kind(path)
    if shard_size < 1 or batch_size < 1:
        raise ValueError(
            "`batch_size` and `shard_size` must be positive. "
            f"Received: batch_size={batch_size}, shard_size={shard_size}"
        )
    parts = path.with_name(f"{path.name}.parts")
    _begin(parts, _identity(backbone, sources, shard_size))
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
        _labels(list(sources.values())),
        {**(about or {}), "network": weights_digest(backbone)},
    )
    write_features(content, path)
    shutil.rmtree(parts)
    return path


def image_names(source: Source, prefix: str = "") -> np.ndarray:
    """Returns the names of a source's images: files below their folder, or numbers.

    Args:
        source: the images.
        prefix: stands before each name, with a slash, unless it is empty.
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


def _identity(backbone: keras.Model, sources: dict[str, Source], shard_size: int) -> dict[str, Any]:
    return {
        "network": weights_digest(backbone),
        "images": {prefix: source.fingerprint() for prefix, source in sources.items()},
        "shard_size": shard_size,
    }


def _begin(parts: pathlib.Path, identity: dict[str, Any]) -> None:
    about = parts / _ABOUT
    if about.is_file():
        begun = json.loads(about.read_text())
        if begun != identity:
            differing = ", ".join(sorted(k for k in identity if begun.get(k) != identity[k]))
            raise ValueError(
                "There is the beginning of other features. Expected: the same network, images and "
                f"shard size as before, or that {str(parts)!r} is removed. Received: another "
                f"{differing}"
            )
        return
    if parts.exists() and any(parts.iterdir()):
        raise ValueError(
            f"Shards are written to {str(parts)!r}, which must be new. Received: one with files"
        )
    with whole_file(about, overwrite=True) as draft:
        draft.write_text(json.dumps(identity, indent=2))


def _labels(sources: list[Source]) -> np.ndarray | None:
    labels = [source.labels for source in sources]
    names = {tuple(source.class_names or ()) for source in sources}
    if len(names) > 1 or any(each is None for each in labels):
        return None  # numbers that would mean something else in each source
    return np.concatenate([np.asarray(each, np.int64) for each in labels])
