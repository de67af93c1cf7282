"""The file `history.jsonl` of a run: one line per epoch."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from keras_ssl.runs.json_files import write_atomically


def read_history(file: pathlib.Path) -> list[dict[str, float]]:
    """Returns the values of each finished epoch, in order; empty if there is no file."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def write_epoch(file: pathlib.Path, epoch: int, values: Mapping[str, Any]):
    """Adds the line of an epoch, and removes those of this and later epochs.

    Args:
        file: the file; it need not exist yet.
        epoch: number of the epoch, counted from 1.
        values: name -> number.
    """
    earlier = [line for line in read_history(file) if line["epoch"] < epoch]
    own = {"epoch": epoch, **{name: float(value) for name, value in values.items()}}
    lines = [json.dumps(line) + "\n" for line in (*earlier, own)]
    write_atomically(file, "".join(lines))


class HistoryFile(keras.callbacks.Callback):
    """Writes the values of each epoch to the `history.jsonl` of a run.

    Args:
        run: `Run` of the run directory.
        names: names of values in the file, by their names in `fit`, where they differ.
    """

    def __init__(self, run: Any, names: Mapping[str, str] | None = None):
        super().__init__()
        self.run = run
        self.names = dict(names or {})

    def on_epoch_end(self, epoch, logs=None):
        """Writes the line of the epoch."""
        values = {self.names.get(name, name): value for name, value in (logs or {}).items()}
        self.run.add_epoch(epoch + 1, values)
