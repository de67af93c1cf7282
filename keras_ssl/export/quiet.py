"""Keeps TensorFlow's own messages out of an export, and out of the log afterwards."""

import contextlib
import logging
from collections.abc import Iterator

import tensorflow as tf


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
