"""Section 7 of the Raft paper (extended version): log compaction; figure 13 rule by rule, in its order."""

from __future__ import annotations

import pytest
from tests.support import (
    Cluster,
    ack,
    applied,
    compacted_log,
    elect,
    entries_of,
    heartbeat,
    leader,
    log_of,
    only,
    paper,
    receive,
    reply_of,
    sent,
    sent_to,
    step,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Membership,
    MembershipChanged,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    RestoreSnapshot,
    Snapshot,
    SnapshotTaken,
    Tick,
)

pytestmark = pytest.mark.core

MEMBERS = Membership([1, 2, 3], [4])
STATE = b"x=0,y=9"


def follower(terms: list[int] | None = None, term: int | None = None) -> RaftNode:
    return RaftNode(RaftConfig(1, [2, 3]), log_of(terms or [], term))


def chunk(offset: int, size: int = 3, term: int = 4, index: int = 5, last_term: int = 3) -> InstallSnapshot:
    part = STATE[offset : offset + size]
    return InstallSnapshot(term, 2, index, last_term, MEMBERS, offset, part, offset + len(part) == len(STATE))


# Taking snapshots.


def test_each_server_takes_snapshots_independently_covering_committed_entries_of_its_log() -> None:
    node = follower()
    receive(node, AppendEntries(1, 2, 0, 0, entries_of([1] * 5), 3))
    step(node, SnapshotTaken(5, STATE))
    assert node.log.snapshot() is None, "not what is not committed"
    step(node, SnapshotTaken(3, STATE))
    assert node.log.snapshot() == Snapshot(3, 1, Membership([1, 2, 3]), STATE)


def test_figure_12_it_replaces_the_entries_and_stores_their_last_index_and_term() -> None:
    log = log_of([1, 1, 1, 2, 3, 3, 3])
    node = RaftNode(RaftConfig(1, [2, 3]), log, applied=5)
    step(node, SnapshotTaken(5, STATE))
    saved = log.snapshot()
    assert saved is not None
    assert (saved.index, saved.term) == (5, 3)
    assert [entry.index for entry in log.entries(1, 99)] == [6, 7]


def test_last_included_index_and_term_support_the_consistency_check_of_the_first_entry_after_it() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), compacted_log(Snapshot(5, 3, MEMBERS, STATE)))
    assert reply_of(node, AppendEntries(4, 2, 5, 3, entries_of([4], first=6), 0)).success
    assert node.log.last_index() == 6


def test_the_snapshot_includes_the_latest_configuration_as_of_its_index() -> None:
    node = follower()
    receive(node, chunk(0, 99))
    assert node.membership == MEMBERS


def test_it_may_delete_all_entries_up_through_it_and_any_prior_snapshot() -> None:
    node = leader(())
    for _ in range(4):
        step(node, Propose(b"x"))
    step(node, SnapshotTaken(2, b"first"))
    step(node, SnapshotTaken(4, b"second"))
    assert node.log.snapshot() == Snapshot(4, 1, Membership([1]), b"second")
    assert list(node.log.entries(1, 9)) == []


def test_the_leader_sends_one_when_it_has_discarded_the_next_entry_that_a_follower_needs() -> None:
    node = RaftNode(paper(1, [2, 3]), compacted_log(Snapshot(5, 3, Membership([1, 2, 3]), STATE), [3]))
    elect(node)
    (message,) = sent_to(receive(node, AppendEntriesReply(4, False, 2, 0, 3, 0)), 2)
    assert isinstance(message, InstallSnapshot)
    assert (message.index, message.snapshot_term, message.data, message.done) == (5, 3, STATE, True)
    ack(node, 3, 7)
    (entries,) = sent_to(step(node, Propose(b"y")), 3)
    assert isinstance(entries, AppendEntries), "a follower that keeps up is never sent one"


# Figure 13, InstallSnapshot RPC, receiver implementation.


def test_install_snapshot_1_reply_immediately_if_term_is_older() -> None:
    node = follower([1], term=9)
    reply = reply_of(node, chunk(0))
    assert (reply.term, node.leader, node.log.snapshot()) == (9, None, None)


def test_install_snapshot_2_create_a_new_snapshot_at_the_first_chunk_offset_0() -> None:
    node = follower()
    assert reply_of(node, chunk(3)) == InstallSnapshotReply(4, 1, 5, 0), "nothing to go on with"
    assert reply_of(node, chunk(0)) == InstallSnapshotReply(4, 1, 5, 3)


