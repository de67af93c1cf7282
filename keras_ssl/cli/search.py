"""`keras-ssl search`: finds the images nearest to one, as a list and as a picture."""

import pathlib
from dataclasses import dataclass

import tyro

from keras_ssl.cli.checks import check_data, check_least, check_model
from keras_ssl.cli.export import load_encoder


@dataclass(frozen=True)
class Search:
    """Find the images nearest to one, and draw them."""

    features: tyro.conf.Positional[pathlib.Path]
    """File that `keras-ssl embed` wrote."""
    query: str
    """An image file; or the number or name of an image among the features."""
    model: pathlib.Path | None = None
    """Run directory or export that computes the features of an image file. Default: the
    one that computed the features."""
    data: str | None = None
    """The images of the features, if they have moved."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets, if it has moved."""
    out: pathlib.Path = pathlib.Path("neighbours.png")
    """Picture to write."""
    count: int = 10
    """Number of neighbors."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        if not self.features.is_file():
            raise FileNotFoundError(
                "The feature file must be one that `keras-ssl embed` wrote. "
                f"Received: {str(self.features)!r}, and there is no such file"
            )
        check_least(1, count=self.count)
        if self.model is not None:
            check_model(self.model)
        if self.data is not None:
            check_data(self.data)

    def execute(self) -> int:
        """Prints the names of the nearest images and draws them; returns the exit status."""
        from rich.table import Table

        from keras_ssl.runs.console import open_console
        from keras_ssl.search import draw_neighbours, nearest, read_features
        from keras_ssl.search.images import find_row, read_images, read_query

        console = open_console()
        found = read_features(self.features)
        row = find_row(self.query, found)
        if row is None:
            model = self.model or found.about.get("model")
            if model is None:
                raise ValueError("An image file needs --model. Received: features without a model")
            query, features = read_query(self.query, found, load_encoder(pathlib.Path(model)))
            name = pathlib.Path(self.query).name
        else:
            features, name = found.features[row], str(found.names[row])
        neighbours = nearest(features, found.features, found.names, self.count, leave_out=row)
        rows = [neighbour.index for neighbour in neighbours]
        rows = rows if row is None else [row, *rows]
        images = read_images(found, rows, self.data, self.data_dir)
        if row is not None:
            query, *images = images
        table = Table("", "cosine", "image", *(["class"] if found.labels is not None else []))
        for place, neighbour in enumerate(neighbours, 1):
            class_cell = [] if found.labels is None else [found.class_name(neighbour.index)]
            table.add_row(str(place), f"{neighbour.similarity:.4f}", neighbour.name, *class_cell)
        console.print(table)
        path = draw_neighbours(query, name, neighbours, images, self.out)
        console.print(f"Written: {path}")
        return 0
