"""What clients ask of a state machine: what users write for theirs, and what is asked of the store."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, final

from raft_io.kv.batch import encode_batch
from raft_io.kv.store import KeyValueStore
from raft_io.server import StateMachine
from raft_io.testing.operation import Operation as Seen

if TYPE_CHECKING:
    from raft_io.testing.clients import Call

__all__ = ["Operation", "StoreWorkload", "Workload", "WorkloadError", "captured", "fingerprint"]

SHOWN: Final = 60
"""Characters of a command that are shown."""


@final
@dataclass(frozen=True, slots=True)
class Operation:
    """Something that a client asks for: a `command` for `StateMachine.apply`, or else a `query`, a function
    of the state machine that only reads, and is called more than once. `text` describes it; `about` is for
    whoever made it."""

    text: str
    command: bytes | None = None
    query: Callable[[Any], Any] | None = None
    about: Any = None

    def __post_init__(self) -> None:
        if (self.command is None) == (self.query is None):
            raise ValueError("an operation is either a command or a query")
        if not isinstance(self.command, (bytes, NoneType)):
            raise TypeError(f"a command is bytes, not {type(self.command).__name__}")
        if self.query is not None and not callable(self.query):
            raise TypeError(f"a query is a function of the machine, not {type(self.query).__name__}")


class WorkloadError(Exception):
    """A workload does not do what it must: no fault of the nodes, and no outcome of a run."""


class Workload(Protocol):
    """A workload: what clients do. It may have two more methods.

    - `fingerprint(machine)` returns something that is equal for two machines exactly if they are in the same
      state; without it, that is what they save.
    - `history(calls)` returns what the clients saw, for a model of one key of the store.
    """

    def next(self, rng: random.Random, client: int) -> bytes | Operation:
        """The next command or operation of a client. Whatever is random comes from `rng`."""


def fingerprint(machine: StateMachine) -> bytes:
    """What `machine` would save, byte by byte: a fingerprint for all that save equal states alike."""
    stream = io.BytesIO()
    captured(machine)(stream)
    return stream.getvalue()


def captured(machine: StateMachine) -> Callable[[BinaryIO], None]:
    """What writes the state of `machine`. Raises `TypeError` if its `capture` returned something else."""
    write: Any = machine.capture()
    if not callable(write):
        name = type(machine).__name__
        raise TypeError(f"{name}.capture must return a function that writes, not {type(write).__name__}")
    writes: Callable[[BinaryIO], None] = write
    return writes


@final
class StoreWorkload:
    """Reads and writes of a few keys of the store, each write with a value of its own, of which some are up
    to `longer` bytes longer than they need to be."""

    def __init__(self, keys: int, reads: float, longer: int = 0) -> None:
        self._keys = keys
        self._reads = reads
        self._longer = longer
        self._count = 0

    def next(self, rng: random.Random, client: int) -> Operation:
        key = b"k%d" % rng.randrange(self._keys)
        if rng.random() < self._reads:
            return _read(key)
        self._count += 1
        value = b"v%d" % self._count
        name = rng.choice(("set", "set", "append", "delete", "setnx", "getdel"))
        if name == "set":
            if self._longer and rng.random() < 0.3:
                value += b"." * rng.randrange(self._longer)
            return _write(name, key, [b"SET", key, value], value)
        if name == "append":
            return _write(name, key, [b"APPEND", key, b"," + value], b"," + value)
        if name == "setnx":
            return _write(name, key, [b"SETNX", key, value], value)
        return _write(name, key, [b"DEL" if name == "delete" else b"GETDEL", key])

    def fingerprint(self, machine: KeyValueStore) -> Hashable:
        """Keys and values in order: the store saves its keys in the order of their slots."""
        return fingerprint(machine)

    def history(self, calls: Sequence[Call]) -> Sequence[Seen]:
        """Those that were refused had no effect and are left out, as are reads without an answer."""
        found = []
        for call in calls:
            name, key, arguments = call.operation.about
            if call.outcome == "acknowledged":
                value = reply_value(name, call.result)
                found.append(Seen(call.client, key, name, arguments, value, call.called, call.returned))
            elif not call.is_read and (call.unknown or call.outcome == "open"):
                found.append(Seen(call.client, key, name, arguments, None, call.called, math.inf))
        return found


def _read(key: bytes) -> Operation:
    commands = [[b"GET", key]]
    return Operation(
        f"GET {key.decode()}", query=lambda store: store.query(commands, 2), about=("get", key, ())
    )


def _write(name: str, key: bytes, command: list[bytes], *arguments: bytes) -> Operation:
    text = b" ".join(command)[:SHOWN].decode()
    return Operation(text, command=encode_batch([command], 2), about=(name, key, arguments))


def reply_value(name: str, reply: bytes) -> Any:
    """What a reply of the store to the operation `name` says, as a model of a key says it."""
    kind, rest = reply[:1], reply[1:]
    if kind == b":":
        return int(rest)
    if kind == b"$":
        head, _, body = rest.partition(b"\r\n")
        return None if int(head) < 0 else body[: int(head)]
    if kind == b"+":
        return None if name == "set" else rest.strip().decode()
    raise ValueError(f"{name} is answered with {reply!r}")
