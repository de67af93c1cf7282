"""Checks the Python types of options against their annotations."""

import os
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

_EXPECTED = {int: "an integer", float: "a number", str: "a string", bool: "True or False"}


class _WrongTypeError(Exception):
    pass


def convert_options(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options whose types are right, with NumPy numbers as Python numbers.

    The result can be written as JSON. Fields with other annotations than numbers, strings, paths and
    tuples of these are not checked.

    Args:
        kind: dataclass whose annotations are the expected types.
        values: some of its fields by name.

    Raises:
        TypeError: if an option has another type.

    Example:
        >>> convert_options(keras_ssl.presets.SimCLR, {"epochs": np.int64(2)})
        {'epochs': 2}
    """
    hints = typing.get_type_hints(kind)
    return {name: convert_option(name, value, hints[name]) for name, value in values.items()}


def convert_option(name: str, value: Any, expected: Any) -> Any:
    """Returns one option as its type; see `convert_options`.

    Args:
        name: name of the option, for the error message.
        value: what was given.
        expected: annotation of the option.

    Raises:
        TypeError: if the value has another type.
    """
    try:
        return _convert(value, expected)
    except _WrongTypeError:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        hint = ""
        if name == "backbone":
            hint = " Train a network of your own with a class of `keras_ssl.methods` and its `fit`."
        raise TypeError(
            f"`{name}` must be {_describe(expected)}.{hint} "
            f"Received: {name}={shown} of type {type(value).__name__}"
        ) from None


def _convert(value: Any, expected: Any) -> Any:
    members = _members(expected)
    if members:
        for member in members:
            try:
                return _convert(value, member)
            except _WrongTypeError:
                continue
        raise _WrongTypeError
    if hasattr(value, "tolist") and hasattr(
        value, "dtype"
    ):  # NumPy, which is not imported for this
        value = value.tolist()
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple:
        return _convert_tuple(value, arguments)
    if origin is Literal:
        right = value in arguments
    elif expected is type(None):
        right = value is None
    elif expected is float:
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif expected is int:
        right = isinstance(value, int) and not isinstance(value, bool)
    elif expected in (str, bool):
        right = isinstance(value, expected)
    elif expected is pathlib.Path:
        right = isinstance(value, (str, os.PathLike))
    else:
        right = True  # of a preset that has options of its own kinds
    if not right:
        raise _WrongTypeError
    return value


def _convert_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list, range)):
        raise _WrongTypeError
    if arguments[-1] is ...:
        arguments = arguments[:1] * len(value)
    if len(arguments) != len(value):
        raise _WrongTypeError
    return tuple(_convert(each, kind) for each, kind in zip(value, arguments, strict=True))


def _members(expected: Any) -> tuple[Any, ...]:
    """Returns the types of a union; empty for other types."""
    is_union = typing.get_origin(expected) in (typing.Union, types.UnionType)
    return typing.get_args(expected) if is_union else ()


def _describe(expected: Any) -> str:
    if members := _members(expected):
        return " or ".join(_describe(member) for member in members)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple:
        kinds = "integers" if arguments[0] is int else "values"
        return f"a sequence of {kinds if arguments[-1] is ... else f'{len(arguments)} {kinds}'}"
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if expected is type(None):
        return "None"
    return _EXPECTED.get(expected, "a path" if expected is pathlib.Path else str(expected))
