"""Where progress bars can be drawn."""

import importlib.util

import rich
from rich.console import Console


def can_draw(console: Console | None = None) -> bool:
    """Returns whether rich can draw a bar. In a notebook it needs ipywidgets, and warns without.

    Args:
        console: where to draw; by default rich's global console.
    """
    console = console or rich.get_console()
    return not console.is_jupyter or importlib.util.find_spec("ipywidgets") is not None
