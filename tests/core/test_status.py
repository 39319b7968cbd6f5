"""The status of a node."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import ack, check_value, drain, feed, heartbeat, leader, paper, receive, step

from raft_io import (
    AppendEntriesReply,
    ChangeMembership,
    FollowerStatus,
    InstallSnapshotReply,
    Membership,
    Propose,
    RaftConfig,
    RaftNode,
    Role,
    Snapshot,
    SnapshotTaken,
    Status,
    Tick,
    TransferLeadership,
)

pytestmark = pytest.mark.core


def test_status_is_a_value() -> None:
    args: dict[str, Any] = {
        "id": 1,
        "role": Role.LEADER,
        "term": 2,
        "leader": 1,
        "voted_for": 1,
        "commit_index": 3,
        "last_applied": 3,
        "last_index": 5,
        "last_term": 2,
        "stable_index": 4,
        "membership": Membership([1, 2]),
        "uncommitted_bytes": 6,
        "followers": (FollowerStatus(2, "probe", 0, 1, 0),),
        "snapshot_index": 2,
        "snapshot_term": 1,
        "transfer_target": 3,
    }
    other: dict[str, Any] = {name: value + 1 if type(value) is int else () for name, value in args.items()}
    other |= {"role": Role.FOLLOWER, "membership": Membership([1])}
    check_value(Status, args, other)


def test_follower_status_is_a_value() -> None:
    args: dict[str, Any] = {"id": 2, "state": "probe", "match_index": 3, "next_index": 4, "inflight": 1}
    args |= {"part": "voter", "silent": 5, "snapshot_offset": 6}
    other: dict[str, Any] = {"id": 3, "state": "replicate", "match_index": 4, "next_index": 5, "inflight": 0}
    other |= {"part": "learner", "silent": 6, "snapshot_offset": 7}
    check_value(FollowerStatus, args, other)
    assert FollowerStatus(2, "probe", 3, 4, 1) == FollowerStatus(2, "probe", 3, 4, 1, "voter", 0, 0)


def test_a_fresh_node() -> None:
    assert RaftNode(paper(1, [3, 2])).status == Status(
        id=1,
        role=Role.FOLLOWER,
        term=0,
        leader=None,
        voted_for=None,
        commit_index=0,
        last_applied=0,
        last_index=0,
        last_term=0,
        stable_index=0,
        membership=Membership([1, 2, 3]),
        uncommitted_bytes=0,
        followers=(),
    )


def test_a_follower_tells_its_leader_and_no_progress() -> None:
    node = RaftNode(paper(1, [2, 3]))
    heartbeat(node, term=4, sender=3)
    status = node.status
    assert (status.role, status.term, status.leader, status.voted_for) == (Role.FOLLOWER, 4, 3, None)
    assert status.followers == ()


def test_a_leader_tells_the_progress_of_each_follower() -> None:
    node = leader([3, 2])
    step(node, Propose(b"abc"))
    step(node, Propose(b"de"))
    ack(node, 3, 1)
    status = node.status
    assert (status.leader, status.voted_for, status.commit_index, status.last_index) == (1, 1, 1, 2)
    assert status.uncommitted_bytes == 2
    assert status.followers == (
        FollowerStatus(id=2, state="probe", match_index=0, next_index=1, inflight=1),
        FollowerStatus(id=3, state="replicate", match_index=1, next_index=3, inflight=1),
    )


def test_a_leader_tells_which_part_each_member_plays() -> None:
    node = leader([2, 3])
    feed(node, Propose(b"x"))
    drain(node)
    ack(node, 2, 1)
    feed(node, ChangeMembership([1, 4, 5], [3, 6]))
    parts = {follower.id: follower.part for follower in node.status.followers}
    assert parts == {2: "outgoing", 3: "outgoing", 4: "voter", 5: "voter", 6: "learner"}
    assert node.status.membership == node.membership == Membership([1, 4, 5], [3, 6], [1, 2, 3])


def test_a_leader_tells_for_how_long_each_was_silent() -> None:
    node = leader([2, 3])
    for _ in range(4):
        step(node, Tick())
    ack(node, 3, 0)
    step(node, Tick())
    assert [follower.silent for follower in node.status.followers] == [5, 1]


def test_a_leader_tells_to_whom_it_hands_over() -> None:
    node = leader([2, 3])
    assert node.status.transfer_target is None
    step(node, TransferLeadership(3))
    assert node.status.transfer_target == 3


def test_a_node_tells_its_last_snapshot() -> None:
    node = leader([])
    step(node, Propose(b"x"))
    assert (node.status.snapshot_index, node.status.snapshot_term) == (0, 0)
    step(node, SnapshotTaken(1, b"state"))
    assert (node.status.snapshot_index, node.status.snapshot_term) == (1, 1)
    again = RaftNode(RaftConfig.single(1), node.log)
    assert (again.status.snapshot_index, again.status.snapshot_term) == (1, 1)
    assert (again.commit_index, again.last_applied) == (1, 1)


def test_a_leader_tells_how_much_of_a_snapshot_a_follower_has() -> None:
    node = leader([])
    step(node, Propose(b"x"))
    step(node, SnapshotTaken(1, b"state"))
    node.log.save_snapshot(Snapshot(2, 1, Membership([1, 3]), b"state"))
    other = leader([], node.log, snapshot_chunk=2)
    receive(other, AppendEntriesReply(2, False, 3, 0, 1, 0))
    (follower,) = other.status.followers
    assert (follower.state, follower.snapshot_offset) == ("snapshot", 0)
    receive(other, InstallSnapshotReply(2, 3, 2, 4))
    assert other.status.followers[0].snapshot_offset == 4


def test_a_status_does_not_change_with_the_node() -> None:
    node = leader()
    before = node.status
    step(node, Propose(b"x"))
    assert before.last_index == 0 and node.status.last_index == 1
