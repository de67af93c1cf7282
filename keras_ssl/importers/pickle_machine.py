"""The stack machine that executes the instructions of a pickle, without running code in it.

It cannot import anything, and can only call a few known constructors.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from keras_ssl.importers.bounded_file import BoundedFile
from keras_ssl.importers.pickle_values import (
    ATTACKS,
    LITERALS,
    NEW,
    Constructor,
    Global,
    PendingArray,
    Record,
    check_byte_order,
    check_key,
    describe,
    make_array,
)

# The checkpoint of a large network (ResNet-200 with moving averages and momenta) has some hundred
# thousand instructions. The limit bounds the memory that instructions of one byte can allocate.
_MAX_INSTRUCTIONS = 1_000_000
_MAX_GLOBALS = 1000


def execute(
    file: BoundedFile,
    constructors: Mapping[str, Constructor],
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Executes one pickle, from the current position of a file, and returns its object.

    Args:
        file: the file.
        constructors: functions that the pickle may call, by full name.
        persistent_load: function from a persistent id of the pickle to an object; `None` if a pickle
            with such ids is an error.

    Raises:
        ValueError: if it contains more than data, or too many instructions. A damaged pickle can also
            raise the errors of Python's containers, such as IndexError.
    """
    return _Machine(constructors, persistent_load).run(file)


class _Machine:
    """The stack machine of the pickle format, without imports and calls of arbitrary functions.

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
        self.encodable = 0  # bytes that text may still be encoded to

    def run(self, file: BoundedFile) -> Any:
        self.encodable = file.size
        instructions = pickletools.genops(cast(Any, file))
        for number, (opcode, argument, _) in enumerate(instructions):
            if number >= _MAX_INSTRUCTIONS:
                raise ValueError(f"it has more than {_MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                break
            if opcode.name in LITERALS:
                self.stack.append(argument)
            elif opcode.name in NEW:
                self.stack.append(NEW[opcode.name]())
            elif (handle := getattr(self, f"do_{opcode.name.lower()}", None)) is not None:
                handle(argument)
            elif opcode.name not in ("PROTO", "FRAME"):
                raise ValueError(f"its instruction {opcode.name} does not occur in plain data")
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
            raise ValueError(f"it appends to {describe(target)}")

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
                target[check_key(key)] = value
        else:
            raise ValueError(f"it sets items of {describe(target)}")

    def do_additems(self, _):
        items = self.since_mark()
        if not isinstance(self.stack[-1], set):
            raise ValueError(f"it adds items to {describe(self.stack[-1])}")
        self.stack[-1].update(map(check_key, items))

    def do_frozenset(self, _):
        self.stack.append(frozenset(map(check_key, self.since_mark())))

    # --- names and calls ---------------------------------------------------------------------------

    def do_global(self, argument):
        self.push_global(*argument.split(" ", 1))

    def do_stack_global(self, _):
        module, name = self.stack[-2:]
        del self.stack[-2:]
        self.push_global(module, name)

    def push_global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError(f"it refers to {describe(name)} of {describe(module)}")
        full = f"{module}.{name}"
        if full not in self.globals and len(self.globals) >= _MAX_GLOBALS:
            raise ValueError(f"it refers to more than {_MAX_GLOBALS} names of code")
        self.stack.append(self.globals.setdefault(full, Global(full)))

    def call(self, function: Any, args: Any, keywords: Mapping | None = None) -> Any:
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise ValueError(f"it calls {describe(function)} with {describe(args)}")
        if ATTACKS.fullmatch(function.name):
            raise ValueError(
                f"it calls {describe(function)}, which no file of weights needs. No code was run"
            )
        constructor = self.constructors.get(function.name)
        if constructor is None:
            return Record(function.name, args, items=list((keywords or {}).items()))
        if keywords:
            raise ValueError(
                f"it calls {function.name} with keyword arguments, which is not supported"
            )
        return constructor(*args)

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        """Returns the bytes that Python 3 writes as text in protocol 2."""
        if encoding != "latin1":
            raise ValueError(f"text is encoded as {describe(encoding)}; only latin1 is supported")
        # Not more bytes than the file has: the same text could be encoded many times.
        self.encodable -= len(text)
        if self.encodable < 0:
            raise ValueError("it encodes more bytes than the file has")
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
            self.stack[-1] = array = make_array(shape, dtype, is_fortran, content)
            for key in target.memo_keys:
                self.memo[key] = array
        elif isinstance(target, np.dtype):
            check_byte_order(state[1])
        elif not isinstance(target, OrderedDict):  # PyTorch sets `_metadata` on state dicts
            raise ValueError(f"it sets the state of {describe(target)}")

    def do_persid(self, argument):
        if self.persistent_load is None:
            raise ValueError("it refers to objects outside of the file (persistent ids)")
        self.stack.append(self.persistent_load(argument))

    def do_binpersid(self, _):
        self.do_persid(self.stack.pop())
