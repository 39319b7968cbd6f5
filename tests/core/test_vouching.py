"""Leases bind the voters that vouched for them, whatever else they hear (thesis, section 6.4.1)."""

from __future__ import annotations

import pytest
from tests.support import receive, reply_of, sent, step

from raft_io import (
    AppendEntries,
    InstallSnapshot,
    Membership,
    PreVote,
    PreVoteReply,
    RaftConfig,
    RaftNode,
    Receive,
    RequestVote,
    RequestVoteReply,
    Tick,
)

pytestmark = pytest.mark.core

SHORTEST = 10


def follower(*, lease_reads: bool = True) -> RaftNode:
    """Node 2, which has just heard node 1 lead term 1."""
    config = RaftConfig(2, [1, 3], lease_reads=lease_reads).with_election_timeout(SHORTEST, SHORTEST)
    node = RaftNode(config)
    receive(node, AppendEntries(1, 1, 0, 0, (), 0, 1))
    return node


def learn(node: RaftNode, term: int) -> None:
    """An answer to an old question tells of a later term."""
    receive(node, PreVoteReply(term, False, 3))
    assert node.term == term and node.leader is None


def ticks(node: RaftNode, count: int) -> None:
    for _ in range(count):
        step(node, Tick())


def test_a_voter_that_learns_of_a_later_term_is_bound_by_the_lease_all_the_same() -> None:
    node = follower()
    learn(node, 2)
    assert reply_of(node, RequestVote(2, 3, 0, 0)) == RequestVoteReply(2, False, 2)
    assert reply_of(node, PreVote(3, 3, 0, 0)) == PreVoteReply(2, False, 2)
    assert receive(node, RequestVote(3, 3, 0, 0)) == [] and node.term == 2


def test_it_is_bound_for_the_shortest_election_timeout_and_no_longer() -> None:
    node = follower()
    learn(node, 2)
    ticks(node, SHORTEST - 1)
    assert reply_of(node, RequestVote(2, 3, 0, 0)) == RequestVoteReply(2, False, 2)
    ticks(node, 1)
    assert reply_of(node, RequestVote(3, 3, 0, 0)) == RequestVoteReply(3, True, 2)


def test_a_piece_of_a_snapshot_binds_as_well() -> None:
    node = follower()
    ticks(node, 5)
    receive(node, InstallSnapshot(1, 1, 9, 1, Membership([1, 2, 3]), 0, b"a", False, 2, 7))
    learn(node, 2)
    ticks(node, SHORTEST - 1)
    assert reply_of(node, RequestVote(2, 3, 0, 0)) == RequestVoteReply(2, False, 2)


def test_the_leader_itself_can_send_a_candidate() -> None:
    """It has given its lease up before it did."""
    node = follower()
    assert reply_of(node, RequestVote(2, 3, 0, 0, True)) == RequestVoteReply(2, True, 2)


def test_without_leases_a_later_term_frees_a_voter() -> None:
    node = follower(lease_reads=False)
    learn(node, 2)
    assert reply_of(node, RequestVote(2, 3, 0, 0)) == RequestVoteReply(2, True, 2)


def test_it_campaigns_when_its_own_time_comes() -> None:
    node = follower()
    learn(node, 2)
    ticks(node, SHORTEST - 1)
    assert len(sent(step(node, Tick()), PreVote)) == 2
    step(node, Receive(PreVoteReply(3, True, 1)))
    assert node.term == 3
