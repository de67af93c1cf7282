"""Pickles as data: what a file says is read and interpreted here, and nothing in it is ever called.

A pickle is a program. Python's own unpickler imports whatever it names and calls it, so that a file of
weights can run any command. Here `pickletools` only decodes the instructions; a small stack machine
carries them out, and knows no way to import or to call anything but the few constructors below.
"""

import os
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from keras_ssl.importers.bounded_file import Bounded, bounded, existing_file
from keras_ssl.importers.pickle_values import (
    ATTACKS,
    CONSTRUCTORS,
    LITERALS,
    NEW,
    Constructor,
    Global,
    PendingArray,
    Record,
    array_of,
    check_byte_order,
    checked_key,
    kind_of,
)

# A published network has some hundred thousand instructions (ResNet-200: its weights, moving averages
# and momenta). The limit bounds what the smallest instructions, one byte each, can allocate.
_MOST_INSTRUCTIONS = 1_000_000
_MOST_GLOBALS = 1000


def read_pickle(path: str | os.PathLike) -> Any:
    """Reads a pickle without running anything; see `load`.

    Args:
        path: the file.

    Returns:
        Numbers, text, lists, tuples, dictionaries and NumPy arrays as they are; everything else as a
        `Record`, or as a `Global` where a name is only mentioned.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a pickle, is cut off, wants more than data, or holds an attack
            such as a call of `os.system`.

    Example:
        >>> import pickle
        >>> _ = pathlib.Path("weights.pkl").write_bytes(pickle.dumps({"kernel": np.ones(3)}))
        >>> read_pickle("weights.pkl")["kernel"]
        array([1., 1., 1.])
    """
    path = existing_file(path)
    with path.open("rb") as file:
        return load(bounded(file), what=str(path))


