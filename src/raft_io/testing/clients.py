"""Clients: each asks, is answered or not, thinks, and asks again, at any node."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, Final, final

from raft_io import CommandError, NodeId, NotLeaderError, OverloadedError, RaftError, SessionExpiredError
from raft_io.server.requests import Request
from raft_io.testing.checks.base import told
from raft_io.testing.machine import TAG
from raft_io.testing.process import Process
from raft_io.testing.timeline import stream
from raft_io.testing.workload import SHOWN, Operation, WorkloadError

if TYPE_CHECKING:
    from raft_io.testing.world import World

__all__ = ["Call", "Clients"]

MAX_ATTEMPTS: Final = 20

FOREVER: Final = 1e6
"""Seconds."""

TRIES: Final = 100
"""How often a workload is asked for a read."""

HURRY: Final = 0.1
"""Share of the usual time to think of who is in a hurry."""


@final
class Call:
    """One operation of a client, over all its attempts.

    - `floor`: the last place that had been acknowledged to anybody when it was asked for.
    - `outcome`: `"open"`, `"acknowledged"`, `"refused"` (it was not applied, unless `unknown`) or
      `"unknown"`.
    - `called`, `returned`: in simulated seconds; `returned` is infinite if it was not acknowledged.
    """

    __slots__ = (
        *("called", "client", "floor", "key", "operation", "outcome", "place"),
        *("attempts", "home", "result", "returned", "tag", "unknown"),
    )

    def __init__(
        self, client: int, operation: Operation, tag: bytes, key: bytes | None, called: float
    ) -> None:
        self.client = client
        self.operation = operation
        self.tag = tag
        self.key = key
        self.called = called
        self.returned = math.inf
        self.floor = 0
        self.attempts = 0
        self.home: tuple[NodeId, int] | None = None
        """The node that was asked first, and in which of its lives."""
        self.unknown = False
        self.outcome = "open"
        self.place = 0
        self.result: Any = None

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.operation.query is not None

    def __str__(self) -> str:
        return f"client {self.client}: {self.operation.text}"


@final
class _Attempt:
    """Waits for the answer of one node, and insists that there is one."""

    __slots__ = ("answered", "call", "clients", "life", "process", "since")

    def __init__(self, clients: Clients, call: Call, process: Process) -> None:
        self.clients = clients
        self.call = call
        self.process = process
        self.life = process.life
        self.since = clients.world.now
        self.answered = False

    def succeeded(self, value: Any) -> None:
        self._once()
        self.clients.succeeded(self, value)

    def failed(self, error: Exception) -> None:
        self._once()
        self.clients.failed(self, error)

    def _once(self) -> None:
        assert not self.answered, f"answered twice: {self.call}"
        self.answered = True


@final
class Clients:
    """All clients of `world`. `calls` is all that they ever asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Call] = []
        self.acknowledged = 0
        """The last place that anybody was told of."""
        self.count = 0
        """Operations that were acknowledged."""
        self.working = True
        self.hurry = 0
        """How many reasons they have to hardly think."""
        self.reading = False
        """Whether they only read, if the workload has reads."""
        load = world.plan.load
        self._rngs = [stream(world.plan.seed, "client", client) for client in range(load.clients)]
        self._open: dict[_Attempt, None] = {}
        for client in range(load.clients):
            self._later(client)

    @property
    def open(self) -> int:
        """Attempts that are not answered."""
        return len(self._open)

    @property
    def waiting_since(self) -> float:
        """When the oldest of them began; infinite if there is none."""
        return min((attempt.since for attempt in self._open), default=math.inf)

    def _later(self, client: int) -> None:
        think = self.world.plan.load.think * (HURRY if self.hurry else 1.0)
        self.world.timeline.after(self._rngs[client].uniform(0, 2 * think), self._next, client)

    def _next(self, client: int) -> None:
        if not self.working:
            return
        world, rng = self.world, self._rngs[client]
        operation = self._drawn(rng, client)
        for _ in range(TRIES if self.reading else 0):
            if operation.query is not None:
                break
            operation = self._drawn(rng, client)
        tag = (len(self.calls) + 1).to_bytes(TAG, "big")
        keyed = operation.command is not None and rng.random() < world.plan.load.keyed
        call = Call(client, operation, tag, b"key" + tag if keyed else None, world.now)
        call.floor = self.acknowledged
        self.calls.append(call)
        world.told_call(call)
        self._try(call)

    def _drawn(self, rng: random.Random, client: int) -> Operation:
        try:
            made: Any = self.world.workload.next(rng, client)
        except Exception as error:
            failed = WorkloadError(f"the workload raised {told(error)}")
            failed.__cause__ = error  # compiled, `from` leaves that out
            raise failed from error
        if isinstance(made, bytes):
            return Operation(repr(made)[1:SHOWN], command=made)
        if not isinstance(made, Operation):
            kind = type(made).__name__
            raise WorkloadError(f"the workload returned {kind}; it must return bytes or an Operation")
        return made

    def _try(self, call: Call) -> None:
        world, rng = self.world, self._rngs[call.client]
        serving = world.serving
        if not world.plan.load.wanders and call.key is not None and call.home is not None:
            serving = [process for process in serving if (process.id, process.life) == call.home]
            if not serving:
                call.attempts = MAX_ATTEMPTS
        if not serving:
            self._again(call)
            return
        process = serving[rng.randrange(len(serving))]
        call.attempts += 1
        call.home = call.home or (process.id, process.life)
        attempt = _Attempt(self, call, process)
        # In a healthy cluster every request is answered in time.
        patience = FOREVER if world.healed else world.plan.load.patience
        deadline = process.clock.read(world.now) + rng.uniform(0.1, 1.0) * patience
        operation = call.operation
        query = None
        data = None
        if operation.query is not None:
            query = lambda machine: machine.query(operation)  # noqa: E731 - bound to the operation at hand
        else:
            assert operation.command is not None
            data = call.tag + operation.command
        try:
            process.driver.request(Request(attempt, deadline, data, call.key, query))
        except RaftError as error:
            self.failed(attempt, error)
        else:
            self._open[attempt] = None
            process.schedule()

    def succeeded(self, attempt: _Attempt, value: Any) -> None:
        """A node has answered."""
        self._open.pop(attempt, None)
        call = attempt.call
        if call.is_read:
            call.place, call.result = value
        else:
            call.place, call.result = self.world.ledger.places.get(call.tag, 0), value
        self._acknowledge(call)

    def failed(self, attempt: _Attempt, error: Exception) -> None:
        """A node has answered that it could not, or does not know."""
        self._open.pop(attempt, None)
        call = attempt.call
        if call.is_read and (isinstance(error, CommandError) or self.world.ledger.was_raised(error)):
            # The query itself has raised this: that is an answer, of no place.
            call.outcome = "refused"
            self.count += 1
            self._done(call)
            return
        if isinstance(error, CommandError):
            call.place, call.result = self.world.ledger.places.get(call.tag, 0), error
            self._acknowledge(call)
            return
        if isinstance(error, (TimeoutError, SessionExpiredError)) and not call.is_read:
            call.unknown = True
        elif not isinstance(error, (TimeoutError, NotLeaderError, OverloadedError, RaftError)):
            self.world.crashed(f"{call} is answered with {error!r}")
        self._again(call)

    def _acknowledge(self, call: Call) -> None:
        call.outcome = "acknowledged"
        call.returned = self.world.now
        self.count += 1
        self.world.acknowledged(call)
        self.acknowledged = max(self.acknowledged, call.place)
        self._done(call)

    def _again(self, call: Call) -> None:
        """What was surely not applied may be tried again, and what has a key whatever became of it."""
        safe = call.key is not None or not call.unknown
        if safe and call.attempts < MAX_ATTEMPTS and self.working:
            call.attempts += not self.world.serving
            self.world.timeline.after(self._rngs[call.client].uniform(0.02, 0.4), self._try, call)
        else:
            call.outcome = "unknown" if call.unknown else "refused"
            self._done(call)

    def _done(self, call: Call) -> None:
        self.world.told_return(call)
        self._later(call.client)

    def lost(self, process: Process) -> None:
        """A node is gone: who waited for it does not know."""
        for attempt in [attempt for attempt in self._open if attempt.process is process]:
            del self._open[attempt]
            attempt.answered = True
            attempt.call.unknown = attempt.call.unknown or not attempt.call.is_read
            self._again(attempt.call)
