"""Progress bars, and where they can be drawn."""

import importlib.util
from collections.abc import Iterable
from typing import TypeVar

import rich
from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def can_draw(console: Console | None = None) -> bool:
    """Returns whether rich can draw a bar. In a notebook it needs ipywidgets, and warns without.

    Args:
        console: where to draw; by default rich's global console.
    """
    console = console or rich.get_console()
    return not console.is_jupyter or importlib.util.find_spec("ipywidgets") is not None


def with_bar(
    items: Iterable[Item], title: str, show: bool, total: int | None = None
) -> Iterable[Item]:
    """Returns the items, and shows how many have been taken in a bar that vanishes at the end.

    Args:
        items: anything that can be iterated.
        title: text before the bar.
        show: whether to show it. Files and pipes never get a bar.
        total: number of items, if they have no length; `None` if unknown.
    """
    console = rich.get_console()
    drawn = show and (console.is_terminal or console.is_jupyter) and can_draw(console)
    return track(items, title, total, transient=True, disable=not drawn)
