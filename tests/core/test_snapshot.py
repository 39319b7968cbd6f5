"""Snapshots: when they are asked for, what is made of them, and how a leader sends one (paper, section 7)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import (
    NOOP,
    Contents,
    TailedLog,
    TracingLog,
    ack,
    applied,
    compacted_log,
    drain,
    elect,
    entries_of,
    feed,
    heartbeat,
    leader,
    log_of,
    membership_entry,
    only,
    paper,
    receive,
    sent,
    sent_to,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    InstallSnapshot,
    InstallSnapshotReply,
    LogEntry,
    Membership,
    Message,
    Propose,
    RaftConfig,
    RaftNode,
    Receive,
    RequestVoteReply,
    Snapshot,
    SnapshotTaken,
    StorageError,
    TakeSnapshot,
    Tick,
)
from raft_io.core.types import data_checksum

pytestmark = pytest.mark.core

MEMBERS = Membership([1, 2, 3])
STATE = b"0123456789"


def taken(actions: list[Action]) -> list[int]:
    return [action.index for action in only(actions, TakeSnapshot)]


def alone(**options: Any) -> RaftNode:
    return leader((), **options)


# When one is asked for.


def test_by_default_none_is_asked_for() -> None:
    node = alone()
    assert [taken(step(node, Propose(b"x"))) for _ in range(100)] == [[]] * 100


def test_one_is_asked_for_as_often_as_the_threshold_says() -> None:
    node = alone(snapshot_threshold=3)
    seen = []
    for index in range(1, 10):
        for asked in taken(step(node, Propose(b"x"))):
            seen.append((index, asked))
            step(node, SnapshotTaken(asked, b"state"))
    assert seen == [(3, 3), (6, 6), (9, 9)]


def test_it_comes_right_after_the_last_apply() -> None:
    node = alone(snapshot_threshold=2)
    step(node, Propose(b"a"))
    assert step(node, Propose(b"b")) == [Apply(2, 1, b"b"), TakeSnapshot(2, 1)]


def test_entries_of_every_kind_count() -> None:
    node = RaftNode(RaftConfig(1, [2, 3], snapshot_threshold=4))
    entries = [
        LogEntry(1, 1, b"", NOOP),
        membership_entry(1, 2, MEMBERS),
        LogEntry(1, 3, b"", NOOP),
        LogEntry(1, 4, b"", NOOP),
    ]
    assert taken(receive(node, AppendEntries(1, 2, 0, 0, entries, 3))) == []
    assert taken(heartbeat(node, prev=(4, 1), commit=4)) == [4]


def test_what_comes_at_once_is_one_snapshot_at_its_end() -> None:
    node = RaftNode(RaftConfig(1, [2, 3], snapshot_threshold=3))
    assert taken(receive(node, AppendEntries(1, 2, 0, 0, entries_of([1] * 20), 20))) == [20]


def test_followers_and_learners_take_their_own() -> None:
    node = RaftNode(RaftConfig(1, [2, 3], snapshot_threshold=2))
    assert taken(receive(node, AppendEntries(1, 2, 0, 0, entries_of([1, 1]), 2))) == [2]
    learner = RaftNode(RaftConfig.joining(4).replace(snapshot_threshold=2))
    entries = [membership_entry(1, 1, Membership([1, 2, 3], [4])), *entries_of([1], first=2)]
    assert taken(receive(learner, AppendEntries(1, 2, 0, 0, entries, 2))) == [2]


def test_one_that_is_not_answered_is_asked_for_again_after_another_threshold() -> None:
    node = alone(snapshot_threshold=3)
    asked = [taken(step(node, Propose(b"x"))) for _ in range(9)]
    assert asked == [[], [], [3], [], [], [6], [], [], [9]]


def test_while_one_is_being_taken_another_that_comes_unasked_changes_nothing() -> None:
    node = alone(snapshot_threshold=4)
    for _ in range(4):
        step(node, Propose(b"x"))
    step(node, SnapshotTaken(2, b"unasked"))
    assert taken(step(node, Propose(b"x")) + step(node, Propose(b"x"))) == []
    step(node, SnapshotTaken(4, b"asked"))
    assert node.status.snapshot_index == 4


def test_the_last_snapshot_counts_over_a_restart() -> None:
    log = compacted_log(Snapshot(5, 1, Membership([1]), b""), [1, 1])
    node = RaftNode(RaftConfig(1, snapshot_threshold=3), log)
    assert taken(elect(node)) == [8], "two entries and the NOOP"


def test_applied_counts_from_the_snapshot_not_from_where_the_state_machine_stood() -> None:
    node = RaftNode(RaftConfig(1, snapshot_threshold=3), log_of([1, 1, 1]), applied=3)
    assert taken(step(node, Tick())) == [], "while nothing happens nothing is asked for"
    assert taken(elect(node)) == [3]


def test_a_slice_of_applies_may_end_with_one() -> None:
    node = RaftNode(RaftConfig(1, [2, 3], snapshot_threshold=2, max_apply_bytes=1))
    feed(node, Receive(AppendEntries(1, 2, 0, 0, [LogEntry(1, i, b"x") for i in range(1, 6)], 5)))
    seen = []
    while node.pending:
        actions = drain(node)
        seen.append((applied(actions), taken(actions)))
    assert seen == [([1], []), ([2], [2]), ([3], []), ([4], [4]), ([5], [])]


def test_who_does_not_know_who_takes_part_takes_none() -> None:
    """It joined, and is caught up from the first entry on: its snapshot could not tell the membership."""
    node = RaftNode(RaftConfig.joining(4).replace(snapshot_threshold=2))
    assert taken(receive(node, AppendEntries(1, 2, 0, 0, entries_of([1] * 3), 3))) == []
    step(node, SnapshotTaken(3, b"state"))
    assert node.log.snapshot() is None
    entry = membership_entry(1, 4, Membership([1, 2, 3], [4]))
    assert taken(receive(node, AppendEntries(1, 2, 3, 1, [entry], 4))) == [4]
    step(node, SnapshotTaken(3, b"state"))
    assert node.log.snapshot() is None, "as of 3 nobody is known"
    step(node, SnapshotTaken(4, b"state"))
    assert node.log.snapshot() == Snapshot(4, 1, Membership([1, 2, 3], [4]), b"state")


# What is made of it.


def test_it_is_saved_with_its_term_and_membership_and_the_log_is_compacted() -> None:
    log = log_of([1, 2])
    node = RaftNode(RaftConfig.single(1), log)
    elect(node)
    step(node, SnapshotTaken(2, b"state"))
    assert log.snapshot() == Snapshot(2, 2, Membership([1]), b"state")
    assert (len(log), log.last_index()) == (1, 3), "the NOOP is left"
    assert (node.status.snapshot_index, node.status.snapshot_term) == (2, 2)


def test_an_unasked_one_of_any_applied_index_is_as_good() -> None:
    node = alone()
    for _ in range(5):
        step(node, Propose(b"x"))
    for index in (1, 3, 5):
        step(node, SnapshotTaken(index, b"%d" % index))
        assert node.log.snapshot() == Snapshot(index, 1, Membership([1]), b"%d" % index)


@pytest.mark.parametrize("index", [0, 1, 2, 4, 5, 99, 2**63 - 1])
def test_one_that_is_not_applied_or_not_beyond_the_last_is_ignored(index: int) -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    receive(node, AppendEntries(1, 2, 0, 0, entries_of([1] * 5), 3))
    step(node, SnapshotTaken(2, b"state"))
    before = node.status
    assert step(node, SnapshotTaken(index, b"other")) == []
    assert node.status == before
    assert node.log.snapshot() == Snapshot(2, 1, MEMBERS, b"state")


def test_it_need_not_be_in_memory() -> None:
    node = alone()
    step(node, Propose(b"x"))
    contents: Any = Contents(STATE)
    step(node, SnapshotTaken(1, contents))
    saved = node.log.snapshot()
    assert saved is not None
    assert contents.reads == [], "nobody had to read it"
    assert saved.data is contents


def test_a_log_that_cannot_save_it_kills_the_node() -> None:
    log = TracingLog()
    node = leader((), log)
    step(node, Propose(b"x"))
    with pytest.raises(StorageError, match="TracingLog keeps no snapshots"):
        node.feed(SnapshotTaken(1, b"state"))
    with pytest.raises(StorageError):
        node.drain()


def test_one_that_is_ignored_never_reaches_the_log() -> None:
    node = leader((), TracingLog())
    node.feed(SnapshotTaken(1, b"state"))
    assert node.drain() == []


def test_a_node_starts_at_its_snapshot() -> None:
    log = compacted_log(Snapshot(5, 2, MEMBERS, b"state"), [2, 3])
    node = RaftNode(RaftConfig(1, [7]), log)
    assert (node.commit_index, node.last_applied, node.membership) == (5, 5, MEMBERS)
    assert (node.status.last_index, node.status.last_term, node.status.snapshot_term) == (7, 3, 2)
    node._state.check()
    assert applied(heartbeat(node, term=3, prev=(7, 3), commit=7)) == [6, 7]


def test_or_at_applied_where_that_is_later() -> None:
    log = compacted_log(Snapshot(5, 2, MEMBERS, b"state"), [2, 3])
    assert RaftNode(RaftConfig(1), log, applied=6).last_applied == 6
    assert RaftNode(RaftConfig(1), log, applied=3).last_applied == 5
    with pytest.raises(ValueError, match="applied is 8, but the log ends at index 7"):
        RaftNode(RaftConfig(1), log, applied=8)


# Sending one.


def sending(data: bytes = STATE, chunk: int = 4, peers: tuple[int, ...] = (2, 3)) -> RaftNode:
    """A leader of term 2 with a snapshot at 5 and entries 6 to 8 behind it; 3 has everything, 2 nothing."""
    members = Membership([1, *peers])
    log = compacted_log(Snapshot(5, 1, members, data), [1, 1])
    node = RaftNode(paper(1, peers, snapshot_chunk=chunk, election_timeout=(10, 10)), log)
    elect(node)
    for peer in peers[1:]:
        ack(node, peer, 8)
    return node


def pieces(actions: list[Action], to: int = 2) -> list[InstallSnapshot]:
    return [message for message in sent_to(actions, to) if isinstance(message, InstallSnapshot)]


def refuse(node: RaftNode, sender: int = 2) -> list[Action]:
    """A follower with an empty log answers the probe."""
    return receive(node, AppendEntriesReply(2, False, sender, 0, 1, 0))


def wants(node: RaftNode, offset: int, index: int = 5, sender: int = 2) -> list[Action]:
    return receive(node, InstallSnapshotReply(node.term, sender, index, offset))


def test_a_follower_whose_entries_are_compacted_away_is_sent_the_snapshot() -> None:
    node = sending(chunk=100)
    assert pieces(refuse(node)) == [
        InstallSnapshot(2, 1, 5, 1, MEMBERS, 0, STATE, True, 10, data_checksum(STATE)),
    ]
    assert node.status.followers[0].state == "snapshot"


def test_it_goes_piece_by_piece_one_at_a_time() -> None:
    node = sending()
    (first,) = pieces(refuse(node))
    assert (first.offset, first.data, first.done, first.size) == (0, b"0123", False, 10)
    assert pieces(step(node, Tick())) == []
    (second,) = pieces(wants(node, 4))
    assert (second.offset, second.data, second.done) == (4, b"4567", False)
    (third,) = pieces(wants(node, 8))
    assert (third.offset, third.data, third.done) == (8, b"89", True)
    assert node.status.followers[0].snapshot_offset == 8


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_the_last_piece_says_so(size: int, count: int) -> None:
    node = sending(STATE[:size])
    seen = pieces(refuse(node))
    while not seen[-1].done:
        seen += pieces(wants(node, seen[-1].offset + len(seen[-1].data)))
    assert len(seen) == count
    assert b"".join(piece.data for piece in seen) == STATE[:size]


def test_contents_that_are_not_in_memory_are_only_ever_read_in_pieces() -> None:
    contents: Any = Contents(STATE, checksum=99)
    log = compacted_log(Snapshot(5, 1, MEMBERS, contents), [1])
    node = RaftNode(paper(1, [2, 3], snapshot_chunk=4), log)
    elect(node)
    (first,) = pieces(refuse(node))
    assert (first.size, first.checksum) == (10, 99)
    wants(node, 4)
    wants(node, 8)
    assert contents.reads == [(0, 4), (4, 4), (8, 4)]


def test_contents_that_give_back_less_than_they_said_are_a_bug() -> None:
    contents: Any = Contents(STATE)
    contents.size = 20
    log = compacted_log(Snapshot(5, 1, MEMBERS, contents), [1])
    node = RaftNode(paper(1, [2, 3], snapshot_chunk=15), log)
    elect(node)
    with pytest.raises(AssertionError, match="a snapshot is as long as it says"):
        refuse(node)


def test_contents_that_cannot_be_read_kill_the_node() -> None:
    class Broken(Contents):
        def read(self, offset: int, size: int, /) -> bytes:
            raise StorageError("read a snapshot", "Input/output error")

    contents: Any = Broken(STATE)
    log = compacted_log(Snapshot(5, 1, MEMBERS, contents), [1])
    node = RaftNode(paper(1, [2, 3]), log)
    elect(node)
    with pytest.raises(StorageError, match="Input/output error"):
        refuse(node)


def test_a_piece_that_is_not_answered_is_sent_again_after_the_shortest_timeout() -> None:
    node = sending()
    refuse(node)
    seen = []
    for tick in range(1, 31):
        if pieces(step(node, Tick())):
            seen.append(tick)
    assert seen == [12, 24], "with the next heartbeat after 10 ticks"


def test_while_it_travels_no_entries_follow_but_heartbeats_do() -> None:
    node = sending()
    refuse(node)
    for _ in range(5):
        assert sent_to(step(node, Propose(b"x")), 2) == []
    beats = [m for _ in range(3) for m in sent_to(step(node, Tick()), 2)]
    assert beats == [AppendEntries(2, 1, 5, 1, (), node.commit_index)]


def test_refusals_of_those_heartbeats_do_not_disturb_it() -> None:
    node = sending()
    refuse(node)
    for _ in range(5):
        assert pieces(refuse(node)) == []
    assert node.status.followers[0].state == "snapshot"


def test_once_it_is_installed_the_entries_behind_it_follow() -> None:
    node = sending()
    refuse(node)
    (entries,) = sent_to(ack(node, 2, 5), 2)
    assert isinstance(entries, AppendEntries)
    assert (entries.prev_log_index, [entry.index for entry in entries.entries]) == (5, [6, 7, 8])
    assert node.status.followers[0].state == "replicate"


def test_a_follower_that_has_it_already_says_so_and_is_sent_entries() -> None:
    node = sending()
    refuse(node)
    (entries,) = sent_to(ack(node, 2, 7), 2)
    assert isinstance(entries, AppendEntries)
    assert [entry.index for entry in entries.entries] == [8]


IGNORED: list[Message] = [
    InstallSnapshotReply(2, 9, 5, 4),  # a stranger
    InstallSnapshotReply(1, 2, 5, 4),  # of an earlier term
    InstallSnapshotReply(2, 2, 4, 4),  # of another snapshot
    InstallSnapshotReply(2, 2, 5, 11),  # beyond its end
    InstallSnapshotReply(2, 2, 5, 0),  # for the piece under way
]


@pytest.mark.parametrize("message", IGNORED, ids=repr)
def test_what_does_not_move_it_on_is_ignored(message: Message) -> None:
    node = sending()
    refuse(node)
    assert pieces(receive(node, message)) == []
    assert node.status.followers[0].snapshot_offset == 0


def test_who_leads_no_more_sends_no_more() -> None:
    node = sending()
    refuse(node)
    receive(node, RequestVoteReply(9, False, 3))
    assert receive(node, InstallSnapshotReply(9, 2, 5, 4)) == []


def test_a_follower_that_lost_what_it_had_begins_anew() -> None:
    node = sending()
    refuse(node)
    wants(node, 4)
    (again,) = pieces(wants(node, 0))
    assert (again.offset, again.data) == (0, b"0123")


def test_a_newer_snapshot_changes_nothing_for_one_that_is_under_way() -> None:
    node = sending()
    refuse(node)
    step(node, SnapshotTaken(8, b"another state"))
    (second,) = pieces(wants(node, 4))
    assert (second.index, second.data) == (5, b"4567")
    actions = ack(node, 2, 5)
    assert [(piece.index, piece.offset) for piece in pieces(actions)] == [(8, 0)], "6 is gone by now"


def test_two_followers_are_sent_it_each_at_its_own_pace() -> None:
    log = compacted_log(Snapshot(5, 1, Membership([1, 2, 3, 4]), STATE), [1])
    node = RaftNode(paper(1, snapshot_chunk=4), log)
    elect(node)
    for peer in (2, 3):
        assert pieces(refuse(node, peer), peer)[0].offset == 0
    assert pieces(wants(node, 4, sender=3), 3)[0].offset == 4
    assert pieces(wants(node, 8, sender=3), 3)[0].offset == 8
    assert [(f.state, f.snapshot_offset) for f in node.status.followers] == [
        ("snapshot", 0),
        ("snapshot", 8),
        ("probe", 0),
    ]


def test_a_tail_behind_the_snapshot_spares_a_slightly_slow_follower_the_snapshot() -> None:
    node = RaftNode(paper(1, [2, 3]), TailedLog([1] * 8))
    elect(node)
    (entries,) = sent_to(receive(node, AppendEntriesReply(2, False, 2, 0, 4, 0)), 2)
    assert isinstance(entries, AppendEntries)
    assert [entry.index for entry in entries.entries] == [4, 5, 6, 7, 8, 9]


def test_what_is_heard_of_a_follower_by_then_keeps_the_leader_in_office() -> None:
    node = sending()
    refuse(node)
    step(node, Tick())
    wants(node, 4)
    assert node.status.followers[0].silent == 0
    assert sent(step(node, Tick()), InstallSnapshot) == []
