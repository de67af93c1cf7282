"""Looks up command-line names, with error messages that suggest the nearest ones."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(what: str, name: str, table: Mapping[str, T]) -> T:
    """Returns the entry of a table.

    Args:
        what: kind of thing, for the error message, such as "method".
        name: key to look up.
        table: all entries by name.

    Raises:
        ValueError: if the table has no such name.
    """
    if name not in table:
        raise unknown_name(what, name, table)
    return table[name]


def unknown_name(what: str, name: str, names: Iterable[str]) -> ValueError:
    """Returns the error for an unknown name. It lists all names, the nearest ones first."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return ValueError(
        f"Unknown {what}.{hint} Expected one of: {', '.join(names)}. Received: {name!r}"
    )
