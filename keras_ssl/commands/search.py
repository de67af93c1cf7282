"""`keras-ssl search`: the images nearest to one, as a list and as a picture."""

import pathlib

import numpy as np
import tensorflow as tf
from rich.table import Table

from keras_ssl import cli, evaluate
from keras_ssl.commands.console import open_console
from keras_ssl.commands.export import load_encoder
from keras_ssl.data import Source
from keras_ssl.data.verify import decode
from keras_ssl.search import FeatureFile, draw_neighbours, nearest, read_features
from keras_ssl.search.embed import image_names, weights_digest
from keras_ssl.sources import opened


def run(command: cli.Search) -> int:
    """Finds the nearest images, prints their names and draws them."""
    console = open_console()
    found = read_features(command.features)
    row = _row(command.query, found)
    if row is None:
        query, features = _query(command, found)
        name = pathlib.Path(command.query).name
    else:
        features, name = found.features[row], str(found.names[row])
    neighbours = nearest(features, found.features, found.names, command.count, leave_out=row)
    rows = [neighbour.index for neighbour in neighbours]
    images = _images(command, found, rows if row is None else [row, *rows])
    if row is not None:
        query, *images = images
    table = Table("", "cosine", "image", *(["class"] if found.labels is not None else []))
    for place, neighbour in enumerate(neighbours, 1):
        own_class = [] if found.labels is None else [_class(found, neighbour.index)]
        table.add_row(str(place), f"{neighbour.similarity:.4f}", neighbour.name, *own_class)
    console.print(table)
    path = draw_neighbours(query, name, neighbours, images, command.out)
    console.print(f"Written: {path}")
    return 0


def _row(query: str, found: FeatureFile) -> int | None:
    """Returns the row of an image among the features, or `None` where the query is a file."""
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


def _query(command: cli.Search, found: FeatureFile) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image file's pixels, and its features."""
    model = command.model or found.about.get("model")
    if model is None:
        raise ValueError("An image file needs --model. Received: features that name none")
    network = load_encoder(pathlib.Path(model))
    if weights_digest(network) != found.about.get("network"):
        raise ValueError(
            "--model must be the network that the features come from. Received: "
            f"{str(model)!r}, whose weights are others"
        )
    image = decode(tf.io.read_file(command.query), network.input_shape[-1]).numpy()
    return image, evaluate.extract(network, (image[None], None)).values[0]


def _images(command: cli.Search, found: FeatureFile, rows: list[int]) -> list[np.ndarray]:
    """Returns the images of some rows, of the same data that were embedded."""
    wanted = [str(found.names[row]) for row in rows]
    roots = found.about.get("roots")
    if roots and command.data is None:
        return [_file_pixels(name, roots) for name in wanted]
    data = command.data or found.about.get("data")
    if data is None:
        raise ValueError("The features name no images. Expected: --data DATA")
    data_dir = command.data_dir or found.about.get("data_dir")
    train, test = opened(data, None if data_dir is None else pathlib.Path(data_dir))
    parts: dict[str, Source] = {"": train} if test is None else {"train": train, "test": test}
    places = {
        str(name): (source, index)
        for prefix, source in parts.items()
        for index, name in enumerate(image_names(source, prefix))
    }
    if missing := [name for name in wanted if name not in places]:
        raise _moved(data, missing[0])
    return [_pixels(*places[name]) for name in wanted]


def _file_pixels(name: str, roots: dict[str, str]) -> np.ndarray:
    prefix, _, rest = name.partition("/") if "" not in roots else ("", "", name)
    file = pathlib.Path(roots[prefix], rest)
    if not file.is_file():
        raise _moved(roots[prefix], rest)
    return decode(tf.io.read_file(str(file)), channels=3).numpy()


def _moved(data: str, name: str) -> ValueError:
    return ValueError(
        "The images of the features must be there; if they have moved, say where with --data. "
        f"Received: {data!r}, without {name!r}"
    )


def _pixels(source: Source, index: int) -> np.ndarray:
    image = source.read(index)
    return tf.image.convert_image_dtype(image, tf.uint8, saturate=True).numpy()


def _class(found: FeatureFile, row: int) -> str:
    label, names = int(found.labels[row]), found.about.get("class_names")  # type: ignore[index]
    return "" if label < 0 else str(names[label] if names else label)
