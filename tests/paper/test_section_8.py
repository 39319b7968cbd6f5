"""Section 8 of the Raft paper (extended version): read-only operations without a write to the log."""

from __future__ import annotations

import pytest
from tests.support import (
    NOOP,
    Cluster,
    ack,
    default_leader,
    heartbeat,
    log_of,
    only,
    receive,
    step,
)

from raft_io import (
    AppendEntriesReply,
    LogEntry,
    NotLeaderError,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadFailed,
    ReadIndex,
    ReadReady,
)

pytestmark = pytest.mark.core


def test_a_follower_tells_of_the_most_recent_leader_that_it_has_heard_from() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    heartbeat(node, sender=3)
    with pytest.raises(NotLeaderError) as caught:
        node.feed(Propose(b"x"))
    assert caught.value.leader == 3


def test_a_read_is_handled_without_writing_anything_into_the_log() -> None:
    node = default_leader()
    step(node, ReadIndex(b"r"))
    actions = receive(node, AppendEntriesReply(1, True, 2, 0, 0, 0, 1))
    assert only(actions, ReadReady) == [ReadReady(b"r", 0)]
    assert node.log.last_index() == 0


def test_precaution_1_a_leader_must_know_which_entries_are_committed_by_a_no_op_of_its_term() -> None:
    node = default_leader(log=log_of([1, 1]))
    assert node.log.entry(3) == LogEntry(2, 3, b"", NOOP)
    step(node, ReadIndex(b"r"))
    actions = receive(node, AppendEntriesReply(2, True, 2, 2, 0, 0, 1))
    assert only(actions, ReadReady) == []
    assert only(ack(node, 2, 3), ReadReady) == [ReadReady(b"r", 3)]


def test_precaution_2_a_leader_must_check_that_it_has_not_been_deposed_before_it_answers() -> None:
    logs: dict[int, RaftLog] = {id_: log_of([]) for id_ in (1, 2, 3)}
    nodes = Cluster(logs)
    nodes.elect(1)
    nodes.step(1, Propose(b"old"))
    nodes.settle()
    nodes.cut = {1}
    nodes.elect(2)
    nodes.step(2, Propose(b"new"))
    nodes.settle()
    assert nodes.nodes[1].is_leader and nodes.nodes[2].is_leader
    nodes.step(1, ReadIndex(b"r"))
    nodes.settle()
    assert nodes.reads[1] == [], "it can exchange no heartbeats with a majority"
    nodes.cut = set()
    nodes.tick(count=6)
    assert nodes.failed_reads[1] == [b"r"]


def test_precaution_2_a_majority_that_answers_suffices() -> None:
    node = default_leader((2, 3, 4, 5))
    step(node, ReadIndex(b"r"))
    receive(node, AppendEntriesReply(1, True, 2, 0, 0, 0, 1))
    actions = receive(node, AppendEntriesReply(1, True, 5, 0, 0, 0, 1))
    assert only(actions, ReadReady) == [ReadReady(b"r", 0)]


def test_a_read_that_a_deposed_leader_could_not_confirm_fails_and_is_never_stale() -> None:
    node = default_leader()
    step(node, ReadIndex(b"r"))
    actions = heartbeat(node, term=2, sender=3)
    assert only(actions, ReadFailed) == [ReadFailed(b"r")]
