"""The requests of one node on their way: gathered into entries, sent to the leader, retried, answered.

Sans-I/O, and told the time. What is sent is one entry for all that arrived together; it is answered from
what this node itself applies, so that nothing travels back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

from raft_io.errors import NotLeaderError, OverloadedError, SessionExpiredError
from raft_io.server import envelope
from raft_io.server.envelope import Member
from raft_io.server.sessions import Applied, Opened, Sessions

__all__ = ["Answer", "Outbound", "Request", "Requests", "Waiter"]

GATHER_BYTES: int = 256 * 1024
"""Requests that arrived together share an entry up to about this size."""

MAX_WAITING_BYTES: int = 64 * 1024 * 1024
"""Bytes of requests that wait here; above it new ones are refused."""

REQUEST_OVERHEAD: Final = 64
"""What a waiting request is counted with besides its bytes."""

MAX_OPEN_KEYS: int = 100_000
"""Keys remembered whose outcome this node does not know."""

RESEND_LIMIT: int = 4
"""The wait before an entry is sent again doubles this many times at most."""


class Waiter(Protocol):
    """Who asked, and gets the answer: exactly one of the two calls."""

    def succeeded(self, value: Any) -> None:
        """The result: what `apply` returned, or what the query of a read returned."""

    def failed(self, error: Exception) -> None:
        """A library error, or `TimeoutError` where the outcome is unknown."""


Answer = tuple[Waiter, bool, Any]
"""A waiter, whether it succeeded, and the value or error."""


class Request:
    """One request: a command (`data`), a change of the member table (`member`: the id and what it is to be),
    or else a `query`, answered by what it returns."""

    __slots__ = (
        "answered",
        "asked",
        "data",
        "deadline",
        "fresh",
        "key",
        "member",
        "query",
        "since",
        "unsure",
        "waiter",
    )

    def __init__(
        self,
        waiter: Waiter,
        deadline: float,
        data: bytes | None,
        key: bytes | None = None,
        query: Callable[[Any], Any] | None = None,
        member: tuple[int, Member] | None = None,
    ) -> None:
        self.waiter = waiter
        self.deadline = deadline
        self.data = data
        self.key = key
        self.query = query
        self.member = member
        self.since: int | None = None
        """Of one with a key that was sent: no entry up to here holds the key."""
        self.fresh = False
        """Whether nobody here had tried the key before."""
        self.unsure = False
        """Whether it may have been applied, unseen, in a session that is gone."""
        self.answered = False
        self.asked = False
        """Of a read: whether a read point was asked for."""

    @property
    def size(self) -> int:
        """What it costs to keep, in bytes."""
        return REQUEST_OVERHEAD + (len(self.data) if self.data is not None else 0) + len(self.key or b"")


class Outbound:
    """An entry on its way: what it holds, and where it was sent last."""

    __slots__ = (
        "attempts",
        "data",
        "deadline",
        "hold_until",
        "requests",
        "route",
        "sent_tick",
        "sequence",
        "size",
    )

    def __init__(self, sequence: int, data: bytes, requests: list[Request]) -> None:
        self.sequence = sequence
        self.data = data
        self.requests = requests
        self.size = 0
        self.deadline = math.inf
        for request in requests:
            self.size += request.size
            self.deadline = min(self.deadline, request.deadline)
        self.route: tuple[int, int] | None = None
        """Leader and term that it was sent to."""
        self.sent_tick = 0
        self.hold_until = 0
        """The tick before which it is not sent again."""
        self.attempts = 0


class Requests:
    """What this node's callers wait for."""

    def __init__(self, nonce: Callable[[], bytes], resend_ticks: int) -> None:
        self._make_nonce = nonce
        self._resend_ticks = resend_ticks
        self._session = 0
        self._opening: Outbound | None = None
        self._nonce = b""
        self._tick = 0
        self._sequence = 0
        self._queue: list[Request] = []
        self._sent: dict[int, Outbound] = {}
        self._bytes = 0
        self._open_keys: dict[bytes, int] = {}
        self.answers: list[Answer] = []
        """What is to be told to waiters; whoever drives this takes it."""

    def add(self, request: Request) -> None:
        """Take a request in. Raises `OverloadedError`."""
        if self._bytes + request.size > MAX_WAITING_BYTES and self._bytes > 0:
            raise OverloadedError(f"{self._bytes} bytes of requests are waiting here; try again later")
        self._bytes += request.size
        self._queue.append(request)

    @property
    def waiting(self) -> bool:
        """Whether anything waits here."""
        return bool(self._queue or self._sent or self._opening)

    @property
    def ready(self) -> bool:
        """Whether something could be sent that was not."""
        return bool(self._queue) and self._session != 0

    def due(self, route: tuple[int, int], forwarded: bool, tick: int, applied: int) -> list[Outbound]:
        """What should go to the leader now. `route`: the leader and its term. Through another node
        (`forwarded`) an entry may be lost on the way, so that it is sent again after a while; in the own
        log it stays as long as this node leads. `applied`: the last index applied here."""
        self._tick = tick
        if self._queue and self._session == 0 and self._opening is None:
            self._nonce = self._make_nonce()
            self._opening = Outbound(0, envelope.encode_open(self._nonce), [])
        due: list[Outbound] = []
        for outbound in self._under_way():
            late = tick >= outbound.sent_tick + self._patience(outbound)
            # A lost leader costs no time once. One that is lost again and again may be so for the weight
            # of what is sent: then more copies of it, at once, make it worse.
            again = outbound.attempts < 2 or late
            if ((outbound.route != route and again) or (forwarded and late)) and tick >= outbound.hold_until:
                due.append(outbound)
        if self._session and self._queue:
            due.extend(self._gather(applied))
        for outbound in due:
            outbound.route = route
            outbound.sent_tick = tick
            outbound.attempts += 1
        return due

    def _under_way(self) -> list[Outbound]:
        under_way = list(self._sent.values())
        return under_way if self._opening is None else [self._opening, *under_way]

    def _patience(self, outbound: Outbound) -> int:
        return self._resend_ticks << min(max(outbound.attempts - 1, 0), RESEND_LIMIT)

    def _gather(self, applied: int) -> list[Outbound]:
        """Put all that is queued into entries."""
        gathered: list[Outbound] = []
        queue = self._queue
        self._queue = []
        start = 0
        while start < len(queue):
            end = start
            size = 0
            while end < len(queue) and (end == start or size + queue[end].size <= GATHER_BYTES):
                size += queue[end].size
                end += 1
            gathered.append(self._entry(queue[start:end], applied))
            start = end
        return gathered

    def _entry(self, requests: list[Request], applied: int) -> Outbound:
        self._sequence += 1
        for request in requests:
            if request.key is not None and request.since is None:
                # Nothing that was tried here with this key can have been applied up to there.
                request.fresh = request.key not in self._open_keys
                request.since = self._open_keys.get(request.key, applied)
                self._leave_open(request.key, request.since)
        outbound = Outbound(self._sequence, self._encode(self._sequence, requests), requests)
        self._sent[self._sequence] = outbound
        return outbound

    def _encode(self, sequence: int, requests: list[Request]) -> bytes:
        floor = next(iter(self._sent), sequence)
        commands = [envelope.Command(r.data, r.key, r.since or 0, r.member) for r in requests]
        return envelope.encode_requests(self._session, sequence, floor, commands)

    def _leave_open(self, key: bytes, since: int) -> None:
        self._open_keys[key] = min(since, self._open_keys.get(key, since))
        if len(self._open_keys) > MAX_OPEN_KEYS:
            del self._open_keys[next(iter(self._open_keys))]

    def link_restored(self, leader: int) -> None:
        """The connection to `leader` is new: what was sent over the old one may be lost."""
        for outbound in self._under_way():
            if outbound.route is not None and outbound.route[0] == leader:
                outbound.route = None

    def refused(self, session: int, sequence: int) -> None:
        """The leader is overloaded and has not taken this entry in. Of one that was sent before nobody knows
        whether it was taken then: it is tried again, later."""
        if session == 0:
            outbound = self._opening
        else:
            outbound = self._sent.get(sequence) if session == self._session else None
        if outbound is None:
            return
        if outbound.attempts == 1 and outbound.requests:
            self._finish(outbound, OverloadedError("the leader is overloaded; try again later"))
        else:
            outbound.route = None
            outbound.hold_until = self._tick + self._patience(outbound)

    def postponed(self, sequence: int) -> None:
        """This node leads but takes nothing in at the moment, and this not either: it is tried again soon."""
        outbound = self._sent.get(sequence) if sequence else self._opening
        if outbound is not None:
            outbound.route = None
            outbound.attempts -= 1
            outbound.hold_until = self._tick + 1

    def applied(self, outcome: Opened | Applied) -> None:
        """An entry was applied here: if it is one of this node's, its requests are answered."""
        if isinstance(outcome, Opened):
            if self._opening is not None and outcome.nonce == self._nonce:
                self._session = outcome.session
                self._opening = None
            return
        if outcome.session != self._session:
            return
        if outcome.results is None:
            self._start_over()
            return
        outbound = self._sent.pop(outcome.sequence, None)
        if outbound is None:
            return
        self._bytes -= outbound.size
        for request, result in zip(outbound.requests, outcome.results, strict=True):
            if request.answered:
                continue
            request.answered = True
            if request.key is not None and not isinstance(result, SessionExpiredError):
                self._open_keys.pop(request.key, None)
            if isinstance(result, Exception):
                self.answers.append((request.waiter, False, result))
            else:
                self.answers.append((request.waiter, True, result))

    def _start_over(self) -> None:
        """The session was evicted. What this node has not seen applied before that never will be, for a
        session's id does not come back: all of it goes into a new session."""
        self._session = 0
        for outbound in self._sent.values():
            self._bytes -= outbound.size
        waiting = [r for outbound in self._sent.values() for r in outbound.requests if not r.answered]
        self._bytes += sum(request.size for request in waiting)
        self._sent = {}
        self._queue = waiting + self._queue

    def restored(self, sessions: Sessions) -> None:
        """The state was replaced by a snapshot: entries of this node may have been applied before it, unseen.

        So may the session have been opened. What it remembers is answered. The rest goes on its way: the
        session knows what is doubled. Is the session evicted, nobody knows what was applied in it before.
        """
        if self._opening is not None:
            self._opening.route = None
            session = sessions.opened(self._nonce)
            if session:
                self.applied(Opened(session, self._nonce))
            return
        if not self._session:
            return
        results = sessions.results(self._session)
        if results is None:
            self._forget_sent()
            self._start_over()
            return
        for sequence in [sequence for sequence in self._sent if sequence in results]:
            self.applied(Applied(self._session, sequence, results[sequence]))

    def _forget_sent(self) -> None:
        """Of what was sent in an evicted session only what has a key of its own can be tried again."""
        for outbound in self._sent.values():
            for request in outbound.requests:
                if not outbound.attempts or request.answered:
                    continue
                if request.key is None:
                    self._answer(request, SessionExpiredError())
                else:
                    request.unsure = True

    def expire(self, now: float) -> None:
        """Answer what has waited too long. What was never sent has certainly not been applied."""
        if self._queue and any(request.deadline <= now for request in self._queue):
            for request in self._queue:
                if request.deadline <= now:
                    self._bytes -= request.size
                    self._answer(request, NotLeaderError(None))
            self._queue = [request for request in self._queue if not request.answered]
        for outbound in [outbound for outbound in self._sent.values() if outbound.deadline <= now]:
            for request in outbound.requests:
                if request.deadline <= now and not request.answered:
                    self._answer(request, _overdue(outbound))
            left = [request for request in outbound.requests if not request.answered]
            outbound.deadline = min((request.deadline for request in left), default=float("inf"))
            if not left:
                self._bytes -= outbound.size
                del self._sent[outbound.sequence]
            elif outbound.attempts == 0:
                # It will be sent, and must not bring with it what was said to be never applied.
                self._bytes -= outbound.size
                outbound.requests = left
                outbound.size = sum(request.size for request in left)
                self._bytes += outbound.size
                outbound.data = self._encode(outbound.sequence, left)

    def abandon(self, error: Exception) -> None:
        """The node stops. What was never sent fails with `error`; of the rest the outcome is unknown."""
        for request in self._queue:
            self._answer(request, error)
        self._queue = []
        for outbound in list(self._sent.values()):
            unknown = TimeoutError(f"the outcome is unknown: {error}")
            self._finish(outbound, unknown if outbound.attempts else error)

    def _finish(self, outbound: Outbound, error: Exception) -> None:
        for request in outbound.requests:
            if not request.answered:
                self._answer(request, error)
        self._bytes -= outbound.size
        del self._sent[outbound.sequence]

    def _answer(self, request: Request, error: Exception) -> None:
        if request.unsure and not isinstance(error, (TimeoutError, SessionExpiredError)):
            error = TimeoutError(f"the outcome is unknown: {error}")
        request.answered = True
        if request.key is not None and request.since is not None:
            if isinstance(error, TimeoutError):
                self._leave_open(request.key, request.since)
            elif request.fresh:
                # Certainly not applied, nor was any earlier one.
                self._open_keys.pop(request.key, None)
        self.answers.append((request.waiter, False, error))


def _overdue(outbound: Outbound) -> Exception:
    """Why there is no answer: what no leader took in was certainly not applied."""
    if outbound.attempts == 0:
        return NotLeaderError(None)
    return TimeoutError("the outcome is unknown: no answer in time")
