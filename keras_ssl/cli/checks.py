"""Checks of options before TensorFlow is imported, so that a mistake is reported at once."""

import difflib
import math
import os
import pathlib

from keras_ssl.presets import unknown_name
from keras_ssl.runs.paths import describe, is_run

STRATEGIES = ("auto", "none", "mirrored", "multi_worker", "tpu")
EXPORT_FILE = "saved_model.pb"


def check_data(data: str | None, option: str = "--data"):
    """Checks that data exist: a known name, or the path of something.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if no data are given.
    """
    if data is None:
        raise ValueError(f"Images are needed. Expected: {option} DATA. Received: none")
    if data == "digits" or data.startswith("tfds:") or os.path.exists(data):
        return
    near = difflib.get_close_matches(data, ["digits", "tfds:cifar10"], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise FileNotFoundError(
        f"{option} must be digits, tfds:<name>, or the path of a file or folder.{hint} "
        f"Received: {option} {data}, and there is no such file or folder"
    )


def check_model(path: pathlib.Path):
    """Checks that a directory is a run or an export.

    Raises:
        FileNotFoundError: if it does not exist, or is neither.
    """
    if not is_run(path) and not (path.expanduser() / EXPORT_FILE).is_file():
        raise FileNotFoundError(
            "The model must be a run directory, which contains config.json, or the directory of an "
            f"export, which contains {EXPORT_FILE}. Received: {str(path)!r}, {describe(path)}"
        )


def check_strategy(name: str):
    """Raises ValueError if there is no distribution strategy of this name."""
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)


def check_value_range(value_range: str | tuple[float, float]):
    """Checks that the two numbers of --value-range are finite, and the second is larger.

    Raises:
        ValueError: if they are not.
    """
    if isinstance(value_range, str):
        return
    low, high = value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            "--value-range must be full, auto, or two numbers, the lower one first. "
            f"Received: --value-range {low:g} {high:g}"
        )


def check_least(least: float, **options: float | None):
    """Checks that options are at least a number; `None` is accepted.

    Args:
        least: the smallest number allowed.
        **options: number by name of the option.

    Raises:
        ValueError: if one is smaller or not a number.

    Example:
        >>> check_least(1, batch_size=256, draws=10)
    """
    for name, value in options.items():
        if value is not None and not value >= least:
            raise ValueError(
                f"--{name.replace('_', '-')} must be at least {least}. Received: {value}"
            )
