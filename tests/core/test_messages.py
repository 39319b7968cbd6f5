"""The messages: fields and their order, what they refuse, and that each has a term."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import LATER, MESSAGES, NOT_BYTES, NOT_INTEGERS, OUT_OF_RANGE, TOP, check_value

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    LogEntry,
    Membership,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raft_io.core.messages import checked_message, origin_of

pytestmark = pytest.mark.core

VOTE = {"term": 5, "candidate": 2, "last_log_index": 7, "last_log_term": 4}

FIELDS: dict[type[Any], dict[str, Any]] = {
    PreVote: VOTE,
    PreVoteReply: {"term": 5, "vote_granted": True, "sender": 2},
    RequestVote: {**VOTE, "force": True},
    RequestVoteReply: {"term": 5, "vote_granted": True, "sender": 2},
    AppendEntries: {
        "term": 5,
        "leader": 2,
        "prev_log_index": 7,
        "prev_log_term": 4,
        "entries": (LogEntry(4, 8, b"x"),),
        "leader_commit": 6,
        "round": 3,
    },
    AppendEntriesReply: {
        "term": 5,
        "success": False,
        "sender": 2,
        "match_index": 9,
        "conflict_index": 3,
        "conflict_term": 4,
        "round": 6,
    },
    InstallSnapshot: {
        "term": 5,
        "leader": 2,
        "index": 9,
        "snapshot_term": 4,
        "membership": Membership([1, 2, 3]),
        "offset": 6,
        "data": b"abc",
        "done": False,
        "size": 100,
        "checksum": 77,
    },
    InstallSnapshotReply: {"term": 5, "sender": 2, "index": 9, "offset": 6},
    TimeoutNow: {"term": 5, "leader": 2, "round": 8},
    ReadIndexRequest: {"term": 5, "sender": 2, "context": b"read"},
    ReadIndexReply: {"term": 5, "context": b"read", "index": 9},
}


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return {bytes: b"", tuple: (), Membership: Membership([1])}[type(value)]


@pytest.mark.parametrize("cls", FIELDS)
def test_every_message_is_a_value(cls: type[Any]) -> None:
    args = FIELDS[cls]
    check_value(cls, args, {name: other(value) for name, value in args.items()})


def test_there_are_these_messages() -> None:
    assert set(FIELDS) == set(Message.__args__) == {type(message) for message in MESSAGES}  # type: ignore[attr-defined]


@pytest.mark.parametrize("message", [*MESSAGES, *LATER])
def test_every_message_has_a_term(message: Message) -> None:
    assert message.term == 5
    assert checked_message(message) is message


NUMBERS = [(cls, name) for cls, args in FIELDS.items() for name, value in args.items() if type(value) is int]


@pytest.mark.parametrize(("cls", "name"), NUMBERS)
def test_every_number_is_checked_by_the_constructor(cls: type[Any], name: str) -> None:
    for bad in NOT_INTEGERS:
        with pytest.raises(TypeError):
            cls(**{**FIELDS[cls], name: bad})
    for number in OUT_OF_RANGE:
        with pytest.raises(ValueError, match=f"{name} must be in"):
            cls(**{**FIELDS[cls], name: number})
    for number in (0, TOP):
        assert getattr(cls(**{**FIELDS[cls], name: number}), name) == number


@pytest.mark.parametrize("bad", [None, 0, 1, "yes"])
def test_a_flag_is_a_bool(bad: Any) -> None:
    with pytest.raises(TypeError):
        RequestVoteReply(1, bad, 2)
    with pytest.raises(TypeError):
        AppendEntriesReply(1, bad, 2, 3)
    with pytest.raises(TypeError):
        PreVoteReply(1, bad, 2)
    with pytest.raises(TypeError):
        RequestVote(1, 2, 3, 4, bad)
    with pytest.raises(TypeError):
        InstallSnapshot(5, 2, 9, 4, Membership([1]), 0, b"", bad)


def test_the_hint_of_a_reply_is_absent_by_default() -> None:
    reply = AppendEntriesReply(1, True, 2, 3)
    assert (reply.conflict_index, reply.conflict_term) == (0, 0)


def test_entries_are_kept_as_a_tuple_of_whatever_iterable() -> None:
    entry = LogEntry(1, 1)
    for entries in ([entry], iter([entry]), (entry,)):
        assert AppendEntries(1, 1, 0, 0, entries, 0).entries == (entry,)


def test_a_message_does_not_follow_a_list_that_changes_later() -> None:
    entries = [LogEntry(1, 1)]
    message = AppendEntries(1, 1, 0, 0, entries, 0)
    entries.clear()
    assert len(message.entries) == 1


@pytest.mark.parametrize("bad", [None, 5, [5], [None], [(1, 1, b"")], "ab"])
def test_entries_hold_log_entries(bad: Any) -> None:
    with pytest.raises(TypeError):
        AppendEntries(1, 1, 0, 0, bad, 0)


def test_messages_match_by_position() -> None:
    seen: list[tuple[object, ...]] = []
    for message in MESSAGES:
        match message:
            case PreVote(term, candidate, index, last_term):
                seen.append(("pre", term, candidate, index, last_term))
            case PreVoteReply(_, granted, sender):
                seen.append(("pre", granted, sender))
            case RequestVote(term, candidate, index, last_term, force):
                seen.append((term, candidate, index, last_term, force))
            case RequestVoteReply(_, granted, sender):
                seen.append((granted, sender))
            case AppendEntries(_, leader, prev, prev_term, [first, *_], commit, round_):
                seen.append((leader, prev, prev_term, first.index, commit, round_))
            case AppendEntriesReply(_, success, sender, match_index, index, conflict, round_):
                seen.append((success, sender, match_index, index, conflict, round_))
            case InstallSnapshot(_, leader, index, last_term, _, offset, data, done, size, checksum):
                seen.append((leader, index, last_term, offset, data, done, size, checksum))
            case InstallSnapshotReply(_, sender, index, offset):
                seen.append((sender, index, offset))
            case TimeoutNow(_, leader, round_):
                seen.append((leader, round_))
            case ReadIndexRequest(_, sender, context):
                seen.append((sender, context))
            case ReadIndexReply(_, context, index):
                seen.append((context, index))
    assert seen == [
        (5, 2, 7, 4, False),
        (True, 2),
        (2, 7, 4, 8, 6, 0),
        (False, 2, 0, 3, 4, 0),
        ("pre", 5, 2, 7, 4),
        ("pre", False, 2),
        (2, 9, 4, 6, b"abc", True, 9, 77),
        (2, 9, 6),
        (2, 8),
        (2, b"read"),
        (b"read", 7),
    ]


def test_further_fields_come_last_and_are_absent_by_default() -> None:
    """A message with just the fields that api.md names is valid."""
    membership = Membership([1])
    assert RequestVote(5, 2, 7, 4) == RequestVote(5, 2, 7, 4, False)
    assert AppendEntries(1, 2, 0, 0, (), 0) == AppendEntries(1, 2, 0, 0, (), 0, 0)
    assert AppendEntriesReply(1, True, 2, 3) == AppendEntriesReply(1, True, 2, 3, 0, 0, 0)
    assert InstallSnapshot(5, 2, 9, 4, membership, 0, b"", True) == InstallSnapshot(
        5, 2, 9, 4, membership, 0, b"", True, 0, 0
    )
    assert TimeoutNow(5, 2) == TimeoutNow(5, 2, 0)


def test_a_pre_vote_is_no_vote() -> None:
    assert PreVote(5, 2, 7, 4) != RequestVote(5, 2, 7, 4)
    assert PreVoteReply(5, True, 2) != RequestVoteReply(5, True, 2)
    assert len({PreVote(5, 2, 7, 4), RequestVote(5, 2, 7, 4), PreVote(5, 2, 7, 4)}) == 2


@pytest.mark.parametrize("bad", NOT_BYTES)
def test_what_is_opaque_is_bytes(bad: Any) -> None:
    for make in (
        lambda: InstallSnapshot(5, 2, 9, 4, Membership([1]), 0, bad, True),
        lambda: ReadIndexRequest(5, 2, bad),
        lambda: ReadIndexReply(5, bad, 9),
    ):
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize("bad", [None, 5, (1, 2), "ab", frozenset([1])])
def test_a_snapshot_tells_a_membership(bad: Any) -> None:
    with pytest.raises(TypeError):
        InstallSnapshot(5, 2, 9, 4, bad, 0, b"", True)


@pytest.mark.parametrize("bad", [None, "x", 5, b"x", LogEntry(1, 1), Membership([1])])
def test_nothing_else_is_a_message(bad: Any) -> None:
    with pytest.raises(TypeError):
        checked_message(bad)


@pytest.mark.parametrize("message", [*MESSAGES, *LATER])
def test_every_message_says_whom_it_is_from_if_it_does(message: Message) -> None:
    assert origin_of(message) == (-1 if isinstance(message, ReadIndexReply) else 2)
