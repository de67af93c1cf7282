"""Reads pickles as data, without running code in them.

A pickle is a program. Python's unpickler imports and calls the functions that it names, so a file of
weights can run any command. Here, `pickletools` only decodes the instructions. A small stack machine
executes them; see `pickle_machine`.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from keras_ssl.importers.bounded_file import BoundedFile, find_file, limit_reads
from keras_ssl.importers.pickle_machine import execute
from keras_ssl.importers.pickle_values import CONSTRUCTORS, Constructor


def read_pickle(path: str | os.PathLike) -> Any:
    """Reads a pickle without running code in it.

    Args:
        path: the file.

    Returns:
        Numbers, text, lists, tuples, dictionaries and NumPy arrays. Any other object becomes a
        `Record` with its name and arguments; a name of a class or function becomes a `Global`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a pickle, is truncated, contains more than data, or contains an
            attack such as a call of `os.system`.

    Example:
        >>> import pickle
        >>> _ = pathlib.Path("weights.pkl").write_bytes(pickle.dumps({"kernel": np.ones(3)}))
        >>> read_pickle("weights.pkl")["kernel"]
        array([1., 1., 1.])
    """
    path = find_file(path)
    with path.open("rb") as file:
        return load(limit_reads(file), origin=str(path))


def load(
    file: BoundedFile,
    origin: str,
    constructors: Mapping[str, Constructor] | None = None,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle, from the current position of a file, without running code in it.

    Args:
        file: the file.
        origin: name of the file, for messages.
        constructors: further functions that the pickle may call, by full name. Those that
            reconstruct NumPy arrays are always allowed.
        persistent_load: function from a persistent id of the pickle to an object.

    Raises:
        ValueError: if the bytes are not a pickle, or contain more than data.
    """
    try:
        return execute(file, {**CONSTRUCTORS, **(constructors or {})}, persistent_load)
    except RecursionError as error:
        raise _refused(origin, f"its parts are nested too deeply ({error})") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise _refused(origin, error) from error


def _refused(origin: str, reason: object) -> ValueError:
    return ValueError(f"{origin} cannot be read as a pickle of plain data: {reason}")
