"""Moves repeats of a test to the large tier."""

from collections.abc import Iterable
from typing import Any

import pytest

_Param = type(pytest.param())


def rest_large(values: Iterable[Any], keep: int = 1) -> list[Any]:
    """Returns the values of a parametrization, of which all but the first `keep` are large tests.

    A `pytest.param` keeps its own marks.
    """
    values = list(values)
    return values[:keep] + [
        value
        if isinstance(value, _Param)
        else pytest.param(*_tuple(value), marks=pytest.mark.large)
        for value in values[keep:]
    ]


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
