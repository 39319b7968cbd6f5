"""Callers of a simulated cluster, and what they may be told: a linearizable counter, each command once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.server.sim import Cluster, Machine, Node

from raft_io import CommandError, NotLeaderError, OverloadedError, SessionExpiredError, StorageError
from raft_io.server.requests import Request


@dataclass
class Call:
    """One operation of a caller, over all its attempts."""

    command: bytes
    """Empty for a read."""
    key: bytes | None
    low: int
    """What had been acknowledged to anybody when it was first asked."""
    attempts: int = 0
    unknown: bool = False
    """Some attempt may have been applied."""
    outcome: str = "open"
    place: int = 0
    node: tuple[int, int] | None = None
    """The node, and which of its lives, that was asked first."""


class Attempt:
    """A waiter that insists on being answered once."""

    def __init__(self, callers: Callers, caller: int, call: Call, node: Node) -> None:
        self.callers = callers
        self.caller = caller
        self.call = call
        self.node = node
        self.life = node.life
        self.answered = False

    def succeeded(self, value: Any) -> None:
        self._once()
        self.callers.succeeded(self, int(value))

    def failed(self, error: Exception) -> None:
        self._once()
        self.callers.failed(self, error)

    def _once(self) -> None:
        assert not self.answered, "answered twice"
        assert self.node.life == self.life or not self.node.up, "answered by a node that is no more"
        self.answered = True


def _query(machine: Machine) -> int:
    return len(machine.history)


@dataclass
class Mix:
    """What callers do. `keys_wander`: a keyed command is tried again at any node, else only where it was.
    `evictions`: a session may be evicted where its node cannot see it, behind a snapshot."""

    callers: int = 6
    think: float = 0.02
    reads: float = 0.3
    keyed: float = 0.3
    refused: float = 0.1
    timeout: tuple[float, float] = (0.1, 3.0)
    size: int = 200
    keys_wander: bool = True
    evictions: bool = False
    tally: dict[str, int] = field(default_factory=dict)


class Callers:
    """Closed loops: each caller asks, is answered, thinks, asks again, at any node."""

    def __init__(self, cluster: Cluster, mix: Mix) -> None:
        self.cluster = cluster
        self.mix = mix
        self.calls: list[Call] = []
        self.acknowledged = 0
        self.working = True
        self._open: list[Attempt] = []
        cluster.on_lost.append(self._node_lost)
        for caller in range(mix.callers):
            self._later(caller)

    def _later(self, caller: int) -> None:
        self.cluster.after(self.cluster.rng.uniform(0, 2 * self.mix.think), lambda: self._next(caller))

    def _next(self, caller: int) -> None:
        if not self.working:
            return
        rng = self.cluster.rng
        if rng.random() < self.mix.reads:
            call = Call(b"", None, self.acknowledged)
        else:
            letter = b"r" if rng.random() < self.mix.refused else b"c"
            name = letter + b"%d-%d" % (caller, len(self.calls))
            key = b"key " + name if rng.random() < self.mix.keyed else None
            call = Call(name + b" " + b"x" * rng.randrange(self.mix.size), key, self.acknowledged)
        self.calls.append(call)
        self._try(caller, call)

    def _try(self, caller: int, call: Call) -> None:
        cluster = self.cluster
        up = [node for node in cluster.members if node.up]
        if call.node is not None and not self.mix.keys_wander:
            up = [node for node in up if (node.id, node.life) == call.node]
        if not up:
            self._done(caller, call, "gave up")
            return
        node = cluster.rng.choice(up)
        call.node = call.node or (node.id, node.life)
        attempt = Attempt(self, caller, call, node)
        deadline = cluster.now + cluster.rng.uniform(*self.mix.timeout)
        query = None if call.command else _query
        call.attempts += 1
        request = Request(attempt, deadline, call.command or None, call.key, query)
        try:
            cluster.submit(node, request)
        except OverloadedError as error:
            self.failed(attempt, error)
        else:
            self._open.append(attempt)

    def succeeded(self, attempt: Attempt, value: int) -> None:
        call = attempt.call
        self._close(attempt)
        assert not call.command.startswith(b"r"), "a refused command succeeded"
        if call.command:
            assert value > call.low, f"{call} at {value}: older than what was acknowledged before"
        else:
            assert value >= call.low, f"a stale read: {value}, {call.low} was acknowledged before"
        self._acknowledge(attempt, value)

    def _acknowledge(self, attempt: Attempt, place: int) -> None:
        attempt.call.place = place
        self.acknowledged = max(self.acknowledged, place)
        self._done(attempt.caller, attempt.call, "acknowledged")

    def failed(self, attempt: Attempt, error: Exception) -> None:
        call = attempt.call
        self._close(attempt)
        if isinstance(error, CommandError):
            assert call.command.startswith(b"r"), f"{error!r} for {call}"
            place = int(str(error).rpartition(" ")[2])
            assert place > call.low
            self._acknowledge(attempt, place)
        elif isinstance(error, (NotLeaderError, OverloadedError, StorageError)):
            self._again(attempt, "not applied")
        elif isinstance(error, TimeoutError):
            call.unknown = call.unknown or bool(call.command)
            self._again(attempt, "unknown")
        else:
            assert isinstance(error, SessionExpiredError), repr(error)
            assert call.key is not None or self.mix.evictions
            call.unknown = True
            self._again(attempt, "expired")

    def _again(self, attempt: Attempt, outcome: str) -> None:
        """A keyed command may be tried again whatever became of it; others are not."""
        call = attempt.call
        self.cluster.trace(outcome, call.command)
        self.mix.tally[outcome] = self.mix.tally.get(outcome, 0) + 1
        if call.key is not None and self.working and call.attempts < 8:
            self.cluster.after(self.cluster.rng.uniform(0, 0.3), lambda: self._try(attempt.caller, call))
        else:
            self._done(attempt.caller, call, outcome)

    def _done(self, caller: int, call: Call, outcome: str) -> None:
        call.outcome = outcome
        self.mix.tally[outcome] = self.mix.tally.get(outcome, 0) + 1
        self.cluster.trace(outcome, call.command, call.place)
        self._later(caller)

    def _close(self, attempt: Attempt) -> None:
        if attempt in self._open:
            self._open.remove(attempt)

    def _node_lost(self, node: Node) -> None:
        for attempt in [attempt for attempt in self._open if attempt.node is node]:
            self._close(attempt)
            attempt.answered = True
            attempt.call.unknown = attempt.call.unknown or bool(attempt.call.command)
            self._again(attempt, "lost")

    def finish(self) -> None:
        """The cluster is healed and everybody waited: judge."""
        self.working = False
        self.cluster.settle()
        assert not self._open, f"{len(self._open)} callers were never answered"
        first, *others = [node.machine for node in self.cluster.members]
        for machine in others:
            assert machine.history == first.history, "replicas differ"
            assert machine.times == first.times, "replicas were told different times"
        history = first.history
        assert len(set(history)) == len(history), "a command was applied twice"
        places = {command: place for place, command in enumerate(history, 1)}
        for call in self.calls:
            if not call.command:
                continue
            place = places.pop(call.command, 0)
            if call.outcome == "acknowledged":
                assert place == call.place, f"{call} is at {place}"
            else:
                assert place == 0 or call.unknown, f"{call} was applied"
        assert not places, f"commands that nobody proposed: {places}"
