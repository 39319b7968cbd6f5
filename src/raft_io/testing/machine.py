"""A state machine that is watched: what was applied, where, and whether all replicas agree."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Final, final

from raft_io import CommandError, NodeId, StorageError
from raft_io.server import StateMachine
from raft_io.testing.checks.base import told
from raft_io.testing.workload import Operation, captured

__all__ = ["CAUSES", "TAG", "Applied", "Ledger", "WatchedMachine", "answer_to", "differing"]

TAG: Final = 8
"""Bytes before each command that tell it from all others. The watched machine does not see them."""

SHOWN: Final = 60
"""Characters of a result that a message shows."""

CAUSES: Final = (
    "the state machine is not deterministic, a query changes it, or its capture or restore loses something"
)
"""Why a replica may differ from others."""

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
class Ledger:
    """The one history: what any replica has applied, by place from 1 on."""

    def __init__(self) -> None:
        self.history: list[Applied] = []
        self.times: dict[int, list[int]] = {}
        """What replicas were told of the time after how many commands, in order."""
        self.raised: list[Exception] = []
        """What queries have raised that nobody was told of yet."""
        self.places: dict[bytes, int] = {}
        self.problem: Callable[[str], None] = _raise
        self.queried: Callable[[WatchedMachine, Operation, Any], None] = _nothing
        """Is told of every query, where it was asked, and what came of it: see `answer_to`."""
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
                    f"node {node} comes to another result than before for command {place}, "
                    f"{differing(answer, known.answer)}: {CAUSES}"
                )
            return
        if place != len(history) + 1:
            self.problem(f"node {node} applies number {place}, but nobody {place - 1}")
        if tag in self.places:
            self.problem(f"node {node} applies {tag.hex()} as number {place}, and it was {self.places[tag]}")
        history.append(Applied(command, outcome, answer))
        self.places[tag] = place

    def was_raised(self, error: Exception) -> bool:
        """Whether this is what a query has raised; asked once."""
        for place, each in enumerate(self.raised):
            if each is error:
                del self.raised[place]
                return True
        return False


def differing(one: object, other: object) -> str:
    """Two results that differ, the second after "instead of": of long ones what is around the difference."""
    texts = [repr(one), repr(other)]
    if max(map(len, texts)) > SHOWN:
        pairs = enumerate(zip(*texts, strict=False))
        differs = next((place for place, (a, b) in pairs if a != b), min(map(len, texts)))
        start = max(0, differs - SHOWN // 2)
        texts = [
            f"{'...' * (start > 0)}{text[start : start + SHOWN]}{'...' * (len(text) > start + SHOWN)}"
            for text in texts
        ]
    return f"{texts[0]} instead of {texts[1]}"


def answer_to(query: Callable[[Any], Any], machine: StateMachine) -> Any:
    """What a query gives, or what it raises, as texts."""
    try:
        return query(machine)
    except Exception as error:
        return _raised(error)


def _raised(error: Exception) -> tuple[str, str]:
    return "raises", f"{type(error).__name__}: {error}"


def _nothing(*_: Any) -> None:
    pass


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
        self.restores = 0
        """How often it was restored."""

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
        times = self.ledger.times.setdefault(self.place, [])
        if not times or times[-1] < now:
            times.append(now)
        self.chain = _digest(self.chain + now.to_bytes(8, "big"))
        self.inner.advance(now)

    def due(self) -> int | None:
        return None if self.ledger.still else self.inner.due()

    def capture(self) -> Callable[[BinaryIO], None]:
        head = _HEAD.pack(self.place, self.time, self.chain)
        try:
            write = captured(self.inner)
        except Exception as error:
            self._fails("capture", error)
            raise

        def both(stream: BinaryIO) -> None:
            stream.write(head)
            try:
                write(stream)
            except Exception as error:
                self._fails("capture", error)
                raise

        return both

    def restore(self, stream: BinaryIO) -> None:
        place, time, chain = _HEAD.unpack(stream.read(_HEAD.size))
        if place < self.place:
            self.ledger.problem(f"node {self.node} goes back from command {self.place} to {place}")
        if place > len(self.ledger.history):
            self.ledger.problem(f"node {self.node} restores command {place}, which nobody has applied")
        try:
            self.inner.restore(stream)
        except Exception as error:
            self._fails("restore", error)
            raise
        self.place, self.time, self.chain = place, time, chain
        self.restores += 1

    def _fails(self, method: str, error: Exception) -> None:
        """The user's `method` has raised. What the disk does to it is no fault of it."""
        if not isinstance(error, (OSError, StorageError)):
            where = f"node {self.node}, after command {self.place}"
            self.ledger.problem(f"{where}: {type(self.inner).__name__}.{method} raised {told(error)}")

    def query(self, operation: Operation) -> tuple[int, Any]:
        """The place at which a read is served, and what it gives."""
        query = operation.query
        assert query is not None
        try:
            result = query(self.inner)
        except Exception as error:
            self.ledger.raised.append(error)
            self.ledger.queried(self, operation, _raised(error))
            raise
        self.ledger.queried(self, operation, result)
        return self.place, result


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
