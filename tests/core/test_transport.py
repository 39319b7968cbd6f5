"""`MemoryTransport`, and transports of one's own."""

from __future__ import annotations

import pytest
from tests.support import MESSAGES

from raft_io import MemoryTransport, Message, RaftTransport

pytestmark = pytest.mark.core


def test_what_is_sent_can_be_taken_once_in_order() -> None:
    transport = MemoryTransport()
    transport.send(2, MESSAGES[0])
    transport.send(3, MESSAGES[1])
    assert transport.pending() == 2
    assert transport.take() == [(2, MESSAGES[0]), (3, MESSAGES[1])]
    assert transport.pending() == 0
    assert transport.take() == []


def test_what_was_taken_is_the_callers() -> None:
    transport = MemoryTransport()
    transport.send(2, MESSAGES[0])
    taken = transport.take()
    transport.send(3, MESSAGES[1])
    taken.clear()
    assert transport.take() == [(3, MESSAGES[1])]


def test_a_transport_of_ones_own() -> None:
    class Printed(RaftTransport):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def send(self, to: int, message: Message) -> None:
            self.lines.append(f"{to}: {type(message).__name__}")

    printed = Printed()
    transport: RaftTransport = printed
    transport.send(2, MESSAGES[0])
    assert printed.lines == ["2: RequestVote"]
    assert isinstance(transport, RaftTransport)
    assert isinstance(MemoryTransport(), RaftTransport)
