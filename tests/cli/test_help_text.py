"""Help texts are filled to the width of the terminal."""

import itertools

import pytest
from tyro import _strings

from keras_ssl.cli.help_text import join_lines, joined_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One\n    paragraph.", "One paragraph."),
        ("One.\n\n    Two\n    lines.", "One.\n\nTwo lines."),
        ("Items:\n\n    - one\n      item\n    - two\n", "Items:\n\n- one item\n- two"),
        ("", ""),
    ],
)
def test_lines_of_a_paragraph_are_joined(text, expected):
    assert join_lines(text) == expected


def test_the_function_of_tyro_is_restored():
    before = _strings.remove_single_line_breaks
    with joined_lines():
        assert _strings.remove_single_line_breaks is join_lines
    assert _strings.remove_single_line_breaks is before


def test_another_tyro_shows_its_own_texts(monkeypatch):
    monkeypatch.delattr(_strings, "remove_single_line_breaks")
    with joined_lines():
        assert not hasattr(_strings, "remove_single_line_breaks")


def test_a_help_text_fills_the_line(capsys, monkeypatch):
    from keras_ssl.cli.program import parse

    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse(["evaluate", "--help"])
    lines = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    # A line is much shorter than the column only at the end of a text.
    pairs = itertools.pairwise(lines)
    assert [one for one, after in pairs if 0 < len(one) < 20 and after[:1].islower()] == []
