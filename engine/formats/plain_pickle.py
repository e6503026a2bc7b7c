"""Plain values out of a pickle, without running it: a pickle is a program for a small machine, and this is a machine
that knows the instructions for numbers, texts, lists and dicts alone. Whatever could name a class, call a function or
take more memory than the file's own bytes is refused before it acts. Knows nothing of torch, or of what values mean.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from engine.errors import CheckpointError

MAX_BYTES = 1 << 24
"""A longer pickle is no table of characters, nor the list of a small model's weights."""

MAX_DEPTH = 32
MAX_VALUES = 1 << 20
MAX_INTEGER = 1 << 53

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_MARK = object()

Call = Callable[[tuple[Any, ...]], Any]
"""What stands for a function that a file may name: its arguments, checked by it, to a value."""


def read_pickle(
    data: bytes,
    origin: str,
    what_else: str,
    *,
    known: Mapping[str, Call] | None = None,
    elsewhere: Call | None = None,
) -> Any:
    """The value in a pickle of protocol 2 or later.

    Args:
        data: The pickle.
        origin: What an error calls it.
        what_else: What a user can do where it is refused.
        known: The functions that it may name, as "module name", and what is done in their place; mostly none.
        elsewhere: What makes a value of what a file says lies outside of the pickle; mostly nothing may.

    Raises:
        CheckpointError: It is damaged, too large, too deep, or holds what is no plain value.
    """
    if len(data) > MAX_BYTES:
        raise CheckpointError(f"{origin} has {len(data):,} bytes, and {MAX_BYTES:,} are read at most", what_else)
    machine = _Machine(origin, what_else, known or {}, elsewhere)
    try:
        value = machine.run(data)
    except CheckpointError:
        raise
    # what the library and a pickle that takes from an empty pile raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise CheckpointError(f"{origin} is no whole pickle ({error})", what_else) from None
    _check_size(value, origin, what_else)
    return value


class Named:
    """A function that a pickle named."""

    def __init__(self, name: str, call: Call) -> None:
        self.name, self.call = name, call


class _Machine:
    """The pile and the memory that a pickle works with."""

    def __init__(self, origin: str, what_else: str, known: Mapping[str, Call], elsewhere: Call | None) -> None:
        self._origin, self._what_else, self._known, self._elsewhere = origin, what_else, known, elsewhere
        self._pile: list[Any] = []
        self._memory: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """The value that the pickle ends with."""
        for operation, argument, _ in pickletools.genops(data):
            name = operation.name
            if name == "STOP":
                (value,) = self._taken(len(self._pile))
                return value
            self._step(name, argument)
        return self._refuse("has no end")

    def _step(self, name: str, argument: Any) -> None:
        pile, memory = self._pile, self._memory
        if name in _CONSTANTS:
            pile.append(_CONSTANTS[name])
        elif name in _VALUES:
            if isinstance(argument, int) and abs(argument) > MAX_INTEGER:
                self._refuse("has a whole number out of all bounds")
            pile.append(argument)
        elif name in ("PROTO", "FRAME"):
            return
        elif name == "MARK":
            pile.append(_MARK)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            pile.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memory[argument] = pile[-1]
        elif name == "MEMOIZE":
            memory[len(memory)] = pile[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            pile.append(memory[argument])
        elif name in ("TUPLE", "LIST", "DICT"):
            values = self._to_mark()
            pile.append(tuple(values) if name == "TUPLE" else values if name == "LIST" else self._filled({}, values))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            pile.append(tuple(self._taken(int(name[-1]))))
        elif name in ("APPEND", "APPENDS"):
            values = self._taken(1) if name == "APPEND" else self._to_mark()
            self._target(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = self._taken(2) if name == "SETITEM" else self._to_mark()
            self._filled(self._target(dict), values)
        elif name == "GLOBAL" and argument in self._known:
            pile.append(Named(argument, self._known[argument]))
        elif name == "REDUCE" and self._known:
            self._call()
        elif name == "BUILD" and self._known:
            self._taken(1)  # what a dict of weights says of itself, which nobody asks for
            self._target(dict)
        elif name == "BINPERSID" and self._elsewhere is not None:
            pile.append(self._elsewhere(tuple(self._taken(1))))
        else:
            named = f" {argument!r}"[:60] if name in ("GLOBAL", "INST") else ""
            self._refuse(f"is not plain data, it could run code ({name}{named})")

    def _call(self) -> None:
        named, arguments = self._taken(2)
        if not isinstance(named, Named) or not isinstance(arguments, tuple):
            self._refuse("calls what is no function")
        self._pile.append(named.call(arguments))

    def _taken(self, count: int) -> list[Any]:
        """The last values of the pile, which leave it."""
        values = [self._pile.pop() for _ in range(count)][::-1]
        if any(value is _MARK for value in values):
            self._refuse("is out of step")
        return values

    def _to_mark(self) -> list[Any]:
        """The values behind the last mark, which leave the pile with it."""
        values: list[Any] = []
        while (value := self._pile.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _target(self, kind: type) -> Any:
        if type(self._pile[-1]) is not kind:
            self._refuse("fills what is no list or dict")
        return self._pile[-1]

    def _filled(self, target: dict[Any, Any], values: list[Any]) -> dict[Any, Any]:
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Keys of other kinds, of a file that means harm, could take for ever to tell apart.
            if type(key) not in (str, int):
                self._refuse("has a key that is neither text nor a number")
            target[key] = value
        return target

    def _refuse(self, what: str) -> NoReturn:
        raise CheckpointError(f"{self._origin} {what}", self._what_else)


def _check_size(value: Any, origin: str, what_else: str) -> None:
    """Refuse what is too deep or holds itself, and what a few bytes have made many values of."""
    waiting, count = [(value, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        if not isinstance(value, (dict, list, tuple)):
            continue
        count += len(value)
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise CheckpointError(f"{origin} is nested too {'deep' if depth > MAX_DEPTH else 'large'}", what_else)
        waiting += [(each, depth + 1) for each in (value.values() if isinstance(value, dict) else value)]
