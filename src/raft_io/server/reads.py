"""Reads without an entry in the log (thesis, section 6.4): gathered, confirmed together, served here.

Sans-I/O, and told the time. All reads that have arrived share one read point; it is asked for after every one
of them was, so that none is served at a point before it began.
"""

from __future__ import annotations

from typing import Any, Final

from raft_io.errors import NotLeaderError, OverloadedError
from raft_io.server.requests import Answer, Request

__all__ = ["Reads"]

MAX_READS: int = 100_000
"""Reads that wait here; above it new ones are refused."""

MAX_ASKED: int = 1
"""Read points under way. While there are so many, reads gather for the next one: the busier the node, the
more of them share a round of heartbeats. With two, a loopback cluster served a fifth less."""

MAX_BATCH: int = 4096
"""Reads that share a read point: they are served in one turn, which must not last too long."""

CONTEXT: Final = 8
"""Bytes of the counter in a context."""


class Batch:
    """Reads that share a read point."""

    __slots__ = ("deadline", "requests")

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        self.deadline = _earliest(requests)


class Reads:
    """The reads of this node's callers. `origin` makes contexts unique among all nodes and their lives."""

    def __init__(self, origin: bytes) -> None:
        self._origin = origin
        self._count = 0
        self._queue: list[Request] = []
        self._deadline = float("inf")
        """The earliest of those in the queue."""
        self._asked: dict[bytes, Batch] = {}
        self._waiting = 0
        self.answers: list[Answer] = []
        """What is to be told to waiters; whoever drives this takes it."""

    def add(self, request: Request) -> None:
        """Take a read in. Raises `OverloadedError`."""
        if self._waiting >= MAX_READS:
            raise OverloadedError(f"{self._waiting} reads are waiting here; try again later")
        self._waiting += 1
        self._queue.append(request)
        if request.deadline < self._deadline:
            self._deadline = request.deadline

    @property
    def ready(self) -> bool:
        """Whether there are reads to ask a read point for."""
        return bool(self._queue) and len(self._asked) < MAX_ASKED

    def ask(self) -> bytes:
        """The context of a read point for all that wait for one."""
        self._count += 1
        context = self._origin + self._count.to_bytes(CONTEXT, "little")
        batch = Batch(self._queue[:MAX_BATCH])
        self._queue = self._queue[MAX_BATCH:]
        self._deadline = _earliest(self._queue)
        for request in batch.requests:
            request.asked = True
        self._asked[context] = batch
        return context

    def confirmed(self, context: bytes, machine: Any) -> None:
        """The machine is at the read point, or beyond it."""
        batch = self._asked.pop(context, None)
        if batch is None:
            return
        self._waiting -= len(batch.requests)
        answers = self.answers
        for request in batch.requests:
            query: Any = request.query
            try:
                value = query(machine)
            except Exception as error:  # the caller's own function: its error goes back to it
                answers.append((request.waiter, False, error))
            else:
                answers.append((request.waiter, True, value))

    def refused(self, context: bytes) -> None:
        """No read point comes of this context: its reads need another, ahead of those that came later."""
        batch = self._asked.pop(context, None)
        if batch is not None:
            self._queue = batch.requests + self._queue
            self._deadline = min(self._deadline, batch.deadline)

    def lost(self) -> None:
        """What was asked for may be lost on the way: all of it needs another read point."""
        for context in reversed(list(self._asked)):
            self.refused(context)

    def expire(self, now: float) -> None:
        """Answer what has waited too long."""
        if self._deadline <= now:
            self._queue = self._unexpired(self._queue, now)
            self._deadline = _earliest(self._queue)
        for context in [context for context, batch in self._asked.items() if batch.deadline <= now]:
            left = self._unexpired(self._asked[context].requests, now)
            if left:
                self._asked[context] = Batch(left)
            else:
                # The place of one that is never answered must not be kept from others.
                del self._asked[context]

    def _unexpired(self, requests: list[Request], now: float) -> list[Request]:
        left: list[Request] = []
        for request in requests:
            if request.deadline > now:
                left.append(request)
            else:
                error: Exception = NotLeaderError(None)
                if request.asked:
                    error = TimeoutError("no read point was confirmed in time")
                self.answers.append((request.waiter, False, error))
        self._waiting -= len(requests) - len(left)
        return left

    def abandon(self, error: Exception) -> None:
        """The node stops: nothing was changed by any of them."""
        self.lost()
        for request in self._queue:
            self.answers.append((request.waiter, False, error))
        self._queue = []
        self._waiting = 0


def _earliest(requests: list[Request]) -> float:
    return min([request.deadline for request in requests], default=float("inf"))
