"""The status of a node."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import ack, check_value, heartbeat, leader, step

from raft_io import FollowerStatus, Membership, Propose, RaftConfig, RaftNode, Role, Status

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
    }
    other: dict[str, Any] = {name: value + 1 if type(value) is int else () for name, value in args.items()}
    other |= {"role": Role.FOLLOWER, "membership": Membership([1])}
    check_value(Status, args, other)


def test_follower_status_is_a_value() -> None:
    args = {"id": 2, "state": "probe", "match_index": 3, "next_index": 4, "inflight": 1}
    other = {"id": 3, "state": "replicate", "match_index": 4, "next_index": 5, "inflight": 0}
    check_value(FollowerStatus, args, other)


def test_a_fresh_node() -> None:
    assert RaftNode(RaftConfig(1, [3, 2])).status == Status(
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
    node = RaftNode(RaftConfig(1, [2, 3]))
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


def test_a_status_does_not_change_with_the_node() -> None:
    node = leader()
    before = node.status
    step(node, Propose(b"x"))
    assert before.last_index == 0 and node.status.last_index == 1
