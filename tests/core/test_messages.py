"""The messages: fields and their order, what they refuse, and that each has a term."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import MESSAGES, NOT_INTEGERS, OUT_OF_RANGE, TOP, check_value

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    LogEntry,
    Message,
    RequestVote,
    RequestVoteReply,
)

pytestmark = pytest.mark.core

FIELDS: dict[type[Any], dict[str, Any]] = {
    RequestVote: {"term": 5, "candidate": 2, "last_log_index": 7, "last_log_term": 4},
    RequestVoteReply: {"term": 5, "vote_granted": True, "sender": 2},
    AppendEntries: {
        "term": 5,
        "leader": 2,
        "prev_log_index": 7,
        "prev_log_term": 4,
        "entries": (LogEntry(4, 8, b"x"),),
        "leader_commit": 6,
    },
    AppendEntriesReply: {
        "term": 5,
        "success": False,
        "sender": 2,
        "match_index": 9,
        "conflict_index": 3,
        "conflict_term": 4,
    },
}


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else ()


@pytest.mark.parametrize("cls", FIELDS)
def test_every_message_is_a_value(cls: type[Any]) -> None:
    args = FIELDS[cls]
    check_value(cls, args, {name: other(value) for name, value in args.items()})


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_has_a_term(message: Message) -> None:
    assert message.term == 5


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
            case RequestVote(term, candidate, index, last_term):
                seen.append((term, candidate, index, last_term))
            case RequestVoteReply(_, granted, sender):
                seen.append((granted, sender))
            case AppendEntries(_, leader, prev, prev_term, [first, *_], commit):
                seen.append((leader, prev, prev_term, first.index, commit))
            case AppendEntriesReply(_, success, sender, match_index, index, conflict):
                seen.append((success, sender, match_index, index, conflict))
    assert seen == [(5, 2, 7, 4), (True, 2), (2, 7, 4, 8, 6), (False, 2, 0, 3, 4)]
