"""Finds and reads the images of a file of features."""

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_ssl import evaluate
from keras_ssl.data import Source
from keras_ssl.data.open_source import open_source
from keras_ssl.data.verify import decode
from keras_ssl.search.embed import image_names, weights_digest
from keras_ssl.search.feature_file import FeatureFile


def find_row(query: str, found: FeatureFile) -> int | None:
    """Returns the row of an image among the features, or `None` if the query is an image file.

    Args:
        query: name or number of an image among the features, or the path of an image file.
        found: the features.

    Raises:
        ValueError: if the number is too large.
        FileNotFoundError: if there is no such image and no such file.
    """
    named = np.flatnonzero(found.names == query)
    if len(named):
        return int(named[0])
    if query.isdecimal():
        if int(query) >= len(found.names):
            raise ValueError(
                f"--query must be 0 to {len(found.names) - 1}, an image's name, or a file. "
                f"Received: {query}"
            )
        return int(query)
    if not pathlib.Path(query).is_file():
        raise FileNotFoundError(
            "--query must be an image file, or the number or name of an image among the features, "
            f"such as {str(found.names[0])!r}. Received: {query!r}"
        )
    return None


def read_query(
    path: str, found: FeatureFile, network: keras.Model
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels of an image file, and its features.

    Raises:
        ValueError: if the features were computed by another network.
    """
    if weights_digest(network) != found.about.get("network"):
        raise ValueError(
            "--model must be the network that computed the features. "
            "Received: a network with other weights"
        )
    image = decode(tf.io.read_file(path), network.input_shape[-1]).numpy()
    return image, evaluate.extract(network, (image[None], None)).values[0]


def read_images(
    found: FeatureFile,
    rows: list[int],
    data: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> list[np.ndarray]:
    """Returns the images of some rows of a file of features.

    Args:
        found: the features.
        rows: numbers of the images.
        data: the images, if they have moved since the features were computed.
        data_dir: directory of TensorFlow Datasets, if it has moved.

    Raises:
        ValueError: if the images are not there.
    """
    wanted = [str(found.names[row]) for row in rows]
    roots = found.about.get("roots")
    if roots and data is None:
        return [_read_file(name, roots) for name in wanted]
    data = data or found.about.get("data")
    if data is None:
        raise ValueError("The features do not name their images. Expected: --data DATA")
    train, test = open_source(data, data_dir or found.about.get("data_dir"))
    parts: dict[str, Source] = {"": train} if test is None else {"train": train, "test": test}
    places = {
        str(name): (source, index)
        for prefix, source in parts.items()
        for index, name in enumerate(image_names(source, prefix))
    }
    if missing := [name for name in wanted if name not in places]:
        raise _moved(data, missing[0])
    return [_read(*places[name]) for name in wanted]


def _read_file(name: str, roots: dict[str, str]) -> np.ndarray:
    prefix, _, rest = name.partition("/") if "" not in roots else ("", "", name)
    file = pathlib.Path(roots[prefix], rest)
    if not file.is_file():
        raise _moved(roots[prefix], rest)
    return decode(tf.io.read_file(str(file)), channels=3).numpy()


def _read(source: Source, index: int) -> np.ndarray:
    image = source.read(index)
    return tf.image.convert_image_dtype(image, tf.uint8, saturate=True).numpy()


def _moved(data: str, name: str) -> ValueError:
    return ValueError(
        "The images of the features were not found. If they have moved, pass --data. "
        f"Received: {data!r}, without {name!r}"
    )
