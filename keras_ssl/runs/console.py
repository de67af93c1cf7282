"""Where commands print, and what they say of images that they had to skip."""

import logging

from rich.console import Console
from rich.logging import RichHandler

from keras_ssl.data import Source


def open_console(quiet: bool = False) -> Console:
    """Returns the console, and lets the log of the package appear there.

    Args:
        quiet: print nothing, as workers beside the first.
    """
    # Names of files are no markup, and a line to copy must not be broken.
    console = Console(markup=False, highlight=False, soft_wrap=True, quiet=quiet)
    handler: logging.Handler = logging.StreamHandler(console.file)
    if console.is_terminal:  # where progress bars have to make room for messages
        handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.getLogger("keras_ssl").handlers = [handler]
    return console


def report_skipped(console: Console, *sources: Source | None):
    """Says how many unreadable files there were; each was named when it was met."""
    skipped = {file for source in sources if source is not None for file in source.skipped}
    if skipped:
        console.print(f"Skipped: {len(skipped)} unreadable image files, named above.")
