"""The command line, one file per command.

Commands import TensorFlow when they run, so that `--help` is fast.
"""

from keras_ssl.cli.program import main

__all__ = ["main"]
