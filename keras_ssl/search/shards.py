"""Runs a network over many images in shards on disk, so that a stopped computation can resume."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_ssl.data import Source
from keras_ssl.evaluate.features import Encoder
from keras_ssl.export.whole_file import whole_file

_ABOUT = "about.json"


def compute_in_shards(
    network: keras.Model,
    sources: dict[str, Source],
    parts: pathlib.Path,
    batch_size: int,
    shard_size: int,
    progress: Callable[[int, int], None],
) -> np.ndarray:
    """Returns the outputs of a network for all images of all sources, in order.

    Each complete shard is written to a file. The same call after an interruption reads the complete
    shards and computes the others. The caller deletes the directory when it has stored the result.

    Args:
        network: built `keras.Model` from float32 images in [0, 1] to `(batch, dim)`.
        sources: sources with random access, by name.
        parts: directory of the shards.
        batch_size: images per forward pass, positive.
        shard_size: images per shard, positive.
        progress: called after each shard with the number of processed images and the total.

    Returns:
        (images, dim) float32.

    Raises:
        TypeError: if a source is streamed.
        ValueError: if the directory has shards of other images, another network or another shard size,
            or other files; if a size is not positive; or if an image does not fit the network.
    """
    if shard_size < 1 or batch_size < 1:
        raise ValueError(
            "`batch_size` and `shard_size` must be positive. "
            f"Received: batch_size={batch_size}, shard_size={shard_size}"
        )
    _prepare(parts, _describe_inputs(network, sources, shard_size))
    encoder = Encoder(network)
    total, done = sum(len(source) for source in sources.values()), 0
    files = []
    for file, source, indices in _list_shards(sources, parts, shard_size):
        if not file.is_file():
            values = encoder(source.subset(indices), batch_size, name=source.name).values
            with whole_file(file, overwrite=True) as draft:
                np.save(draft, values)
        files.append(file)
        done += len(indices)
        progress(done, total)
    return np.concatenate([np.load(file) for file in files])


def weights_digest(network: keras.Model) -> str:
    """Returns the SHA-256 of a network's weights, in hexadecimal."""
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(f"{weight.dtype} {weight.shape}".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _list_shards(
    sources: dict[str, Source], parts: pathlib.Path, shard_size: int
) -> Iterator[tuple[pathlib.Path, Source, np.ndarray]]:
    for number, source in enumerate(sources.values()):
        for start in range(0, len(source), shard_size):
            indices = np.arange(start, min(start + shard_size, len(source)))
            yield parts / f"{number}-{start:012d}.npy", source, indices


def _describe_inputs(
    network: keras.Model, sources: dict[str, Source], shard_size: int
) -> dict[str, Any]:
    return {
        "network": weights_digest(network),
        "images": {prefix: source.fingerprint() for prefix, source in sources.items()},
        "shard_size": shard_size,
    }


def _prepare(parts: pathlib.Path, inputs: dict[str, Any]) -> None:
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
