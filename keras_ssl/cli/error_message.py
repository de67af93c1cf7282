"""The message of an error that a user can cause."""

import re
import sys
import zipfile

# RuntimeError: an export that differs from its network, or a device out of memory.
_USER_ERRORS = (
    ValueError,
    TypeError,
    OSError,
    ImportError,
    FloatingPointError,
    RuntimeError,
    MemoryError,
    EOFError,
    zipfile.BadZipFile,
)
_BUGS = (NotImplementedError, RecursionError)  # subclasses of RuntimeError
# Lines of TensorFlow's messages that say where in the program an operation is.
_PLACES = ("Graph execution error", "Detected at node", "Stack trace", "<stack", "[[", "File ")
_WITHIN = re.compile(r"\{\{.*?\}\}\s*|\s*\[Op:\w+\]")  # the names of nodes within a line
_LINES = 3


def describe_error(error: Exception) -> str | None:
    """Returns the message to print for an error; `None` if it is an error of this program.

    Errors of TensorFlow's operations, such as a full disk or too little memory, are shortened to what
    happened, and an error without a message gets the name of its type.

    Example:
        >>> describe_error(ValueError("`epochs` must be at least 1. Received: epochs=0"))
        '`epochs` must be at least 1. Received: epochs=0'
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
        lines = [_WITHIN.sub("", line).strip() for line in str(error.message).splitlines()]
        said = [line for line in lines if line and not line.startswith(_PLACES)]
        return f"TensorFlow: {type(error).__name__}: {' '.join(said[:_LINES])}"
    if isinstance(error, _BUGS) or not isinstance(error, _USER_ERRORS):
        return None
    if isinstance(error, MemoryError):
        return f"There is not enough memory. {error}".rstrip()
    return str(error) or type(error).__name__
