"""Checks the defaults of options without typeguard, which takes long to import."""

import contextlib
import importlib
import types
import typing
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quick_type_checks() -> Iterator[None]:
    """Lets tyro check defaults of common types without importing typeguard.

    A hack: while the context is active, it replaces a private function of tyro, which compares each
    default with its annotation. From version 1.0 on, tyro imports typeguard for types that it cannot
    check itself. `X | None` and tuples are among these, and every command has one. typeguard imports
    `unittest.mock` and asyncio. Defaults that are not certainly right are left to tyro, and so are all
    if a version of tyro lacks the function.

    Example:
        >>> with quick_type_checks():
        ...     tyro.cli(Pretrain)
    """
    resolver: Any = importlib.import_module("tyro._resolver")
    original = getattr(resolver, "is_instance", None)
    if original is None:
        yield
        return

    def is_instance(expected: Any, value: Any) -> bool:
        return is_certainly(expected, value) or original(expected, value)

    resolver.is_instance = is_instance
    try:
        yield
    finally:
        resolver.is_instance = original


def is_certainly(expected: Any, value: Any) -> bool:
    """Returns whether a value has a type; false for types that are not classes, unions or tuples.

    Args:
        expected: annotation of an option.
        value: its default.

    Example:
        >>> is_certainly(tuple[int, ...] | None, (1, 5, 10))
        True
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return any(is_certainly(member, value) for member in arguments)
    if origin is tuple and arguments[1:] == (...,):
        return isinstance(value, tuple) and all(is_certainly(arguments[0], each) for each in value)
    # The metaclass excludes protocols and typed dictionaries, for which `isinstance` is an error.
    return type(expected) is type and isinstance(value, expected)