def load(
    file: Bounded,
    what: str,
    constructors: Mapping[str, Constructor] | None = None,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Carries out one pickle, from the file's position to its end, without running anything.

    Args:
        file: where to read.
        what: what is read, for messages.
        constructors: what may be called besides NumPy's reconstruction of arrays, by full name.
        persistent_load: turns what the pickle calls a persistent id into an object.

    Raises:
        ValueError: if the bytes are not a pickle, or want more than data.
    """
    machine = _Machine({**CONSTRUCTORS, **(constructors or {})}, persistent_load)
    try:
        return machine.run(file)
    except RecursionError as error:
        raise _refused(what, f"its parts are nested too deeply ({error})") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise _refused(what, error) from error


def _refused(what: str, reason: object) -> ValueError:
    return ValueError(f"{what} cannot be read as a pickle of plain data: {reason}")


class _Machine:
    """The stack machine of the pickle format, less everything that imports or calls.

    Source: the comments of Python's `pickletools.py`, which define the format.
    """

    def __init__(
        self,
        constructors: Mapping[str, Constructor],
        persistent_load: Callable[[Any], Any] | None,
    ):
        self.constructors = {**constructors, "_codecs.encode": self.encode}
        self.persistent_load = persistent_load
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[str, Global] = {}
        self.encodable = 0  # bytes that may still be made of text

    def run(self, file: Bounded) -> Any:
        self.encodable = file.size
        instructions = pickletools.genops(cast(Any, file))
        for number, (opcode, argument, _) in enumerate(instructions):
            if number >= _MOST_INSTRUCTIONS:
                raise ValueError(f"it has more than {_MOST_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                break
            if opcode.name in LITERALS:
                self.stack.append(argument)
            elif opcode.name in NEW:
                self.stack.append(NEW[opcode.name]())
            elif (handle := getattr(self, f"do_{opcode.name.lower()}", None)) is not None:
                handle(argument)
            elif opcode.name not in ("PROTO", "FRAME"):
                raise ValueError(f"its instruction {opcode.name} is not one of plain data")
        return self.stack.pop()

    # --- the stack -------------------------------------------------------------------------------

    def do_mark(self, _):
        self.marks.append(len(self.stack))

    def since_mark(self) -> list:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def do_pop(self, _):
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def do_pop_mark(self, _):
        self.since_mark()

    def do_dup(self, _):
        self.stack.append(self.stack[-1])

    def do_get(self, key):
        self.stack.append(self.memo[key])

    do_binget = do_long_binget = do_get

    def do_put(self, key):
        value = self.stack[-1]
        self.memo[key] = value
        if isinstance(value, PendingArray):
            value.memo_keys.append(key)

    do_binput = do_long_binput = do_put

    def do_memoize(self, _):
        self.do_put(len(self.memo))

    # --- containers ------------------------------------------------------------------------------

    def do_tuple(self, _):
        self.stack.append(tuple(self.since_mark()))

    def do_tuple1(self, _):
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def do_tuple2(self, _):
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def do_tuple3(self, _):
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def do_list(self, _):
        self.stack.append(self.since_mark())

    def do_append(self, _):
        value = self.stack.pop()
        self.extend([value])

    def do_appends(self, _):
        self.extend(self.since_mark())

    def extend(self, items: list) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise ValueError(f"it appends to {kind_of(target)}")

    def do_dict(self, _):
        items = self.since_mark()
        self.stack.append({})
        self.update(items)

    def do_setitem(self, _):
        items = self.stack[-2:]
        del self.stack[-2:]
        self.update(items)

    def do_setitems(self, _):
        self.update(self.since_mark())

    def update(self, items: list) -> None:
        target = self.stack[-1]
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if isinstance(target, Record):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            for key, value in pairs:
                target[checked_key(key)] = value
        else:
            raise ValueError(f"it sets items of {kind_of(target)}")

    def do_additems(self, _):
        items = self.since_mark()
        if not isinstance(self.stack[-1], set):
            raise ValueError(f"it adds items to {kind_of(self.stack[-1])}")
        self.stack[-1].update(map(checked_key, items))

    def do_frozenset(self, _):
        self.stack.append(frozenset(map(checked_key, self.since_mark())))

    # --- names, and what other unpicklers would call -----------------------------------------------

    def do_global(self, argument):
        self.push_global(*argument.split(" ", 1))

    def do_stack_global(self, _):
        module, name = self.stack[-2:]
        del self.stack[-2:]
        self.push_global(module, name)

    def push_global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError(f"it refers to {kind_of(name)} of {kind_of(module)}")
        full = f"{module}.{name}"
        if full not in self.globals and len(self.globals) >= _MOST_GLOBALS:
            raise ValueError(f"it refers to more than {_MOST_GLOBALS} names of code")
        self.stack.append(self.globals.setdefault(full, Global(full)))

    def call(self, function: Any, args: Any, keywords: Mapping | None = None) -> Any:
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise ValueError(f"it calls {kind_of(function)} with {kind_of(args)}")
        if ATTACKS.fullmatch(function.name):
            raise ValueError(
                f"it calls {kind_of(function)}, which no file of weights needs. Nothing was run"
            )
        constructor = self.constructors.get(function.name)
        if constructor is None:
            return Record(function.name, args, items=list((keywords or {}).items()))
        if keywords:
            raise ValueError(f"it calls {function.name} with keywords, which is not known")
        return constructor(*args)

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        """Returns bytes, which Python 3 writes as text in protocol 2."""
        if encoding != "latin1":
            raise ValueError(f"text is encoded as {kind_of(encoding)}; only latin1 is known")
        # No more than the file holds: the same text could be encoded many times.
        self.encodable -= len(text)
        if self.encodable < 0:
            raise ValueError("it makes more bytes than the file holds")
        return text.encode("latin1")

    def do_reduce(self, _):
        args = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], args)

    do_newobj = do_reduce

    def do_newobj_ex(self, _):
        args, keywords = self.stack[-2:]
        del self.stack[-2:]
        self.stack[-1] = self.call(self.stack[-1], args, keywords)

    def do_inst(self, argument):
        args = tuple(self.since_mark())
        self.do_global(argument)
        self.stack[-1] = self.call(self.stack[-1], args)

    def do_obj(self, _):
        function, *args = self.since_mark()
        self.stack.append(self.call(function, tuple(args)))

    def do_build(self, _):
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, PendingArray):
            _, shape, dtype, is_fortran, content = state
            if isinstance(content, str):  # the bytes of Python 2
                content = self.encode(content)
            self.stack[-1] = array = array_of(shape, dtype, is_fortran, content)
            for key in target.memo_keys:
                self.memo[key] = array
        elif isinstance(target, np.dtype):
            check_byte_order(state[1])
        elif not isinstance(target, OrderedDict):  # PyTorch sets `_metadata` on those of weights
            raise ValueError(f"it sets the state of {kind_of(target)}")

    def do_persid(self, argument):
        if self.persistent_load is None:
            raise ValueError("it refers to objects outside of it (persistent ids)")
        self.stack.append(self.persistent_load(argument))

    def do_binpersid(self, _):
        self.do_persid(self.stack.pop())