def test_install_snapshot_3_write_data_into_it_at_the_given_offset() -> None:
    node = follower()
    receive(node, chunk(0))
    assert reply_of(node, chunk(6)) == InstallSnapshotReply(4, 1, 5, 3), "no holes"
    receive(node, chunk(3))
    receive(node, chunk(6))
    saved = node.log.snapshot()
    assert saved is not None and saved.data == STATE


def test_install_snapshot_4_reply_and_wait_for_more_if_done_is_false() -> None:
    node = follower()
    assert reply_of(node, chunk(0)) == InstallSnapshotReply(4, 1, 5, 3)
    assert reply_of(node, chunk(3)) == InstallSnapshotReply(4, 1, 5, 6)
    assert node.log.snapshot() is None


def test_install_snapshot_5_save_it_and_discard_any_with_a_smaller_index() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), compacted_log(Snapshot(2, 1, MEMBERS, b"old")))
    receive(node, chunk(0, 99))
    assert node.log.snapshot() == Snapshot(5, 3, MEMBERS, STATE)


def test_install_snapshot_6_retain_the_entries_that_follow_if_the_log_has_its_last_entry() -> None:
    node = follower([1, 1, 1, 2, 3, 3, 3], term=4)
    actions = receive(node, chunk(0, 99))
    assert node.log.last_index() == 7
    assert sent(actions, AppendEntriesReply) == [AppendEntriesReply(4, True, 1, 5)]
    assert only(actions, RestoreSnapshot) == [], "and what it stands for is applied as entries"
    assert applied(actions) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("terms", [[], [1, 1], [1, 1, 1, 1, 1, 1, 1]])
def test_install_snapshot_7_discard_the_entire_log_otherwise(terms: list[int]) -> None:
    node = follower(terms, term=4)
    receive(node, chunk(0, 99))
    assert (node.log.last_index(), node.log.last_term()) == (5, 3)
    assert list(node.log.entries(1, 99)) == []


def test_install_snapshot_8_reset_the_state_machine_and_load_the_configuration() -> None:
    node = follower()
    actions = receive(node, chunk(0, 99))
    assert only(actions, RestoreSnapshot) == [RestoreSnapshot(Snapshot(5, 3, MEMBERS, STATE))]
    assert only(actions, MembershipChanged) == [MembershipChanged(MEMBERS)]
    assert (node.last_applied, node.membership) == (5, MEMBERS)


# The rest of section 7.


def test_a_snapshot_of_a_prefix_of_what_is_committed_here_has_no_effect() -> None:
    """By retransmission or by mistake."""
    node = follower([1, 1, 1, 1, 1, 1], term=4)
    heartbeat(node, term=4, prev=(6, 1), commit=6)
    actions = receive(node, chunk(0, 99, last_term=1))
    assert (only(actions, RestoreSnapshot), node.last_applied, node.log.snapshot()) == ([], 6, None)


def test_chunks_are_heartbeats_each_restarts_the_election_timer() -> None:
    node = RaftNode(paper(1, [2, 3], election_timeout=(10, 10)))
    for offset in (0, 3, 0, 3):
        receive(node, chunk(offset))
        for _ in range(9):
            assert step(node, Tick()) == []
    assert step(node, Tick()) != []


def test_a_server_that_is_new_to_the_cluster_is_brought_up_to_date_by_a_snapshot() -> None:
    logs: dict[int, RaftLog] = {
        1: compacted_log(Snapshot(5, 3, Membership([1, 2, 3]), STATE), [3, 3]),
        2: compacted_log(Snapshot(5, 3, Membership([1, 2, 3]), STATE), [3, 3]),
        3: log_of([]),
    }
    nodes = Cluster(logs, snapshot_chunk=2)
    nodes.elect(1)
    nodes.tick(1, count=6)
    assert nodes.restored[3] == [Snapshot(5, 3, Membership([1, 2, 3]), STATE)]
    assert nodes.applied[3] == [(6, b"3.6"), (7, b"3.7")]


def test_writing_one_does_not_delay_normal_operations() -> None:
    """The node goes on while the state machine is being captured (copy-on-write is the caller's)."""
    node = leader((), snapshot_threshold=3)
    for _ in range(3):
        step(node, Propose(b"x"))
    for _ in range(2):
        assert applied(step(node, Propose(b"y"))) != []
    step(node, SnapshotTaken(3, STATE))
    assert [entry.index for entry in node.log.entries(1, 9)] == [4, 5]
