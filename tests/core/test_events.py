"""The events a node takes in."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import MESSAGES, NOT_BYTES, NOT_INTEGERS, OUT_OF_RANGE, Contents, check_value

from raft_io import (
    ChangeMembership,
    Event,
    Message,
    Propose,
    ReadIndex,
    Receive,
    SnapshotTaken,
    Synced,
    SyncFailed,
    Tick,
    TransferLeadership,
)

pytestmark = pytest.mark.core

FIELDS: dict[type[Any], tuple[dict[str, Any], dict[str, Any]]] = {
    Tick: ({}, {}),
    Receive: ({"message": MESSAGES[0]}, {"message": MESSAGES[1]}),
    Propose: ({"command": b"x"}, {"command": b""}),
    ReadIndex: ({"context": b"read"}, {"context": b""}),
    ChangeMembership: (
        {"voters": frozenset([1, 2]), "learners": frozenset([3])},
        {"voters": frozenset([1]), "learners": frozenset()},
    ),
    TransferLeadership: ({"target": 2}, {"target": 3}),
    SnapshotTaken: ({"index": 7, "data": b"state"}, {"index": 8, "data": b""}),
    Synced: ({"ticket": 3}, {"ticket": 4}),
    SyncFailed: ({"ticket": 3, "detail": "EIO"}, {"ticket": 4, "detail": ""}),
}
"""Every event: its arguments in order, and others."""


@pytest.mark.parametrize("cls", FIELDS)
def test_every_event_is_a_value(cls: type[Any]) -> None:
    check_value(cls, *FIELDS[cls])


def test_there_are_these_events() -> None:
    assert set(FIELDS) == set(Event.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_can_be_received(message: Message) -> None:
    assert Receive(message).message is message


@pytest.mark.parametrize("bad", [None, "x", 5, b"x", Tick()])
def test_only_messages_are_received(bad: Any) -> None:
    with pytest.raises(TypeError):
        Receive(bad)


@pytest.mark.parametrize("bad", NOT_BYTES)
def test_what_is_opaque_is_bytes(bad: Any) -> None:
    for make in (lambda: Propose(bad), lambda: ReadIndex(bad)):
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize("bad", [None, "x", 5, bytearray(b"x"), memoryview(b"x"), [1], object])
def test_a_snapshot_is_bytes_or_something_to_read(bad: Any) -> None:
    with pytest.raises(TypeError):
        SnapshotTaken(1, bad)


def test_a_snapshot_need_not_be_in_memory() -> None:
    contents: Any = Contents(b"state")
    assert SnapshotTaken(7, contents).data is contents
    assert SnapshotTaken(7, contents) == SnapshotTaken(7, contents)


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


@pytest.mark.parametrize("bad", [None, 5, b"x"])
def test_a_failure_is_told_in_words(bad: Any) -> None:
    with pytest.raises(TypeError):
        SyncFailed(1, bad)


# ChangeMembership.


def test_a_change_takes_any_iterable_and_drops_duplicates() -> None:
    change = ChangeMembership(iter([3, 1, 3]), (i for i in (5, 4)))
    assert (change.voters, change.learners) == (frozenset([1, 3]), frozenset([4, 5]))
    assert isinstance(change.voters, frozenset) and isinstance(change.learners, frozenset)
    assert ChangeMembership([1]) == ChangeMembership([1], ())


def test_the_repr_of_a_change_lists_the_ids_in_ascending_order() -> None:
    assert repr(ChangeMembership([30, 1, 200], [9, 8])) == (
        "ChangeMembership(voters=[1, 30, 200], learners=[8, 9])"
    )


def test_the_ids_of_a_change_are_checked_by_its_constructor() -> None:
    for bad in NOT_INTEGERS:
        wrong: Any = bad
        with pytest.raises(TypeError):
            ChangeMembership([1, wrong])
        with pytest.raises(TypeError):
            ChangeMembership([1], [wrong])
    for number in OUT_OF_RANGE:
        with pytest.raises(ValueError, match="an id in voters must be in"):
            ChangeMembership([number])
        with pytest.raises(ValueError, match="an id in learners must be in"):
            ChangeMembership([1], [number])


@pytest.mark.parametrize("bad", [None, 5])
def test_a_change_takes_iterables(bad: Any) -> None:
    with pytest.raises(TypeError):
        ChangeMembership(bad)
    with pytest.raises(TypeError):
        ChangeMembership([1], bad)


def test_what_a_leader_would_refuse_can_still_be_said() -> None:
    assert ChangeMembership([]).voters == frozenset()
    assert ChangeMembership([1, 2], [2]).learners == {2}


def test_events_match() -> None:
    events: list[Event] = [
        Tick(),
        Propose(b"x"),
        Receive(MESSAGES[0]),
        Synced(1),
        SyncFailed(2, "EIO"),
        ReadIndex(b"read"),
        ChangeMembership([1], [2]),
        TransferLeadership(3),
        SnapshotTaken(4, b"state"),
    ]
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
            case ReadIndex(context):
                seen.append(context)
            case ChangeMembership(voters, learners):
                seen.append((voters, learners))
            case TransferLeadership(target):
                seen.append(target)
            case SnapshotTaken(index, data):
                seen.append((index, data))
    assert seen == [
        "tick",
        b"x",
        5,
        1,
        (2, "EIO"),
        b"read",
        (frozenset([1]), frozenset([2])),
        3,
        (4, b"state"),
    ]
