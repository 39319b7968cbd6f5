"""The actions a node returns."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import MESSAGES, NOT_BYTES, NOT_INTEGERS, OUT_OF_RANGE, check_value

from raft_io import Action, Apply, Message, Send, Sync

pytestmark = pytest.mark.core


def test_every_action_is_a_value() -> None:
    check_value(Send, {"to": 2, "message": MESSAGES[0]}, {"to": 3, "message": MESSAGES[1]})
    args = {"index": 1, "term": 2, "command": b"x"}
    check_value(Apply, args, {"index": 2, "term": 3, "command": b"y"})
    check_value(Sync, {"ticket": 1}, {"ticket": 2})


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_can_be_sent(message: Message) -> None:
    assert Send(2, message).message is message


@pytest.mark.parametrize("bad", [None, "x", 5, b"x", Sync(1)])
def test_only_messages_are_sent(bad: Any) -> None:
    with pytest.raises(TypeError):
        Send(2, bad)


@pytest.mark.parametrize("bad", NOT_INTEGERS)
def test_numbers_are_integers(bad: Any) -> None:
    for make in (
        lambda: Send(bad, MESSAGES[0]),
        lambda: Apply(bad, 1, b""),
        lambda: Apply(1, bad, b""),
        lambda: Sync(bad),
    ):
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize("bad", OUT_OF_RANGE)
def test_numbers_are_in_range(bad: int) -> None:
    for make in (
        lambda: Send(bad, MESSAGES[0]),
        lambda: Apply(bad, 1, b""),
        lambda: Apply(1, bad, b""),
        lambda: Sync(bad),
    ):
        with pytest.raises(ValueError, match="must be in"):
            make()


@pytest.mark.parametrize("bad", NOT_BYTES)
def test_a_command_is_bytes(bad: Any) -> None:
    with pytest.raises(TypeError):
        Apply(1, 1, bad)


def test_actions_match() -> None:
    actions: list[Action] = [Send(2, MESSAGES[0]), Apply(1, 2, b"x"), Sync(3)]
    seen: list[object] = []
    for action in actions:
        match action:
            case Send(to, message):
                seen.append((to, message.term))
            case Apply(index, term, command):
                seen.append((index, term, command))
            case Sync(ticket):
                seen.append(ticket)
    assert seen == [(2, 5), (1, 2, b"x"), 3]
