"""The value range of the images of an export."""

import json
import os
import pathlib

from keras_ssl.data.value_range import ValueRange


def read_value_range(path: str | os.PathLike) -> ValueRange | None:
    """Returns the pixel values that an export scales to [0, 1]; `None` for the range of the type.

    Args:
        path: directory that `keras_ssl.export.saved_model` wrote.

    Example:
        >>> print(read_value_range("runs/microscope/export"))
        0 to 4095
    """
    file = pathlib.Path(path).expanduser() / "preprocessing.json"
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf-8")).get("value_range")
    return None if found is None else ValueRange.from_json(found)
