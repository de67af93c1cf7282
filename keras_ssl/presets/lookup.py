"""Looks up command-line names, with error messages that suggest the nearest ones."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(what: str, name: str, table: Mapping[str, T]) -> T:
    """Returns the entry of a table; see `spell` for how its names are matched.

    Args:
        what: kind of thing, for the error message, such as "method".
        name: key to look up.
        table: all entries by name.

    Raises:
        ValueError: if the table has no such name.
    """
    return table[spell(what, name, table)]


def spell(what: str, name: str, names: Iterable[str]) -> str:
    """Returns a name as the list of all names spells it. Case, dashes and underscores do not matter.

    Args:
        what: kind of thing, for the error message, such as "method".
        name: name to find.
        names: all names. Two of them may differ in case only, such as "resnet50" of this package and
            "ResNet50" of `keras.applications`: then only the exact spelling is accepted.

    Raises:
        ValueError: if there is no such name, or no exact match and more than one other.

    Example:
        >>> spell("precision", "Mixed-BFloat16", ["float32", "mixed_bfloat16"])
        'mixed_bfloat16'
    """
    names = list(names)
    if name in names:
        return name
    matches = [each for each in names if _simplify(each) == _simplify(name)]
    if len(matches) != 1:
        raise unknown_name(what, name, names)
    return matches[0]


def unknown_name(what: str, name: str, names: Iterable[str]) -> ValueError:
    """Returns the error for an unknown name. It lists all names, the nearest ones first."""
    names = list(names)
    simple = {_simplify(each): each for each in names}
    near = [simple[each] for each in difflib.get_close_matches(_simplify(name), simple, n=3)]
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return ValueError(
        f"Unknown {what}.{hint} Expected one of: {', '.join(names)}. Received: {name!r}"
    )


def _simplify(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
