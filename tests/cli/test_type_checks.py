"""The check of defaults that replaces typeguard."""

import pathlib
from typing import Literal, Protocol

import pytest
import typeguard
from tyro import _resolver

from keras_ssl.cli.type_checks import is_certainly, quick_type_checks


class Named(Protocol):
    name: str


RIGHT = [
    (str | None, None),
    (pathlib.Path | None, pathlib.Path("runs")),
    (int | str | None, "all"),
    (tuple[int, ...], (1, 5, 10)),
    (tuple[float, ...] | None, (0.01, 0.1)),
    (bool, True),
]
WRONG = [
    (str | None, 1),
    (pathlib.Path | None, "runs"),
    (tuple[int, ...], ("1", 5)),
    (tuple[int, ...], [1, 5]),
    (tuple[int, ...] | None, 5),
]


@pytest.mark.parametrize(("expected", "value"), RIGHT)
def test_right_values_are_those_of_typeguard(expected, value):
    typeguard.check_type(value, expected)
    assert is_certainly(expected, value)


@pytest.mark.parametrize(("expected", "value"), WRONG)
def test_wrong_values_are_those_of_typeguard(expected, value):
    with pytest.raises(typeguard.TypeCheckError):
        typeguard.check_type(value, expected)
    assert not is_certainly(expected, value)


def test_other_types_are_left_to_tyro(monkeypatch):
    asked = []
    monkeypatch.setattr(_resolver, "is_instance", lambda *pair: not asked.append(pair))
    others = [
        (Literal["a"], "a"),
        (dict[str, int], {"a": 1}),
        (Named, 1),
        (tuple[int, int], (1, 2)),
    ]
    with quick_type_checks():
        assert all(_resolver.is_instance(*pair) for pair in [*RIGHT, *others])
    assert asked == others


def test_the_function_of_tyro_returns_after_an_error():
    original = _resolver.is_instance
    with pytest.raises(SystemExit), quick_type_checks():
        raise SystemExit(0)
    assert _resolver.is_instance is original
