"""A node that must not campaign: one that has lost its disk, until it knows that its earlier life is over."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import receive, sent, step

from raft_io import (
    AppendEntries,
    LogEntry,
    RaftConfig,
    RaftNode,
    RequestVote,
    RequestVoteReply,
    Role,
    Tick,
    TimeoutNow,
)
from raft_io.core.members import encode_membership
from raft_io.core.types import EntryKind, Membership

pytestmark = pytest.mark.core


def rejoining() -> RaftNode:
    """Node 1, empty, has been sent the beginning of the log: there it was the only voter."""
    node = RaftNode(RaftConfig.joining(1))
    node.passive = True
    alone = LogEntry(1, 1, encode_membership(Membership([1], [2])), EntryKind.MEMBERSHIP)
    receive(node, AppendEntries(5, 2, 0, 0, [alone], 1))
    assert node.membership == Membership([1], [2])
    return node


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_passive_node_never_campaigns_though_its_log_makes_it_the_only_voter(pre_vote: bool) -> None:
    node = rejoining()
    for _ in range(200):
        assert step(node, Tick()) == []
    assert (node.role, node.term, node.leader) == (Role.FOLLOWER, 5, 2)
    assert receive(node, TimeoutNow(5, 2)) == []


def test_it_votes_for_others_and_campaigns_once_it_may() -> None:
    node = rejoining()
    for _ in range(20):
        step(node, Tick())
    (reply,) = sent(receive(node, RequestVote(6, 2, 9, 5)), RequestVoteReply)
    assert reply.vote_granted
    node.passive = False
    for _ in range(40):
        step(node, Tick())
    assert node.is_leader


def test_passive_is_a_bool() -> None:
    node = RaftNode(RaftConfig.single(1))
    assert not node.passive
    wrong: Any = 1
    with pytest.raises(TypeError):
        node.passive = wrong
