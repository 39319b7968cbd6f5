"""The requests of one node, moved by hand."""

from __future__ import annotations

from typing import Any

from tests.server.support import Answers

from raft_io.server import envelope
from raft_io.server.requests import Outbound, Request, Requests
from raft_io.server.sessions import Applied, Opened, Result

PATIENCE = 10
HERE = (1, 1)
"""Node 1 leads in term 1."""


class Desk:
    """`Requests` with a session (of id 5 unless not opened), and the tick."""

    def __init__(self, *, opened: bool = True) -> None:
        self.nonces = 0
        self.requests = Requests(self._nonce, PATIENCE)
        self.tick = 0
        self.index = 10
        if opened:
            self.open(5)

    def _nonce(self) -> bytes:
        self.nonces += 1
        return self.nonces.to_bytes(16, "little")

    def open(self, session: int) -> None:
        waiter = self.ask(b"first")
        [opening] = self.due()
        entry = envelope.decode(opening.data)
        assert isinstance(entry, envelope.Open)
        self.requests.applied(Opened(session, entry.nonce))
        [first] = self.due()
        self.applied(session, first.sequence, [b""])
        assert waiter.done
        self.requests.answers.clear()

    def ask(self, data: bytes | None, *, deadline: float = 100.0, **more: Any) -> Answers:
        waiter = Answers()
        self.requests.add(Request(waiter, deadline, data, **more))
        return waiter

    def due(self, route: tuple[int, int] = HERE, *, forwarded: bool = True) -> list[Outbound]:
        return self.requests.due(route, forwarded, self.tick, self.index)

    def applied(self, session: int, sequence: int, results: list[Result] | None) -> None:
        self.requests.applied(Applied(session, sequence, results))
        self.deliver()

    def expire(self, now: float) -> None:
        self.requests.expire(now)
        self.deliver()

    def deliver(self) -> None:
        answers, self.requests.answers = self.requests.answers, []
        for waiter, succeeded, value in answers:
            if succeeded:
                waiter.succeeded(value)
            else:
                waiter.failed(value)


def commands(outbound: Outbound) -> envelope.Requests:
    entry = envelope.decode(outbound.data)
    assert isinstance(entry, envelope.Requests)
    return entry


def since(outbound: Outbound) -> list[int]:
    return [command.since for command in commands(outbound).commands]
