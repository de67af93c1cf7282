"""Help texts of options without the line breaks of the source code."""

import contextlib
import importlib
import re
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def joined_lines() -> Iterator[None]:
    """Lets tyro fill the lines of help texts to the width of the terminal.

    A hack: while the context is active, it replaces a private function of tyro, which keeps the line
    breaks of a docstring whose lines are indented, as those of all options here are. The text would
    be broken twice. If a version of tyro lacks the function, the texts are shown as tyro makes them.

    Example:
        >>> with joined_lines():
        ...     tyro.cli(Pretrain)
    """
    strings: Any = importlib.import_module("tyro._strings")
    original = getattr(strings, "remove_single_line_breaks", None)
    if original is None:
        yield
        return
    strings.remove_single_line_breaks = join_lines
    try:
        yield
    finally:
        strings.remove_single_line_breaks = original


def join_lines(text: str) -> str:
    """Joins the lines of each paragraph; an empty line, and a line that starts with "- ", begin one.

    Example:
        >>> join_lines("One\\n    paragraph.\\n\\n- An\\n  item")
        'One paragraph.\\n\\n- An item'
    """
    paragraphs = [""]
    for line in map(str.strip, text.strip().split("\n")):
        if not line:
            paragraphs += ["", ""]
        elif line.startswith("- "):
            paragraphs.append(line)
        else:
            paragraphs[-1] = f"{paragraphs[-1]} {line}".strip()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(paragraphs)).strip()
