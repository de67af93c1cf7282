"""The console of commands and runs."""

import logging

from rich.console import Console
from rich.logging import RichHandler


def describe_stop(step: int, command: str, call: str | None = None) -> str:
    """Returns what to print after a signal has stopped a run.

    Args:
        step: number of training steps taken; 0 if there is no checkpoint yet.
        command: command line that continues the run.
        call: Python call that continues it, if there is one.
    """
    if call is not None:
        command = f"{command}\n  {call}  # in Python"
    if step == 0:
        return (
            f"Stopped before the first step; there was nothing to save yet. To start:\n  {command}"
        )
    return f"Stopped after step {step}; everything is saved. To continue:\n  {command}"


def open_console(quiet: bool = False) -> Console:
    """Returns a console, and sends the log of the package to it.

    Args:
        quiet: print nothing. For all workers but the first.
    """
    # File names must not be read as markup, and lines to copy must not be wrapped.
    console = Console(markup=False, highlight=False, soft_wrap=True, quiet=quiet)
    handler: logging.Handler = logging.StreamHandler(console.file)
    if console.is_terminal:  # progress bars have to make room for messages
        handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.getLogger("keras_ssl").handlers = [handler]
    return console
