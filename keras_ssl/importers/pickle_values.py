"""Values that `safe_pickle` creates from a pickle, and the functions that create them."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_KEYS = (str, int, float, bool, bytes, type(None))  # types whose hash cannot recurse
_MAX_SHOWN = 80
_DTYPE = re.compile(r"[<|=]?(b1|[iu][1248]|f[248])|bool")

Constructor = Callable[..., Any]


@dataclass(frozen=True)
class Global:
    """A name that a pickle refers to, such as "torch.FloatStorage". It was not imported."""

    name: str


@dataclass
class Record:
    """A call to an unknown function in a pickle. The function was not called.

    Attributes:
        name: module and name of the function.
        args: positional arguments of the call.
        state: state to set on the result.
        items: items to append to the result, or pairs of key and value to set.
    """

    name: str
    args: tuple = ()
    state: Any = None
    items: list = field(default_factory=list)


class PendingArray:
    """An array that was declared and has no content yet."""

    def __init__(self) -> None:
        self.memo_keys: list[int] = []


def describe(value: Any) -> str:
    """Returns a short description of a value for messages, however large the value is."""
    if isinstance(value, (Global, Record)):
        return value.name[:_MAX_SHOWN]
    if isinstance(value, str):
        return repr(value[:_MAX_SHOWN])
    # Not the text of the value: a list that contains itself repeatedly could exceed the memory.
    return f"a value of type {type(value).__name__}"


def check_key(key: Any) -> Any:
    """Returns a key of a dictionary or set; raises ValueError unless it is text or a number."""
    if not isinstance(key, _KEYS):
        raise ValueError(f"a key must be text or a number, not {describe(key)}")
    return key


def _ordered_dict(pairs: Iterable = ()) -> OrderedDict:
    return OrderedDict((check_key(key), value) for key, value in pairs)


def _dtype(text: Any, align: Any = False, copy: Any = True) -> np.dtype:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise ValueError(f"arrays must contain little-endian numbers, not {describe(text)}")
    return np.dtype(text)


def check_byte_order(order: Any) -> None:
    """Raises ValueError for big-endian numbers."""
    if order not in ("<", "|", "="):
        raise ValueError(f"arrays must be little-endian, not of byte order {describe(order)}")


def _pending_array(*_: Any) -> PendingArray:
    return PendingArray()  # the state, which follows, has shape and content


def make_array(shape: Any, dtype: Any, is_fortran: Any, content: Any) -> np.ndarray:
    """Returns the array that a state pickled by NumPy describes."""
    return _from_buffer(content, dtype, shape, "F" if is_fortran else "C")


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, np.dtype) or not isinstance(content, (bytes, bytearray)):
        raise ValueError(f"an array must contain plain numbers, not {describe(content)}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, content: Any) -> Any:
    return _from_buffer(content, dtype, ())[()]


_NUMPY: dict[str, Constructor] = {
    "multiarray._reconstruct": _pending_array,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}
CONSTRUCTORS: dict[str, Constructor] = {
    "collections.OrderedDict": _ordered_dict,
    "numpy.dtype": _dtype,
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")  # before and since NumPy 2
        for name, function in _NUMPY.items()
    },
}

# Functions that attacks use and weights never need. Other unknown functions are not called either, but
# only these are an error.
ATTACKS = re.compile(
    r"(os|posix|nt|subprocess|sys|shutil|socket|runpy|importlib|ctypes|pty|code|webbrowser|pickle"
    r"|_pickle|io|_io|marshal|timeit|pdb|bdb|cProfile|profile|pip|asyncio|multiprocessing)\..+"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|file|getattr|setattr|delattr|apply"
    r"|__import__|input|breakpoint|globals|vars|exit|quit)"
    r"|(operator|_operator)\.(attrgetter|methodcaller)|types\.(Function|Code|Method)Type|functools\.(partial|reduce)"
)

# Instructions whose argument is a value, and instructions that create a new value.
LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    ]
)
NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
