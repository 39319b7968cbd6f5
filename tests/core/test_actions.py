"""The actions a node returns."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import MESSAGES, NOT_BYTES, NOT_INTEGERS, OUT_OF_RANGE, check_value

from raft_io import (
    Action,
    Apply,
    Membership,
    MembershipChanged,
    MembershipCommitted,
    Message,
    ReadFailed,
    ReadReady,
    RestoreSnapshot,
    Send,
    Snapshot,
    Sync,
    TakeSnapshot,
)

pytestmark = pytest.mark.core

ONE, TWO = Membership([1, 2, 3]), Membership([1], [2])
SNAPSHOT = Snapshot(7, 2, ONE, b"state")

FIELDS: dict[type[Any], tuple[dict[str, Any], dict[str, Any]]] = {
    Send: ({"to": 2, "message": MESSAGES[0]}, {"to": 3, "message": MESSAGES[1]}),
    Apply: ({"index": 1, "term": 2, "command": b"x"}, {"index": 2, "term": 3, "command": b"y"}),
    ReadReady: ({"context": b"read", "index": 7}, {"context": b"", "index": 8}),
    ReadFailed: ({"context": b"read"}, {"context": b""}),
    TakeSnapshot: ({"index": 7, "term": 2}, {"index": 8, "term": 3}),
    RestoreSnapshot: ({"snapshot": SNAPSHOT}, {"snapshot": Snapshot(8, 2, ONE, b"state")}),
    MembershipChanged: ({"membership": ONE}, {"membership": TWO}),
    MembershipCommitted: ({"membership": ONE, "index": 5}, {"membership": TWO, "index": 6}),
    Sync: ({"ticket": 1}, {"ticket": 2}),
}
"""Every action: its arguments in order, and others."""


@pytest.mark.parametrize("cls", FIELDS)
def test_every_action_is_a_value(cls: type[Any]) -> None:
    check_value(cls, *FIELDS[cls])


def test_there_are_these_actions() -> None:
    assert set(FIELDS) == set(Action.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_can_be_sent(message: Message) -> None:
    assert Send(2, message).message is message


@pytest.mark.parametrize("bad", [None, "x", 5, b"x", Sync(1)])
def test_only_messages_are_sent(bad: Any) -> None:
    with pytest.raises(TypeError):
        Send(2, bad)


NUMBERS = [
    (cls, name) for cls, (args, _) in FIELDS.items() for name, value in args.items() if type(value) is int
]


@pytest.mark.parametrize(("cls", "name"), NUMBERS)
def test_numbers_are_integers_in_range(cls: type[Any], name: str) -> None:
    args, _ = FIELDS[cls]
    for bad in NOT_INTEGERS:
        with pytest.raises(TypeError):
            cls(**{**args, name: bad})
    for number in OUT_OF_RANGE:
        with pytest.raises(ValueError, match=f"{name} must be in"):
            cls(**{**args, name: number})


@pytest.mark.parametrize("bad", NOT_BYTES)
def test_what_is_opaque_is_bytes(bad: Any) -> None:
    for make in (lambda: Apply(1, 1, bad), lambda: ReadReady(bad, 1), lambda: ReadFailed(bad)):
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize("bad", [None, 5, b"state", (7, 2), ONE])
def test_only_a_snapshot_is_restored(bad: Any) -> None:
    with pytest.raises(TypeError):
        RestoreSnapshot(bad)


@pytest.mark.parametrize("bad", [None, 5, (1, 2), frozenset([1]), SNAPSHOT])
def test_a_membership_is_one(bad: Any) -> None:
    with pytest.raises(TypeError):
        MembershipChanged(bad)
    with pytest.raises(TypeError):
        MembershipCommitted(bad, 1)


def test_actions_match() -> None:
    actions: list[Action] = [
        Send(2, MESSAGES[0]),
        Apply(1, 2, b"x"),
        Sync(3),
        ReadReady(b"a", 4),
        ReadFailed(b"b"),
        TakeSnapshot(5, 6),
        RestoreSnapshot(SNAPSHOT),
        MembershipChanged(ONE),
        MembershipCommitted(TWO, 8),
    ]
    seen: list[object] = []
    for action in actions:
        match action:
            case Send(to, message):
                seen.append((to, message.term))
            case Apply(index, term, command):
                seen.append((index, term, command))
            case Sync(ticket):
                seen.append(ticket)
            case ReadReady(context, index):
                seen.append((context, index))
            case ReadFailed(context):
                seen.append(context)
            case TakeSnapshot(index, term):
                seen.append((index, term))
            case RestoreSnapshot(Snapshot(index, term, _, data)):
                seen.append((index, term, data))
            case MembershipChanged(membership):
                seen.append(membership)
            case MembershipCommitted(membership, index):
                seen.append((membership, index))
    assert seen == [
        (2, 5),
        (1, 2, b"x"),
        3,
        (b"a", 4),
        b"b",
        (5, 6),
        (7, 2, b"state"),
        ONE,
        (TWO, 8),
    ]
