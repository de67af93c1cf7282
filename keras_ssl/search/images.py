"""Finds and reads the images of a feature file."""

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_ssl import evaluate
from keras_ssl.data import Source
from keras_ssl.data.decoding import decode_any
from keras_ssl.data.open_source import open_source
from keras_ssl.data.value_range import ValueRange
from keras_ssl.search.embed import image_names
from keras_ssl.search.feature_file import FeatureFile
from keras_ssl.search.shards import weights_digest


def find_row(query: str, content: FeatureFile) -> int | None:
    """Returns the row of an image in a feature file, or `None` if the query is an image file.

    Args:
        query: name or index of an image in the feature file, or the path of an image file.
        content: contents of the feature file.

    Raises:
        ValueError: if the index is out of range.
        FileNotFoundError: if there is no such image and no such file.
    """
    matches = np.flatnonzero(content.names == query)
    if len(matches):
        return int(matches[0])
    if query.isdecimal():
        if int(query) >= len(content.names):
            raise ValueError(
                f"--query must be 0 to {len(content.names) - 1}, an image name, or a file. "
                f"Received: {query}"
            )
        return int(query)
    if not pathlib.Path(query).is_file():
        raise FileNotFoundError(
            "--query must be an image file, or the index or name of an image in the feature file, "
            f"such as {str(content.names[0])!r}. Received: {query!r}"
        )
    return None


def read_query(
    path: str, content: FeatureFile, network: keras.Model
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels and the features of an image file.

    Args:
        path: image file.
        content: contents of the feature file.
        network: network that computed the features.

    Raises:
        ValueError: if the features were computed by another network.
    """
    if weights_digest(network) != content.about.get("network"):
        raise ValueError(
            "--model must be the network that computed the features. "
            "Received: a network with other weights"
        )
    try:
        image = _decode(path, network.input_shape[-1], content)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            "--query must be an image file that can be decoded. "
            f"Received: {str(path)!r}: {error.message}"
        ) from error
    return image, evaluate.extract(network, (image[None], None)).values[0]


def read_images(
    content: FeatureFile,
    rows: list[int],
    data: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> list[np.ndarray]:
    """Returns the images of some rows of a feature file.

    Args:
        content: contents of the feature file.
        rows: indices of the images.
        data: new location of the images, if they have moved since the features were computed.
        data_dir: new directory of TensorFlow Datasets, if it has moved.

    Raises:
        ValueError: if the feature file does not say where the images are, or they are not there.
    """
    names = [str(content.names[row]) for row in rows]
    roots = content.about.get("roots")
    if roots and data is None:
        return [_read_file(name, roots, content) for name in names]
    data = data or content.about.get("data")
    if data is None:
        raise ValueError(
            "The feature file does not say where its images are. Expected: --data DATA. Received: none"
        )
    train, test = open_source(
        data, data_dir or content.about.get("data_dir"), value_range=_value_range(content) or "full"
    )
    parts: dict[str, Source] = {"": train} if test is None else {"train": train, "test": test}
    places = {
        str(name): (source, index)
        for prefix, source in parts.items()
        for index, name in enumerate(image_names(source, prefix))
    }
    if missing := [name for name in names if name not in places]:
        raise _missing_image(data, missing[0])
    return [_read(*places[name]) for name in names]


def _value_range(content: FeatureFile) -> ValueRange | None:
    """Returns the pixel values that became 0 and 1 when the features were computed."""
    found = content.about.get("value_range")
    return None if found is None else ValueRange.from_json(found)


def _decode(path: str, channels: int, content: FeatureFile) -> np.ndarray:
    """Returns an image file as uint8, or as float32 in [0, 1] if the features have a value range."""
    encoded, pixels = tf.io.read_file(path), _value_range(content)
    if pixels is None:
        return decode_any(encoded, channels).numpy()
    kind = tf.as_dtype(pixels.of if pixels.of in ("uint8", "uint16") else "float32")
    return pixels(decode_any(encoded, channels, kind)).numpy()


def _read_file(name: str, roots: dict[str, str], content: FeatureFile) -> np.ndarray:
    prefix, _, rest = name.partition("/") if "" not in roots else ("", "", name)
    file = pathlib.Path(roots[prefix], rest)
    if not file.is_file():
        raise _missing_image(roots[prefix], rest)
    return _eight_bits(_decode(str(file), 3, content))


def _read(source: Source, index: int) -> np.ndarray:
    return _eight_bits(source.read(index))


def _eight_bits(image: tf.Tensor | np.ndarray) -> np.ndarray:
    return tf.image.convert_image_dtype(image, tf.uint8, saturate=True).numpy()


def _missing_image(data: str, name: str) -> ValueError:
    """Returns the error for an image that was not found."""
    return ValueError(
        "An image of the feature file was not found. If the images have moved, pass --data. "
        f"Received: {data!r}, without {name!r}"
    )
