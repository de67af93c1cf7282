"""Exports the models of a folder again, with their own weights and the current version.

    python -m keras_ssl.zoo.export_again saved_models

New versions add functions and metadata to exports. The index of the folder is written too.
"""

import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

from keras_ssl import export
from keras_ssl.zoo.index import find_exports, index


def export_again(
    folder: str | os.PathLike, class_names: Mapping[str, Sequence[str]] | None = None
) -> pathlib.Path:
    """Exports every model in a folder again, and writes the index.

    Weights, metrics, recipe and preprocessing stay. Each new export replaces the old one only after
    its outputs were compared with those of the network; see `keras_ssl.export.saved_model`.

    Args:
        folder: contains one directory per export, and the index.json with their texts.
        class_names: name of an export -> names of its classes, for classifiers whose export has none.

    Returns:
        The index file.

    Raises:
        FileNotFoundError: if the folder has no exported model.
        ValueError: if a file differs from its manifest, a model has no texts in the index, or
            `class_names` has another model.

    Example:
        >>> export_again("saved_models").name
        'index.json'
    """
    models = find_exports(folder)
    given = dict(class_names or {})
    if unknown := given.keys() - models.keys():
        raise ValueError(
            f"`class_names` must be for models in the folder: {', '.join(models)}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    index(folder)  # raises errors before anything is replaced
    for name, path in models.items():
        network = export.load(path)
        metrics, recipe, preprocessing = (
            json.loads((path / f"{document}.json").read_text(encoding="utf-8"))
            for document in ("metrics", "recipe", "preprocessing")
        )
        known = preprocessing.pop("class_names", None)
        export.saved_model(
            network,
            path,
            metrics=metrics,
            recipe=recipe,
            preprocessing=preprocessing,
            overwrite=True,
            class_names=given.get(name, known),
        )
    return index(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Expected: python -m keras_ssl.zoo.export_again FOLDER")
    print(export_again(sys.argv[1]))
