"""Functions in Python within data pipelines that do not keep a program from ending.

When a program ends, Python lets no other thread run any more. A pipeline that is still in use waits
for its running functions, which wait for Python: the program would never end. Before that, this module
lets all calls finish at once.
"""

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_QUIET = 0.2  # seconds without a call after which the buffers of all pipelines are full
_LONGEST = 10.0  # seconds to wait for them


class _Calls:
    """Counts the running calls of this process."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = 0
        self.changed = 0.0  # time of the last start or end of a call
        self.is_ending = False

    def add(self, count: int):
        with self.lock:
            self.running += count
            self.changed = time.monotonic()

    def finish(self):
        """Waits until no pipeline calls a function any more. Nobody takes what they return."""
        self.is_ending = True
        latest = time.monotonic() + _LONGEST
        while self.changed and time.monotonic() < latest:
            with self.lock:
                if not self.running and time.monotonic() - self.changed > _QUIET:
                    return
            time.sleep(_QUIET / 10)


_CALLS = _Calls()
atexit.register(_CALLS.finish)


def python_function(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    dtype: tf.DType,
    at_exit: np.ndarray | np.generic,
) -> tf.Tensor:
    """Does the same as `tf.numpy_function`, and does not keep a program from ending.

    Args:
        function: takes NumPy values.
        inputs: tensors.
        dtype: type of the result.
        at_exit: what is returned instead once the program ends, of the type and, if it is fixed, the
            shape of the result.

    Example:
        >>> python_function(lambda a: a + 1, [tf.constant(2)], tf.int32, np.int32(0)).numpy()
        3
    """

    def call(*values):
        _CALLS.add(1)
        try:
            return at_exit if _CALLS.is_ending else function(*values)
        finally:
            _CALLS.add(-1)

    return tf.numpy_function(call, inputs, dtype)
