"""A disk that hangs while pre-votes are under way."""

from __future__ import annotations

import pytest
from tests.support import drain, feed

from raft_io import PreVoteReply, RaftConfig, RaftNode, Receive, Role, Synced, Tick

pytestmark = pytest.mark.core


def test_pre_votes_that_come_while_the_disk_hangs_start_no_campaign() -> None:
    config = RaftConfig(1, [2, 3]).with_election_timeout(10, 20)
    node = RaftNode(config, deferred_sync=True)
    feed(node, Receive(PreVoteReply(5, False, 2)))  # a term to write down, under a ticket
    drain(node)
    while not node._state.prevoting:
        feed(node, Tick())
        drain(node)
    while not node._state.now > 20:
        feed(node, Tick())
    feed(node, Receive(PreVoteReply(6, True, 2)))
    assert (node.role, node.term) == (Role.FOLLOWER, 5)

    feed(node, Synced(1))
    feed(node, Receive(PreVoteReply(6, True, 3)))
    assert (node.role, node.term) == (Role.CANDIDATE, 6)
