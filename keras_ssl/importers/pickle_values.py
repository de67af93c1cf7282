"""What a pickle may hold: the objects that `safe_pickle` makes, and how it makes arrays."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_KEYS = (str, int, float, bool, bytes, type(None))  # their hashes cannot recurse
_LONGEST_SHOWN = 80
_DTYPE = re.compile(r"[<|=]?(b1|[iu][1248]|f[248])|bool")

Constructor = Callable[..., Any]


@dataclass(frozen=True)
class Global:
    """A name that a pickle refers to, such as "torch.FloatStorage". Nothing was imported."""

    name: str


@dataclass
class Record:
    """What a pickle wanted to make by calling something unknown. Nothing was called.

    Attributes:
        name: module and name of what was to be called.
        args: what it was to be called with.
        state: what was to be set afterwards.
        items: what was to be appended or, as pairs, to be set.
    """

    name: str
    args: tuple = ()
    state: Any = None
    items: list = field(default_factory=list)


class PendingArray:
    """An array that was announced and has no content yet."""

    def __init__(self) -> None:
        self.memo_keys: list[int] = []


def kind_of(value: Any) -> str:
    """Returns what a value is, for messages: short, whatever the file holds."""
    if isinstance(value, (Global, Record)):
        return value.name[:_LONGEST_SHOWN]
    if isinstance(value, str):
        return repr(value[:_LONGEST_SHOWN])
    # A list may hold itself many times over: its text can be larger than any memory.
    return f"a value of type {type(value).__name__}"


def checked_key(key: Any) -> Any:
    """Returns the key of a dictionary or set; raises ValueError if it is no text and no number."""
    if not isinstance(key, _KEYS):
        raise ValueError(f"a key must be text or a number, not {kind_of(key)}")
    return key


def _ordered_dict(pairs: Iterable = ()) -> OrderedDict:
    return OrderedDict((checked_key(key), value) for key, value in pairs)


def _dtype(text: Any, align: Any = False, copy: Any = True) -> np.dtype:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise ValueError(f"arrays must hold little-endian numbers, not {kind_of(text)}")
    return np.dtype(text)


def check_byte_order(order: Any) -> None:
    """Raises ValueError for the numbers of big-endian machines."""
    if order not in ("<", "|", "="):
        raise ValueError(f"arrays must be little-endian, not of byte order {kind_of(order)}")


def _pending_array(*_: Any) -> PendingArray:
    return PendingArray()  # whatever the shape: its content comes with its state


def array_of(shape: Any, dtype: Any, is_fortran: Any, content: Any) -> np.ndarray:
    """Returns the array of the state that NumPy pickles."""
    return _from_buffer(content, dtype, shape, "F" if is_fortran else "C")


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, np.dtype) or not isinstance(content, (bytes, bytearray)):
        raise ValueError(f"an array must hold plain numbers, not {kind_of(content)}")
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

# What is made for running commands, and stands in no file of weights. Nothing else that is unknown is
# called either; of these, the reader should hear.
ATTACKS = re.compile(
    r"(os|posix|nt|subprocess|sys|shutil|socket|runpy|importlib|ctypes|pty|code|webbrowser|pickle"
    r"|_pickle|io|_io|marshal|timeit|pdb|bdb|cProfile|profile|pip|asyncio|multiprocessing)\..+"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|file|getattr|setattr|delattr|apply"
    r"|__import__|input|breakpoint|globals|vars|exit|quit)"
    r"|(operator|_operator)\.(attrgetter|methodcaller)|types\.(Function|Code|Method)Type|functools\.(partial|reduce)"
)

# Instructions whose argument is a value, and those that make a new one.
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
