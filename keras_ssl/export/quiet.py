"""Keeps TensorFlow's own messages out of an export, and out of the log afterwards."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

import tensorflow as tf

# Lines of native libraries below errors: LiteRT's runtime, its quantizer, TensorFlow's C++ log.
_NOISE = re.compile(rb"INFO: |fully_quantize: |[IW]\d{4} ")
_STDERR = 2  # the file descriptor, which native code writes to


@contextlib.contextmanager
def quiet_saving() -> Iterator[None]:
    """Leaves the handlers of the root logger as they are, and hides messages below warnings.

    `tf.saved_model.save` logs through absl, which gives a root logger without handlers one of its own.
    Without this, every later message of any package with a handler would appear twice. TensorFlow's
    message "Assets written to" names a temporary directory, which is moved afterwards.

    Example:
        >>> with quiet_saving():
        ...     tf.saved_model.save(tf.Module(), "module")
    """
    placeholder, log = logging.NullHandler(), tf.get_logger()
    level = log.level
    logging.root.addHandler(placeholder)  # absl adds its handler only if there is none
    log.setLevel(max(log.getEffectiveLevel(), logging.WARNING))
    try:
        yield
    finally:
        log.setLevel(level)
        logging.root.removeHandler(placeholder)


@contextlib.contextmanager
def quiet_conversion() -> Iterator[None]:
    """As `quiet_saving`, and also hides the messages that native libraries print below errors.

    Converters and runtimes print to the standard error of the process, and have no option to print
    less. All other lines are printed when the block ends.

    Example:
        >>> with quiet_conversion():
        ...     os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
        56
    """
    if sys.stderr is None:  # the process was started without one
        with quiet_saving():
            yield
        return
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    with quiet_saving(), tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, _STDERR)
            os.close(kept)
            messages.seek(0)
            lines = [line for line in messages if not _NOISE.match(line)]
            os.write(_STDERR, b"".join(lines))
