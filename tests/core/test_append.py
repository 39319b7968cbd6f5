"""The follower's side of `AppendEntries`, rule by rule and against hostile values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import (
    MEMBERSHIP,
    NOOP,
    TOP,
    applied,
    campaign,
    compacted_log,
    elect,
    entries_of,
    heartbeat,
    log_of,
    paper,
    receive,
    reply_of,
    step,
    terms_in,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    LogEntry,
    Membership,
    RaftNode,
    RequestVoteReply,
    Role,
    Snapshot,
    Tick,
    encode_membership,
)

pytestmark = pytest.mark.core


def follower(terms: list[int], term: int | None = None, applied: int = 0) -> RaftNode:
    return RaftNode(paper(1, [2, 3]), log_of(terms, term), applied=applied)


def message(
    term: int, prev: tuple[int, int], terms: list[int], commit: int = 0, leader: int = 2
) -> AppendEntries:
    return AppendEntries(term, leader, prev[0], prev[1], entries_of(terms, first=prev[0] + 1), commit)


# Refusals and their hints.


def test_a_message_of_an_earlier_term_is_refused_with_the_current_term() -> None:
    node = follower([1, 3], term=5)
    assert reply_of(node, message(4, (1, 1), [4])) == AppendEntriesReply(5, False, 1, 0)
    assert terms_in(node.log) == [1, 3]
    assert (node.term, node.leader) == (5, None)


@pytest.mark.parametrize("prev", [3, 4, 1000, TOP - 1])
def test_a_log_that_is_too_short_hints_at_its_end(prev: int) -> None:
    node = follower([1, 1])
    assert reply_of(node, AppendEntries(1, 2, prev, 1, (), 0)) == AppendEntriesReply(1, False, 1, 0, 3, 0)


@pytest.mark.parametrize(
    ("terms", "prev", "hint"),
    [
        ([1, 1, 2, 2, 2], 5, (3, 2)),
        ([1, 1, 2, 2, 2], 4, (3, 2)),
        ([1, 1, 2, 2, 2], 3, (3, 2)),
        ([1, 1, 2, 2, 2], 2, (1, 1)),
        ([4], 1, (1, 4)),
        ([1, 2, 3, 4, 5, 6], 4, (4, 4)),
        ([2] * 50 + [3] * 50, 99, (51, 3)),
    ],
)
def test_a_conflict_hints_at_the_first_index_of_its_term(
    terms: list[int], prev: int, hint: tuple[int, int]
) -> None:
    node = follower(terms)
    reply = reply_of(node, AppendEntries(9, 2, prev, 9, (), 0))
    assert reply == AppendEntriesReply(9, False, 1, 0, *hint)
    assert terms_in(node.log) == terms, "a refusal removes nothing"


def test_a_hint_is_the_first_index_of_the_term_even_where_it_is_committed() -> None:
    node = follower([1, 1, 1, 1, 1])
    heartbeat(node, term=1, prev=(3, 1), commit=3)
    assert reply_of(node, AppendEntries(2, 3, 5, 2, (), 0)) == AppendEntriesReply(2, False, 1, 0, 1, 1)


# Acceptance.


def test_entries_that_continue_the_log_are_appended() -> None:
    node = follower([1])
    assert reply_of(node, message(2, (1, 1), [1, 2])) == AppendEntriesReply(2, True, 1, 3)
    assert terms_in(node.log) == [1, 1, 2]
    assert (node.leader, node.term) == (2, 2)


def test_entries_of_every_kind_are_kept_as_they_are() -> None:
    node = follower([])
    entries = (
        LogEntry(1, 1, encode_membership(Membership([1, 2, 3])), MEMBERSHIP),
        LogEntry(1, 2, b"", NOOP),
        LogEntry(1, 3, b"x"),
    )
    receive(node, AppendEntries(1, 2, 0, 0, entries, 0))
    assert tuple(node.log.entries(1, 3)) == entries


def test_a_success_reports_what_the_message_proved_not_the_end_of_the_log() -> None:
    node = follower([1, 1, 1, 1])
    assert reply_of(node, AppendEntries(1, 2, 2, 1, (), 0)).match_index == 2
    assert reply_of(node, message(1, (1, 1), [1])).match_index == 2


def test_what_conflicts_is_removed_with_all_that_follows() -> None:
    node = follower([1, 1, 2, 2, 2])
    assert reply_of(node, message(3, (2, 1), [3])).match_index == 3
    assert terms_in(node.log) == [1, 1, 3]


def test_what_agrees_before_the_conflict_stays() -> None:
    node = follower([1, 1, 2, 2])
    receive(node, message(3, (1, 1), [1, 2, 3, 3]))
    assert terms_in(node.log) == [1, 1, 2, 3, 3]


def test_an_old_message_does_not_cut_off_what_came_after_it() -> None:
    node = follower([])
    receive(node, message(1, (0, 0), [1, 1, 1, 1]))
    assert reply_of(node, message(1, (0, 0), [1, 1])).match_index == 2
    assert reply_of(node, AppendEntries(1, 2, 1, 1, (), 0)).match_index == 1
    assert terms_in(node.log) == [1, 1, 1, 1]


def test_a_message_may_overlap_the_log_and_go_beyond_it() -> None:
    node = follower([1, 1])
    assert reply_of(node, message(1, (0, 0), [1, 1, 1, 1])).match_index == 4
    assert terms_in(node.log) == [1, 1, 1, 1]


# Roles and the timer.


def test_a_candidate_follows_the_leader_of_its_term() -> None:
    node = RaftNode(paper(1, [2, 3]))
    campaign(node)
    assert heartbeat(node, term=1, sender=3) != []
    assert (node.role, node.leader, node.term) == (Role.FOLLOWER, 3, 1)
    receive(node, RequestVoteReply(1, True, 2))
    assert node.role is Role.FOLLOWER, "and counts no votes any more"
    assert node.status.voted_for == 1, "but remembers its own"


def test_a_leader_answers_no_other_leader_of_its_term() -> None:
    node = RaftNode(paper(1, [2, 3]))
    elect(node)
    before = node.status
    assert receive(node, message(1, (0, 0), [1])) == []
    assert node.status == before


# Rounds.


@pytest.mark.parametrize("prev", [0, 2, 9])
def test_every_answer_echoes_the_round_of_the_request(prev: int) -> None:
    node = follower([1, 1])
    reply = reply_of(node, AppendEntries(1, 2, prev, min(prev, 1), (), 0, 7))
    assert (reply.round, reply.success) == (7, prev < 9)
    assert reply_of(node, AppendEntries(1, 2, prev, min(prev, 1), (), 0)).round == 0


def test_a_round_of_an_earlier_term_is_not_echoed() -> None:
    node = follower([1, 1], term=5)
    assert reply_of(node, AppendEntries(4, 2, 2, 1, (), 0, 7)) == AppendEntriesReply(5, False, 1, 0)


def test_a_follower_remembers_the_latest_round_of_its_leader() -> None:
    node = follower([])
    for round_, latest in ((3, 3), (2, 3), (0, 3), (8, 8)):
        receive(node, AppendEntries(1, 2, 0, 0, (), 0, round_))
        assert node._state.leader_round == latest
    receive(node, AppendEntries(2, 2, 0, 0, (), 0, 1))
    assert node._state.leader_round == 1, "in another term they count anew"


# Behind a snapshot.


def compacted() -> RaftNode:
    """Its log holds a snapshot at 5, of term 2, and entries 6 and 7 of it."""
    return RaftNode(paper(1, [2, 3]), compacted_log(Snapshot(5, 2, Membership([1, 2, 3]), b""), [2, 2]))


def test_entries_that_a_snapshot_stands_for_are_taken_as_agreed() -> None:
    node = compacted()
    reply = reply_of(node, message(2, (2, 1), [1, 2, 2, 2, 2, 2]))
    assert (reply.success, reply.match_index) == (True, 8)
    assert terms_in(node.log) == [2, 2, 2]


def test_one_that_lies_altogether_before_a_snapshot_changes_nothing() -> None:
    node = compacted()
    reply = reply_of(node, message(2, (0, 0), [1, 1]))
    assert (reply.success, reply.match_index) == (True, 2)
    assert node.log.last_index() == 7


def test_the_entry_at_a_snapshots_index_must_be_of_its_term() -> None:
    node = compacted()
    assert receive(node, message(3, (3, 1), [1, 3, 3])) == []
    assert node.log.last_index() == 7


def test_a_hint_goes_back_no_further_than_a_snapshot() -> None:
    node = compacted()
    assert reply_of(node, AppendEntries(3, 2, 7, 3, (), 0)) == AppendEntriesReply(3, False, 1, 0, 6, 2)


# Commitment.


@pytest.mark.parametrize(("leader_commit", "commit"), [(0, 0), (1, 1), (2, 2), (3, 2), (TOP, 2)])
def test_the_commit_index_is_bounded_by_what_the_message_proved(leader_commit: int, commit: int) -> None:
    node = follower([1, 1, 1, 1])
    heartbeat(node, prev=(2, 1), commit=leader_commit)
    assert node.commit_index == commit


def test_the_commit_index_never_goes_back() -> None:
    node = follower([1, 1, 1])
    heartbeat(node, prev=(3, 1), commit=3)
    assert heartbeat(node, prev=(3, 1), commit=1) != []
    heartbeat(node, prev=(0, 0), commit=3)
    assert node.commit_index == 3


def test_committed_entries_are_applied_once_in_order() -> None:
    node = follower([1, 1, 1])
    assert applied(heartbeat(node, prev=(2, 1), commit=2)) == [1, 2]
    assert applied(heartbeat(node, prev=(2, 1), commit=2)) == []
    assert applied(heartbeat(node, prev=(3, 1), commit=3)) == [3]


# What no correct leader sends.


HOSTILE = {
    "a gap behind prev": [LogEntry(1, 4)],
    "an index twice": [LogEntry(1, 3), LogEntry(1, 3)],
    "a gap between": [LogEntry(1, 3), LogEntry(1, 5)],
    "backwards": [LogEntry(1, 3), LogEntry(1, 2)],
    "the largest index": [LogEntry(1, TOP)],
    "index 0": [LogEntry(1, 0)],
    "terms that fall": [LogEntry(2, 3), LogEntry(1, 4)],
    "a term below prev's": [LogEntry(0, 3)],
    "a term over the message's": [LogEntry(4, 3)],
    "the largest term": [LogEntry(TOP, 3)],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE.keys())
def test_entries_that_do_not_follow_each_other_are_dropped(entries: list[LogEntry]) -> None:
    node = follower([1, 1], term=3)
    assert receive(node, AppendEntries(3, 2, 2, 1, entries, 9)) == []
    assert terms_in(node.log) == [1, 1]
    assert node.commit_index == 0


@pytest.mark.parametrize("command", [b"", b"m", b"\x01" + bytes(12)])
def test_a_membership_that_is_none_or_has_no_voters_is_dropped(command: bytes) -> None:
    node = follower([1, 1], term=3)
    entries = [LogEntry(3, 3, b"x"), LogEntry(3, 4, command, MEMBERSHIP)]
    assert receive(node, AppendEntries(3, 2, 2, 1, entries, 9)) == []
    assert terms_in(node.log) == [1, 1]


def test_entries_of_term_0_are_dropped() -> None:
    node = follower([])
    assert receive(node, AppendEntries(1, 2, 0, 0, [LogEntry(0, 1)], 1)) == []
    assert node.log.last_index() == 0


def test_a_prev_term_over_the_messages_is_refused_like_any_other_that_differs() -> None:
    node = follower([1, 1])
    assert reply_of(node, AppendEntries(2, 2, 2, 3, (), 0)) == AppendEntriesReply(2, False, 1, 0, 1, 1)


@pytest.mark.parametrize("terms", [[2], [2, 2, 2, 2], [1, 2], [1, 1, 1, 2]])
def test_nobody_may_have_a_committed_entry_removed(terms: list[int]) -> None:
    node = follower([1, 1, 1])
    heartbeat(node, prev=(3, 1), commit=3)
    if len(terms) <= 3:
        assert receive(node, message(2, (0, 0), terms)) == []
        assert terms_in(node.log) == [1, 1, 1]
    else:
        receive(node, message(2, (0, 0), terms))
        assert terms_in(node.log)[:3] == [1, 1, 1]
    assert node.commit_index == 3


def test_entries_below_applied_are_held_to_the_same() -> None:
    node = follower([1, 1, 1], applied=2)
    assert receive(node, message(2, (0, 0), [2, 2])) == []
    assert terms_in(node.log) == [1, 1, 1]


numbers = st.one_of(st.integers(0, 6), st.sampled_from([TOP, TOP - 1, TOP - 2, 2**62, 2**62 - 1]))
hostile_entries = st.lists(st.builds(LogEntry, numbers, numbers, st.binary(max_size=3)), max_size=4)
hostile_messages = st.builds(AppendEntries, numbers, numbers, numbers, numbers, hostile_entries, numbers)


@given(st.lists(hostile_messages, max_size=12))
def test_no_message_breaks_an_invariant(messages: list[AppendEntries]) -> None:
    node = follower([1, 1, 2, 3], applied=2)
    committed = list(node.log.entries(1, 2))
    for one in messages:
        receive(node, one)
        step(node, Tick())
        assert list(node.log.entries(1, len(committed))) == committed
        committed = list(node.log.entries(1, node.commit_index))
        terms = terms_in(node.log)
        assert terms == sorted(terms)
