"""A state machine that is watched: what was applied, where, and whether all replicas agree."""

from __future__ import annotations

import copy
import hashlib
import struct
from collections.abc import Callable
from types import NoneType
from typing import Any, BinaryIO, Final, final

from raft_io import CommandError, NodeId
from raft_io.server import StateMachine
from raft_io.testing.workload import Operation, captured

__all__ = ["TAG", "UNKNOWN", "Applied", "Asked", "Ledger", "WatchedMachine", "kept", "shown"]

TAG: Final = 8
"""Bytes before each command that tell it from all others. The watched machine does not see them."""

SHOWN: Final = 60
"""Characters of a result that a message shows."""

UNKNOWN: Final = object()
"""Stands for an answer that cannot be kept."""

_HEAD: Final = struct.Struct("<QQ16s")
"""In front of a saved state: the place, the time, and the hash of all commands up to there."""


@final
class Applied:
    """The command at one place of the one history: its tag, what became of it with all that preceded it, as a
    hash, and what was answered."""

    __slots__ = ("answer", "command", "outcome", "tag")

    def __init__(self, command: bytes, outcome: bytes, answer: bytes | str) -> None:
        self.tag = command[:TAG]
        self.command = command[TAG:]
        self.outcome = outcome
        self.answer = answer
        """The result, or the text of the `CommandError`."""


@final
class Asked:
    """A query that a replica has answered: after how many commands, at what time, and with what."""

    __slots__ = ("answer", "operation", "place", "time")

    def __init__(self, operation: Operation, place: int, time: int, answer: Any) -> None:
        self.operation = operation
        self.place = place
        self.time = time
        self.answer = answer


@final
class Ledger:
    """The one history: what any replica has applied, by place from 1 on."""

    def __init__(self) -> None:
        self.history: list[Applied] = []
        self.asked: list[Asked] = []
        self.times: set[tuple[int, int]] = set()
        """What replicas were told of the time: after how many commands, and what."""
        self.places: dict[bytes, int] = {}
        self.problem: Callable[[str], None] = _raise
        self.still = False
        """Whether no replica wants the time any more."""

    def apply(self, node: NodeId, place: int, command: bytes, outcome: bytes, answer: bytes | str) -> None:
        """A replica has applied a command, tag and all, as its `place`-th."""
        history = self.history
        tag = command[:TAG]
        if place <= len(history):
            known = history[place - 1]
            if known.tag != tag:
                self.problem(f"node {node} applies {tag.hex()} as number {place}; others {known.tag.hex()}")
            elif known.outcome != outcome:
                self.problem(
                    f"node {node} comes to another result than others for command {place}, {shown(answer)} "
                    f"instead of {shown(known.answer)}: the state machine is not deterministic, a query "
                    "changes it, or its capture or restore loses something"
                )
            return
        if place != len(history) + 1:
            self.problem(f"node {node} applies number {place}, but nobody {place - 1}")
        if tag in self.places:
            self.problem(f"node {node} applies {tag.hex()} as number {place}, and it was {self.places[tag]}")
        history.append(Applied(command, outcome, answer))
        self.places[tag] = place


def shown(answer: object) -> str:
    """A result, short enough for a message."""
    text = repr(answer)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _raise(text: str) -> None:
    raise AssertionError(text)


@final
class WatchedMachine(StateMachine):
    """One replica of a user's machine. `place` is how many commands it has applied."""

    def __init__(self, node: NodeId, inner: StateMachine, ledger: Ledger) -> None:
        self.node = node
        self.inner = inner
        self.ledger = ledger
        self.place = 0
        self.time = 0
        self.chain = bytes(16)

    def apply(self, command: bytes) -> bytes:
        self.place += 1
        # Not trusted to return what it promises.
        apply: Any = self.inner.apply
        try:
            result = apply(command[TAG:])
        except CommandError as error:
            text = str(error)
            self._tell(command, b"refused", text.encode("utf-8", "surrogatepass"), text)
            raise
        if not isinstance(result, bytes):
            name = type(self.inner).__name__
            raise TypeError(f"{name}.apply must return bytes, not {type(result).__name__}")
        self._tell(command, b"applied", result, result)
        return result

    def _tell(self, command: bytes, verdict: bytes, result: bytes, answer: bytes | str) -> None:
        """A command was applied: this replica must be where others are, or were, after it."""
        size = len(command).to_bytes(8, "big")
        self.chain = _digest(b"".join([self.chain, verdict, size, command, result]))
        self.ledger.apply(self.node, self.place, command, self.chain, answer)

    def advance(self, now: int) -> None:
        if now <= self.time:
            self.ledger.problem(f"node {self.node} is told {now} ms after {self.time}")
        self.time = now
        self.ledger.times.add((self.place, now))
        self.chain = _digest(self.chain + now.to_bytes(8, "big"))
        self.inner.advance(now)

    def due(self) -> int | None:
        return None if self.ledger.still else self.inner.due()

    def capture(self) -> Callable[[BinaryIO], None]:
        head = _HEAD.pack(self.place, self.time, self.chain)
        write = captured(self.inner)

        def both(stream: BinaryIO) -> None:
            stream.write(head)
            write(stream)

        return both

    def restore(self, stream: BinaryIO) -> None:
        place, time, chain = _HEAD.unpack(stream.read(_HEAD.size))
        if place < self.place:
            self.ledger.problem(f"node {self.node} goes back from command {self.place} to {place}")
        if place > len(self.ledger.history):
            self.ledger.problem(f"node {self.node} restores command {place}, which nobody has applied")
        self.inner.restore(stream)
        self.place, self.time, self.chain = place, time, chain

    def query(self, operation: Operation) -> tuple[int, Any]:
        """The place at which a read is served, and what it gives."""
        assert operation.query is not None
        result = operation.query(self.inner)
        self.ledger.asked.append(Asked(operation, self.place, self.time, kept(result)))
        return self.place, result


def kept(result: object) -> Any:
    """What a query gave, as it is now: what the machine changes later must not change it."""
    if isinstance(result, (bytes, str, int, float, NoneType)):
        return result
    try:
        return copy.deepcopy(result)
    except Exception:
        return UNKNOWN


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
