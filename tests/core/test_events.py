"""The events a node takes in."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import MESSAGES, NOT_BYTES, NOT_INTEGERS, OUT_OF_RANGE, check_value

from raft_io import Event, Message, Propose, Receive, Synced, SyncFailed, Tick

pytestmark = pytest.mark.core


def test_every_event_is_a_value() -> None:
    check_value(Tick, {}, {})
    check_value(Receive, {"message": MESSAGES[0]}, {"message": MESSAGES[1]})
    check_value(Propose, {"command": b"x"}, {"command": b""})
    check_value(Synced, {"ticket": 3}, {"ticket": 4})
    check_value(SyncFailed, {"ticket": 3, "detail": "EIO"}, {"ticket": 4, "detail": ""})


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_can_be_received(message: Message) -> None:
    assert Receive(message).message is message


@pytest.mark.parametrize("bad", [None, "x", 5, b"x", Tick()])
def test_only_messages_are_received(bad: Any) -> None:
    with pytest.raises(TypeError):
        Receive(bad)


@pytest.mark.parametrize("bad", NOT_BYTES)
def test_a_command_is_bytes(bad: Any) -> None:
    with pytest.raises(TypeError):
        Propose(bad)


def test_a_ticket_is_a_number() -> None:
    for bad in NOT_INTEGERS:
        wrong: Any = bad
        with pytest.raises(TypeError):
            Synced(wrong)
        with pytest.raises(TypeError):
            SyncFailed(wrong, "EIO")
    for number in OUT_OF_RANGE:
        with pytest.raises(ValueError, match="ticket must be in"):
            Synced(number)
        with pytest.raises(ValueError, match="ticket must be in"):
            SyncFailed(number, "EIO")


@pytest.mark.parametrize("bad", [None, 5, b"x"])
def test_a_failure_is_told_in_words(bad: Any) -> None:
    with pytest.raises(TypeError):
        SyncFailed(1, bad)


def test_events_match() -> None:
    events: list[Event] = [Tick(), Propose(b"x"), Receive(MESSAGES[0]), Synced(1), SyncFailed(2, "EIO")]
    seen: list[object] = []
    for event in events:
        match event:
            case Tick():
                seen.append("tick")
            case Propose(command):
                seen.append(command)
            case Receive(message):
                seen.append(message.term)
            case Synced(ticket):
                seen.append(ticket)
            case SyncFailed(ticket, detail):
                seen.append((ticket, detail))
    assert seen == ["tick", b"x", 5, 1, (2, "EIO")]
