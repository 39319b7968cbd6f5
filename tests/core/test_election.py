"""The timer, campaigns and votes, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import (
    BARE,
    campaign,
    drain,
    feed,
    heartbeat,
    leader,
    log_of,
    membership_entry,
    paper,
    receive,
    reply_of,
    sent,
    split,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    Membership,
    Propose,
    RaftConfig,
    RaftNode,
    ReadFailed,
    ReadIndex,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    Synced,
    Tick,
)

pytestmark = pytest.mark.core


def quiet(node: RaftNode, count: int) -> None:
    """So many ticks bring about nothing."""
    for tick in range(count):
        assert step(node, Tick()) == [], f"at tick {tick + 1}"


def fixed(timeout: int = 10, peers: tuple[int, ...] = (2, 3)) -> RaftNode:
    return RaftNode(paper(1, peers).with_election_timeout(timeout, timeout))


# The timer.


def test_a_node_campaigns_when_its_timeout_has_elapsed_not_a_tick_earlier() -> None:
    node = fixed(10)
    quiet(node, 9)
    assert len(sent(step(node, Tick()), RequestVote)) == 2


@pytest.mark.parametrize("seed", range(20))
def test_the_timeout_lies_between_its_bounds_both_included(seed: int) -> None:
    node = RaftNode(paper(1, [2, 3], seed=seed).with_election_timeout(3, 6))
    for term in range(10):
        count = 0
        while node.term == term:
            step(node, Tick())
            count += 1
        assert 3 <= count <= 6


def test_every_timeout_in_the_range_occurs() -> None:
    node = RaftNode(paper(1, [2, 3]).with_election_timeout(3, 6))
    seen = []
    for _ in range(60):
        term = node.term
        count = 0
        while node.term == term:
            step(node, Tick())
            count += 1
        seen.append(count)
    assert set(seen) == {3, 4, 5, 6}


def test_word_from_the_leader_starts_the_timeout_over() -> None:
    node = fixed(10)
    for _ in range(5):
        quiet(node, 9)
        heartbeat(node)
    quiet(node, 9)
    assert step(node, Tick()) != []


def test_a_vote_granted_starts_the_timeout_over() -> None:
    node = fixed(10)
    quiet(node, 9)
    assert reply_of(node, RequestVote(1, 2, 0, 0)).vote_granted
    quiet(node, 9)
    assert reply_of(node, RequestVote(1, 2, 0, 0)).vote_granted, "and so does granting it again"
    quiet(node, 9)
    assert step(node, Tick()) != []


@pytest.mark.parametrize("term", [3, 4, 99])
def test_a_vote_refused_does_not(term: int) -> None:
    node = RaftNode(paper(1, [2, 3]).with_election_timeout(10, 10), log_of([1, 3]))
    quiet(node, 9)
    assert not reply_of(node, RequestVote(term, 2, 1, 1)).vote_granted
    (request, _) = sent(step(node, Tick()), RequestVote)
    assert request == RequestVote(term + 1, 1, 2, 3)


def test_word_from_a_leader_that_was_does_not() -> None:
    node = RaftNode(paper(1, [2, 3]).with_election_timeout(10, 10), log_of([], term=5))
    quiet(node, 9)
    heartbeat(node, term=4)
    assert node.leader is None
    assert len(sent(step(node, Tick()), RequestVote)) == 2


def test_the_timeout_of_a_leader_that_stepped_down_begins_then() -> None:
    node = leader(election_timeout=(10, 10))
    for _ in range(50):
        step(node, Tick())
    receive(node, RequestVoteReply(7, False, 2))
    quiet(node, 9)
    assert len(sent(step(node, Tick()), RequestVote)) == 2


def test_a_node_that_was_suspended_campaigns_once() -> None:
    node = fixed(10)
    feed(node, *[Tick()] * 1000)
    assert sent(drain(node), RequestVote) == [RequestVote(1, 1, 0, 0)] * 2
    assert node.term == 1
    quiet(node, 9)
    assert node.term == 1, "the time of that campaign begins when it is sent"


def test_a_leader_counts_heartbeats_not_a_timeout() -> None:
    node = leader(heartbeat_interval=3)
    for _ in range(50):
        quiet(node, 2)
        assert len(sent(step(node, Tick()), AppendEntries)) == 2
    assert node.is_leader


def test_a_leader_whose_disk_hangs_steps_down_and_owes_no_heartbeat() -> None:
    node = RaftNode(paper(1, [], election_timeout=(5, 5)), deferred_sync=True)
    feed(node, *[Tick()] * 5)
    _, ticket, _ = split(drain(node))
    feed(node, Synced(ticket), Propose(b"x"))
    assert split(drain(node))[1] > ticket
    feed(node, *[Tick()] * 5)
    assert node.is_leader
    feed(node, Tick())
    assert (node.role, node.term, node.pending) == (Role.FOLLOWER, 1, True)
    assert drain(node) == []


def test_many_ticks_at_once_owe_one_heartbeat() -> None:
    node = leader(heartbeat_interval=3)
    feed(node, *[Tick()] * 100)
    assert len(sent(drain(node), AppendEntries)) == 2


def test_the_clock_gives_up_what_a_leader_was_asked_for() -> None:
    node = fixed(30)
    heartbeat(node)
    step(node, ReadIndex(b"r"))
    for _ in range(29):
        assert step(node, Tick()) == []
        assert sent(heartbeat(node), RequestVote) == []
    step(node, Tick())
    heartbeat(node)
    assert step(node, Tick()) == [ReadFailed(b"r")]


# Campaigns.


def test_a_campaign_asks_every_peer_in_ascending_order() -> None:
    node = RaftNode(paper(3, [9, 2, 7, 5]), log_of([1, 2, 2]))
    request = RequestVote(3, 3, 3, 2)
    expected: list[Action] = [Send(peer, request) for peer in (2, 5, 7, 9)]
    assert campaign(node) == expected
    assert (node.role, node.leader, node.status.voted_for) == (Role.CANDIDATE, None, 3)


def test_a_campaign_without_an_outcome_is_followed_by_another_in_the_next_term() -> None:
    node = fixed()
    for term in (1, 2, 3):
        requests = sent(campaign(node), RequestVote)
        assert [request.term for request in requests] == [term] * 2


def test_votes_of_an_earlier_campaign_do_not_count() -> None:
    node = fixed()
    campaign(node)
    campaign(node)
    receive(node, RequestVoteReply(1, True, 2))
    assert node.role is Role.CANDIDATE
    receive(node, RequestVoteReply(2, True, 2))
    assert node.is_leader


def test_a_refusal_is_no_vote() -> None:
    node = fixed()
    campaign(node)
    for peer in (2, 3):
        receive(node, RequestVoteReply(1, False, peer))
    assert node.role is Role.CANDIDATE


def test_a_vote_counts_once_and_only_a_voters() -> None:
    node = RaftNode(paper(1, [2, 3, 4, 5]))
    campaign(node)
    for sender in (2, 2, 2, 6, 7, 0):
        receive(node, RequestVoteReply(1, True, sender))
    assert node.role is Role.CANDIDATE
    assert node._state.granted == [1, 2], "strangers cost no memory"
    receive(node, RequestVoteReply(1, True, 5))
    assert node.is_leader


def test_votes_that_come_after_the_election_change_nothing() -> None:
    node = leader()
    before = node.status
    assert receive(node, RequestVoteReply(1, True, 3)) == []
    assert receive(node, RequestVoteReply(1, False, 3)) == []
    assert node.status == before


def test_a_follower_does_not_count_votes() -> None:
    node = fixed()
    receive(node, RequestVoteReply(1, True, 2))
    receive(node, RequestVoteReply(1, True, 3))
    assert (node.role, node.term) == (Role.FOLLOWER, 1)


def test_alone_a_node_elects_itself() -> None:
    node = RaftNode(RaftConfig.single(1).with_election_timeout(5, 5))
    quiet(node, 4)
    assert step(node, Tick()) == []
    assert (node.is_leader, node.leader, node.term) == (True, 1, 1)


def test_of_two_both_must_vote() -> None:
    node = RaftNode(paper(1, [2]))
    campaign(node)
    assert node.role is Role.CANDIDATE
    receive(node, RequestVoteReply(1, True, 2))
    assert node.is_leader


def test_the_own_vote_counts_only_once_it_is_durable() -> None:
    node = RaftNode(paper(1, [2, 3]), deferred_sync=True)
    while node.role is Role.FOLLOWER:
        node.feed(Tick())
    _, ticket, requests = split(drain(node))
    assert len(sent(requests, RequestVote)) == 2
    feed(node, Receive(RequestVoteReply(1, True, 2)))
    assert node.role is Role.CANDIDATE, "one vote of three: its own is not durable"
    feed(node, Synced(ticket))
    assert node.is_leader


def test_nobody_counts_the_own_vote_for_it() -> None:
    node = RaftNode(paper(1, [2, 3]), deferred_sync=True)
    while node.role is Role.FOLLOWER:
        node.feed(Tick())
    drain(node)
    feed(node, Receive(RequestVoteReply(1, True, 1)), Receive(RequestVoteReply(1, True, 2)))
    assert node.role is Role.CANDIDATE


def test_a_sync_begun_before_a_campaign_does_not_make_its_vote_durable() -> None:
    node = RaftNode(paper(1, [2, 3]), deferred_sync=True)
    feed(node, Receive(RequestVote(1, 2, 0, 0)))
    _, early, _ = split(drain(node))
    while node.role is Role.FOLLOWER:
        node.feed(Tick())
    _, late, _ = split(drain(node))
    feed(node, Receive(RequestVoteReply(2, True, 3)), Synced(early))
    assert node.role is Role.CANDIDATE
    feed(node, Synced(late))
    assert node.is_leader


def test_while_joint_the_outgoing_voters_are_asked_too_each_once() -> None:
    log = log_of([1])
    log.append([membership_entry(1, 2, Membership([1, 4, 5], [6], [1, 2, 4]))])
    both: tuple[dict[str, Any], ...] = ({}, BARE)
    for options in both:
        node = RaftNode(RaftConfig(1, [2, 4], **options), log)
        actions = step(node, Tick())
        while not actions:
            actions = step(node, Tick())
        assert [action.to for action in actions if isinstance(action, Send)] == [4, 5, 2]


def test_who_is_no_voter_lets_its_timeouts_pass() -> None:
    log = log_of([1])
    log.append([membership_entry(1, 2, Membership([2, 3], [1]))])
    node = RaftNode(RaftConfig(1, [2, 3]), log, applied=2)
    quiet(node, 100)
    assert (node.role, node.term) == (Role.FOLLOWER, 1)


# Voting.


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [
        (3, 4, True),  # the same
        (4, 4, True),  # longer
        (1, 5, True),  # shorter, but its last term is later
        (2, 4, False),  # shorter
        (9, 3, False),  # longer, but its last term is earlier
        (0, 0, False),  # empty
        (2**63 - 1, 2**63 - 1, True),
    ],
)
def test_the_log_of_a_candidate_must_be_as_up_to_date(last_index: int, last_term: int, granted: bool) -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 4, 4]))
    assert reply_of(node, RequestVote(9, 2, last_index, last_term)) == RequestVoteReply(9, granted, 1)
    assert node.status.voted_for == (2 if granted else None)


def test_one_vote_a_term() -> None:
    node = fixed()
    assert reply_of(node, RequestVote(1, 2, 0, 0)).vote_granted
    assert not reply_of(node, RequestVote(1, 3, 9, 9)).vote_granted
    assert reply_of(node, RequestVote(1, 2, 0, 0)).vote_granted, "the same candidate again"
    assert reply_of(node, RequestVote(2, 3, 0, 0)).vote_granted, "the next term, another vote"


def test_a_request_of_an_earlier_term_is_refused_with_the_current_one() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([], term=5))
    assert reply_of(node, RequestVote(4, 2, 9, 9)) == RequestVoteReply(5, False, 1)
    assert node.log.hard_state().voted_for is None


def test_candidates_and_leaders_vote_for_nobody_else_in_their_term() -> None:
    node = fixed()
    campaign(node)
    assert reply_of(node, RequestVote(1, 2, 9, 9)) == RequestVoteReply(1, False, 1)
    assert node.role is Role.CANDIDATE
    receive(node, RequestVoteReply(1, True, 3))
    assert reply_of(node, RequestVote(1, 2, 9, 9)) == RequestVoteReply(1, False, 1)
    assert node.is_leader


def test_a_node_may_vote_for_id_0() -> None:
    node = RaftNode(paper(1, [0, 2]))
    assert reply_of(node, RequestVote(1, 0, 0, 0)).vote_granted
    assert node.status.voted_for == 0
    assert not reply_of(node, RequestVote(1, 2, 0, 0)).vote_granted


def test_a_vote_survives_a_restart() -> None:
    node = fixed()
    receive(node, RequestVote(1, 2, 0, 0))
    again = RaftNode(paper(1, [2, 3]), node.log)
    assert not reply_of(again, RequestVote(1, 3, 9, 9)).vote_granted
    assert reply_of(again, RequestVote(1, 2, 0, 0)).vote_granted
