"""One key of a store with the commands of Redis, as a model to hold histories against."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, cast, final

from raft_io.testing.histories import Focus
from raft_io.testing.operation import Operation

__all__ = ["KeyValueModel"]

Value = bytes | None

INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
LOWEST: Final = -(2**63)
HIGHEST: Final = 2**63 - 1
DIGITS: Final = b"-0123456789"
ERROR: Final = "error"

SOMETHING: Final = "something"
"""Seen of a key that has a value, whatever it is."""

ASSIGNMENTS: Final = frozenset({"set", "setnx", "setxx"})
WRITES: Final = ASSIGNMENTS | {"append", "incr"}
WROTE_NOTHING: Final[dict[str, Any]] = {"setnx": 0, "setxx": None}
"""By operation, the result that tells that nothing was written."""

CHANGED_NOTHING: Final[dict[str, Any]] = WROTE_NOTHING | {"delete": 0, "getdel": None, "incr": ERROR}
"""By operation, the result that tells that it changed nothing."""

NO_VALUE: Final[Hashable] = object()

REPLACES: Final = frozenset({"set", "setxx", "delete", "getdel"})
"""Operations after which a value is not what it was, nor that with something at its end."""

OF_EXISTENCE: Final = frozenset({"setnx", "setxx", "delete", "append", "incr"})
"""Operations whose results tell whether there is a value, even where they do not tell which."""


def to_integer(value: bytes) -> int | None:
    """The signed 64-bit integer that `value` spells, or `None`: no spaces, no plus, no leading zeros."""
    if INTEGER.fullmatch(value) is None:
        return None
    number = int(value)
    return number if LOWEST <= number <= HIGHEST else None


def apply(value: Value, operation: Operation) -> tuple[Value, Any]:
    """The value after an operation, and its result."""
    name = operation.name
    if name == "get":
        return value, value
    if name == "set":
        return operation.arguments[0], None
    if name == "getdel":
        return None, value
    if name == "delete":
        return None, 0 if value is None else 1
    if name == "setnx":
        return (operation.arguments[0], 1) if value is None else (value, 0)
    if name == "setxx":
        return (None, None) if value is None else (operation.arguments[0], True)
    if name == "append":
        longer = (value or b"") + operation.arguments[0]
        return longer, len(longer)
    if name == "incr":
        number = 0 if value is None else to_integer(value)
        if number is None or number == HIGHEST:
            return value, ERROR
        return b"%d" % (number + 1), number + 1
    raise ValueError(f"no operation of a key: {name!r}")


@final
class KeyValueModel:
    """One key of a store: its value is bytes, or `None` if there is none.

    Operations and their results: `get()` the value; `set(value)` `None`; `setnx(value)` 1, or 0 if there is
    a value; `setxx(value)` `True`, or `None` if there is no value; `delete()` how many were deleted, 0 or 1;
    `getdel()` the value, which is then gone; `append(value)` the new length in bytes; `incr()` the new
    integer, or `"error"` if the value spells none or would pass 64 bits.

    Raises `ValueError` for an operation of another name.
    """

    def initial(self, key: bytes) -> Value:
        return None

    def step(self, state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
        after, result = apply(cast(Value, state), operation)
        return operation.is_open or result == operation.result, after

    def focus(self, operations: Sequence[Operation]) -> Focus:
        return _Focus(operations)

    def saw(self, operation: Operation) -> Hashable:
        name, result = operation.name, operation.result
        if name in ("get", "getdel"):
            return result if isinstance(result, bytes) else None
        if name == "append":
            return None if result == len(operation.arguments[0]) else SOMETHING
        if name == "incr":
            # The first one needs nobody before it.
            return SOMETHING if not isinstance(result, int) else None if result == 1 else b"%d" % (result - 1)
        shown = {"setnx": 0, "setxx": True, "delete": 1}
        return SOMETHING if name in shown and result == shown[name] else None

    def left(self, operation: Operation, seen: Hashable) -> bool:
        name, result = operation.name, operation.result
        if name not in WRITES:
            return False
        if not operation.is_open and (result == ERROR or result == WROTE_NOTHING.get(name, ERROR)):
            return False
        if seen == SOMETHING:
            return True
        value = cast(bytes, seen)
        if name == "append":
            return value.endswith(operation.arguments[0])
        if name == "incr":
            return to_integer(value) is not None if operation.is_open else value == str(result).encode()
        return bool(value == operation.arguments[0])


def _only_possible_in(operation: Operation) -> Hashable:
    """The one value at which an answered operation is possible; `NO_VALUE`: there are several, or none."""
    name, result = operation.name, operation.result
    if name in ("get", "getdel"):
        return result if result is None or isinstance(result, bytes) else NO_VALUE
    if name == "incr":
        # The integer 1 may come from 0 or from nothing.
        return b"%d" % (result - 1) if isinstance(result, int) and result != 1 else NO_VALUE
    at_nothing = {"setnx": 1, "setxx": None, "delete": 0}
    return None if name in at_nothing and result == at_nothing[name] else NO_VALUE


def _leaves(operation: Operation) -> Hashable:
    """The one value that an operation leaves if it changes anything, appends and open increments aside."""
    if operation.name in ASSIGNMENTS:
        return cast(bytes, operation.arguments[0])
    if operation.name == "incr":
        return str(operation.result).encode()
    return None if operation.name in ("delete", "getdel") else NO_VALUE


@final
class _Focus:
    """The model for one history. Most values that an unanswered write may leave are returned by no answered
    `get` or `getdel`, nor can appends make them one that is. In such a state, called opaque, those are
    impossible, and the rest tell at most that there is a value and how long it is. One filler of that length
    stands for all of them, and with no answered `append`, which would tell the length, one filler for all.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations
        answered = [operation for operation in operations if not operation.is_open]
        results = [operation.result for operation in answered if operation.name in ("get", "getdel")]
        self._returned: list[bytes] = sorted({result for result in results if isinstance(result, bytes)})
        self._joined = b"\n".join(self._returned)
        self._measured = any(operation.name == "append" for operation in answered)
        names = {operation.name for operation in operations}
        self._counted = "incr" in names
        self._blind = "setxx" not in names and all(
            operation.name not in OF_EXISTENCE for operation in answered
        )
        firsts = {value[:1] for value in self._returned}
        fillers = (bytes([byte]) for byte in reversed(range(256)))
        # The filler begins no value that was returned, and spells no integer. With none free: no abstraction.
        self._filler = next((byte for byte in fillers if byte not in firsts and byte not in DIGITS), b"")
        self._known: dict[bytes, bytes] = {}

    def initial(self, key: bytes) -> Value:
        return None

    def step(self, state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
        after, result = apply(cast(Value, state), operation)
        if not operation.is_open and result != operation.result:
            return False, after
        if after is None:
            return True, None
        short = self._known.get(after)
        if short is None:
            short = self._known[after] = self._shorten(after)
        return True, short

    def effect(self, operation: Operation) -> Hashable:
        """Open writes that lead to equal states from every state are equal; see `Focus`.

        Why an open write that makes the value opaque has no effect if this history is blind, that is if no
        answered operation tells existence: no answered operation but `set` is possible as long as the value
        is opaque. So whatever follows up to the next operation that sets or deletes are open `setnx`,
        `append` and `incr`, all optional, which leave it opaque. Without all of them, and without the write,
        the set or the delete leads to the same state. An open `setxx` would not: it sets only what exists.
        """
        name, arguments = operation.name, operation.arguments
        if name == "get":
            return None
        if name in ASSIGNMENTS:
            value = self._shorten(arguments[0])
            opaque = value.startswith(self._filler)
        elif name == "append":
            value = self._shorten_suffix(arguments[0])
            opaque = value.startswith(self._filler)
        else:
            return (name, arguments)
        return None if self._blind and self._filler and opaque else (name, value)

    def only_reads(self, operation: Operation) -> bool:
        name, result = operation.name, operation.result
        return name == "get" or result == CHANGED_NOTHING.get(name, NO_VALUE)

    def exact(self) -> Mapping[Hashable, tuple[Sequence[int], Sequence[int]]]:
        table: dict[Hashable, tuple[list[int], list[int]]] = {}
        by_suffix: dict[bytes, list[int]] = {}
        open_increments: list[int] = []
        for number, operation in enumerate(self._operations):
            needed = NO_VALUE if operation.is_open else _only_possible_in(operation)
            if needed is not NO_VALUE:
                table.setdefault(needed, ([], []))[0].append(number)
        for number, operation in enumerate(self._operations):
            name = operation.name
            if name == "append":
                by_suffix.setdefault(operation.arguments[0], []).append(number)
            elif name == "incr" and operation.is_open:
                open_increments.append(number)
            else:
                left = _leaves(operation)
                if left in table:
                    table[left][1].append(number)
        sizes = {len(suffix) for suffix in by_suffix}
        for value, (_, writers) in table.items():
            if isinstance(value, bytes):
                for size in sizes:
                    writers += by_suffix.get(value[max(0, len(value) - size) :], ())
                if to_integer(value) is not None:
                    writers += open_increments
        return table

    def is_lost(self, state: Hashable) -> bool:
        return state is not None and bool(self._filler) and cast(bytes, state).startswith(self._filler)

    def ways_back(self) -> Sequence[int]:
        return [number for number, operation in enumerate(self._operations) if operation.name in REPLACES]

    def _shorten(self, value: bytes) -> bytes:
        """The value, or the filler that stands for it."""
        if not self._filler or self._is_number(value) or self._begins_a_returned_one(value):
            return value
        return self._opaque(value)

    def _shorten_suffix(self, suffix: bytes) -> bytes:
        """What is appended, or the filler: where no returned value holds it, all it leads to is opaque."""
        if not self._filler or self._is_number(suffix) or suffix in self._joined:
            return suffix
        return self._opaque(suffix)

    def _opaque(self, value: bytes) -> bytes:
        return self._filler * len(value) if self._measured else self._filler

    def _is_number(self, value: bytes) -> bool:
        """Whether an `incr` could take it, or what appends make of it, for a number."""
        return self._counted and not value.strip(DIGITS)

    def _begins_a_returned_one(self, value: bytes) -> bool:
        at = bisect_left(self._returned, value)
        return at < len(self._returned) and self._returned[at].startswith(value)
