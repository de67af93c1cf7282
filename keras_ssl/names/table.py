"""What is said of a word that stands for nothing."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def unknown(what: str, name: str, words: Iterable[str]) -> ValueError:
    """Returns the error for a word that is not in the table, with the nearest that are."""
    words = list(words)
    near = difflib.get_close_matches(name, words, n=3)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return ValueError(
        f"Unknown {what}.{hint} Expected one of: {', '.join(words)}. Received: {name!r}"
    )


def known(what: str, name: str, table: Mapping[str, Any]) -> Any:
    """Returns what a word stands for.

    Raises:
        ValueError: if the table does not have it.
    """
    if name not in table:
        raise unknown(what, name, table)
    return table[name]
