"""Reads by a lease (thesis, section 6.4.1): when a leader has one, and what voters owe it."""

from __future__ import annotations

import pytest
from tests.support import (
    Cluster,
    ack,
    caught_up_leader,
    elect,
    heartbeat,
    leader,
    log_of,
    only,
    receive,
    reply_of,
    sent,
    sent_to,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    ChangeMembership,
    HardState,
    InstallSnapshot,
    Membership,
    PreVote,
    PreVoteReply,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadIndex,
    ReadIndexReply,
    ReadIndexRequest,
    ReadReady,
    RequestVote,
    RequestVoteReply,
    Role,
    Tick,
    TimeoutNow,
    TransferLeadership,
)

pytestmark = pytest.mark.core

SHORTEST, LONGEST = RaftConfig(1).election_timeout
LEASE = SHORTEST - RaftConfig(1).lease_margin


def leasing(peers: tuple[int, ...] = (2, 3), log: RaftLog | None = None, **options: int) -> RaftNode:
    """A leader that reads by its lease, and has none yet."""
    node = RaftNode(RaftConfig(1, peers, lease_reads=True).replace(**options), log)
    elect(node)
    return node


def answer(node: RaftNode, sender: int, round_: int, match: int = 0) -> list[Action]:
    return receive(node, AppendEntriesReply(node.term, True, sender, match, 0, 0, round_))


def beat(node: RaftNode) -> int:
    """Tick until the next heartbeat. Returns its round."""
    while True:
        beats = sent(step(node, Tick()), AppendEntries)
        if beats:
            return beats[0].round


def reads_at_once(node: RaftNode) -> bool:
    """Whether a read is served without a message to anybody."""
    actions = step(node, ReadIndex(b"probe"))
    return actions == [ReadReady(b"probe", node.commit_index)]


def is_fresh(node: RaftNode) -> bool:
    """Whether the lease is in force, asked without a trace of a failed read."""
    return node._state.lease_ticks != [] and reads_at_once(node)


# The leader's side.


def test_every_heartbeat_is_a_round_of_its_own() -> None:
    node = leasing()
    assert [beat(node) for _ in range(4)] == [1, 2, 3, 4]


def test_within_a_lease_a_read_costs_no_message() -> None:
    node = leasing()
    answer(node, 2, beat(node))
    assert reads_at_once(node)
    assert reads_at_once(node)


def test_without_one_it_costs_a_round() -> None:
    node = leasing()
    actions = step(node, ReadIndex(b"r"))
    assert (len(sent(actions, AppendEntries)), only(actions, ReadReady)) == (2, [])
    assert only(answer(node, 2, 1), ReadReady) == [ReadReady(b"r", 0)]
    assert reads_at_once(node), "and that round has begun a lease"


def test_leases_are_off_by_default() -> None:
    node = caught_up_leader(check_quorum=True)
    step(node, ReadIndex(b"r"))
    answer(node, 2, 1)
    assert not reads_at_once(node)


def test_it_runs_from_when_the_acknowledged_round_was_sent() -> None:
    node = leasing()
    round_ = beat(node)
    for _ in range(2):
        step(node, Tick())
    answer(node, 2, round_)
    for _ in range(LEASE - 3):
        step(node, Tick())
        assert reads_at_once(node)
    step(node, Tick())
    assert not reads_at_once(node), "8 ticks after the round, not after the answer"


@pytest.mark.parametrize(("margin", "lasts"), [(0, 9), (2, 7), (8, 1), (9, 0)])
def test_the_margin_makes_it_shorter(margin: int, lasts: int) -> None:
    node = leasing(lease_margin=margin)
    answer(node, 2, beat(node))
    assert reads_at_once(node), "within the same tick"
    count = 0
    while count < 50:
        step(node, Tick())
        if not reads_at_once(node):
            break
        count += 1
    assert count == lasts


@pytest.mark.parametrize("margin", [SHORTEST, SHORTEST + 1, 1000])
def test_a_margin_of_the_whole_timeout_leaves_none(margin: int) -> None:
    node = leasing(lease_margin=margin)
    answer(node, 2, beat(node))
    assert not reads_at_once(node)


def test_a_quorum_makes_it_and_the_slowest_of_that_quorum_counts() -> None:
    node = leasing((2, 3, 4, 5))
    first = beat(node)
    answer(node, 2, first)
    assert not reads_at_once(node)
    second = beat(node)
    answer(node, 3, second)
    answer(node, 3, second)
    # Of 1, 2 and 3, which are a quorum, 2 answered the first heartbeat at last, 3 ticks ago.
    for _ in range(LEASE - 4):
        step(node, Tick())
    assert reads_at_once(node)
    step(node, Tick())
    assert not reads_at_once(node)


@pytest.mark.parametrize("sender", [4, 9])
def test_who_is_no_voter_makes_none(sender: int) -> None:
    node = leasing()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 2, 3], [4]))
    answer(node, sender, beat(node))
    assert not reads_at_once(node)


def test_while_joint_both_majorities_make_it() -> None:
    node = leasing()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 4, 5]))
    round_ = beat(node)
    answer(node, 4, round_)
    assert not reads_at_once(node)
    answer(node, 2, node._state.round)
    answer(node, 4, node._state.round)
    assert reads_at_once(node)


@pytest.mark.parametrize("round_", [0, 5, 2**63 - 1])
def test_an_answer_without_a_round_or_to_one_that_never_began_makes_none(round_: int) -> None:
    node = leasing()
    beat(node)
    answer(node, 2, round_)
    assert not reads_at_once(node)


def test_a_late_answer_to_an_old_round_does_not_lengthen_it() -> None:
    node = leasing()
    first = beat(node)
    answer(node, 2, beat(node))
    answer(node, 2, first)
    answer(node, 3, first)
    for _ in range(LEASE - 1):
        step(node, Tick())
    assert reads_at_once(node)
    step(node, Tick())
    answer(node, 3, first)
    assert not reads_at_once(node)


def test_heartbeats_that_are_answered_keep_it_alive() -> None:
    node = leasing()
    answer(node, 2, beat(node))
    for _ in range(100):
        assert reads_at_once(node)
        answer(node, 3, beat(node))
    assert len(node._state.lease_ticks) == len(node._state.lease_rounds) < LONGEST


def test_before_what_it_was_elected_with_is_committed_a_lease_serves_nothing() -> None:
    node = leasing(log=log_of([1, 1]))
    answer(node, 2, beat(node), 2)
    assert not reads_at_once(node), "it holds the lease but does not know what is committed"
    actions = answer(node, 2, 0, 3)
    assert only(actions, ReadReady) == [ReadReady(b"probe", 3)]


def test_followers_reads_are_answered_from_it() -> None:
    node = leasing()
    answer(node, 2, beat(node))
    assert receive(node, ReadIndexRequest(1, 3, b"r")) != []
    assert sent_to(receive(node, ReadIndexRequest(1, 3, b"s")), 3) == [ReadIndexReply(1, b"s", 0)]


def test_a_leader_that_is_elected_again_begins_without_one() -> None:
    node = leasing()
    answer(node, 2, beat(node))
    assert reads_at_once(node)
    receive(node, RequestVoteReply(5, False, 2))
    elect(node)
    assert not reads_at_once(node)


def test_alone_a_leader_always_has_one() -> None:
    node = leasing(())
    assert reads_at_once(node)
    for _ in range(100):
        step(node, Tick())
    assert reads_at_once(node)


# Handing over ends it.


def test_there_is_none_in_the_rest_of_a_term_in_which_timeout_now_was_sent() -> None:
    node = leasing()
    step(node, Propose(b"x"))
    answer(node, 2, beat(node), 1)
    assert sent(step(node, TransferLeadership(3)), TimeoutNow) == [], "3 lacks an entry"
    assert reads_at_once(node), "until the word is sent"
    assert sent(ack(node, 3, 1), TimeoutNow) != []
    assert not reads_at_once(node)
    for _ in range(LONGEST):
        answer(node, 2, node._state.round, 1)
        answer(node, 3, node._state.round, 1)
        step(node, Tick())
    assert (node.is_leader, node.status.transfer_target) == (True, None)
    answer(node, 2, beat(node))
    assert not reads_at_once(node), "given up, but the word may still be under way"
    step(node, ReadIndex(b"r"))
    assert b"r" in [ready.context for ready in only(answer(node, 2, node._state.round), ReadReady)]


def test_the_next_term_has_one_again() -> None:
    node = leasing()
    step(node, TransferLeadership(2))
    ack(node, 2, 0)
    assert node._state.lease_void
    receive(node, RequestVoteReply(5, False, 2))
    elect(node)
    answer(node, 2, beat(node))
    assert reads_at_once(node)


# What voters owe it.


def voter(log: RaftLog | None = None) -> RaftNode:
    return RaftNode(RaftConfig(1, [2, 3], lease_reads=True), log_of([]) if log is None else log)


@pytest.mark.parametrize("force", [False, True])
def test_who_has_just_started_grants_nothing_for_the_shortest_timeout(force: bool) -> None:
    """Before its restart it may have vouched for a lease that is still in force."""
    node = voter(log_of([3]))
    for _ in range(SHORTEST):
        assert receive(node, RequestVote(9, 2, 99, 9, force)) == []
        assert reply_of(node, RequestVote(3, 2, 99, 3, force)) == RequestVoteReply(3, False, 1)
        assert reply_of(node, PreVote(9, 2, 99, 9)) == PreVoteReply(3, False, 1)
        assert node.log.hard_state() == HardState(3)
        step(node, Tick())
    assert reply_of(node, PreVote(9, 2, 99, 9)) == PreVoteReply(9, True, 1)
    assert reply_of(node, RequestVote(9, 2, 99, 9, force)) == RequestVoteReply(9, True, 1)


def test_a_log_that_is_brand_new_owes_nothing() -> None:
    assert reply_of(voter(), RequestVote(1, 2, 0, 0)).vote_granted
    assert reply_of(voter(), PreVote(1, 2, 0, 0)).vote_granted


def test_without_leases_who_has_just_started_votes_at_once() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), log_of([3]))
    assert reply_of(node, RequestVote(9, 2, 99, 9)).vote_granted


def test_a_log_whose_hard_state_was_behind_its_entries_is_not_brand_new() -> None:
    node = voter(log_of([3], term=0))
    assert node.term == 3
    assert receive(node, RequestVote(9, 2, 99, 9)) == []


LATER_TERMS = [
    PreVoteReply(9, False, 3),
    AppendEntriesReply(9, False, 3, 0),
    ReadIndexRequest(9, 3, b"r"),
]


@pytest.mark.parametrize("message", LATER_TERMS, ids=lambda message: type(message).__name__)
def test_learning_of_a_later_term_does_not_end_what_it_vouched_for(
    message: PreVoteReply | AppendEntriesReply | ReadIndexRequest,
) -> None:
    node = voter()
    heartbeat(node, term=1, sender=2)
    receive(node, message)
    assert (node.term, node.leader) == (9, None)
    for _ in range(SHORTEST):
        assert reply_of(node, RequestVote(9, 3, 99, 9)) == RequestVoteReply(9, False, 1)
        assert receive(node, RequestVote(10, 3, 99, 9)) == []
        assert reply_of(node, PreVote(10, 3, 99, 9)) == PreVoteReply(9, False, 1)
        step(node, Tick())
    assert reply_of(node, RequestVote(9, 3, 99, 9)) == RequestVoteReply(9, True, 1)


def test_a_piece_of_a_snapshot_is_vouched_for_like_any_word_of_the_leader() -> None:
    node = voter()
    receive(node, InstallSnapshot(1, 2, 5, 1, Membership([1, 2, 3]), 0, b"ab", False, 4, 7))
    receive(node, PreVoteReply(9, False, 3))
    assert reply_of(node, RequestVote(9, 3, 99, 9)) == RequestVoteReply(9, False, 1)


def test_a_candidate_that_the_leader_has_sent_is_voted_for_at_once() -> None:
    node = voter()
    heartbeat(node, term=1, sender=2)
    assert reply_of(node, RequestVote(2, 3, 99, 9, force=True)) == RequestVoteReply(2, True, 1)


# In a cluster, with everything that could go wrong with a lease.


def test_a_leader_that_is_cut_off_has_lost_its_lease_before_another_is_elected() -> None:
    logs: dict[int, RaftLog] = {node: log_of([]) for node in (1, 2, 3)}
    nodes = Cluster(logs, pre_vote=True, check_quorum=True, lease_reads=True, election_timeout=(10, 10))
    nodes.elect(1)
    nodes.tick(count=6)
    nodes.cut = {1}
    elected = -1
    for tick in range(40):
        for id_ in (2, 3, 1):
            nodes.step(id_, Tick())
            nodes.settle()
        if nodes.nodes[1].is_leader:
            context = b"%d" % tick
            nodes.step(1, ReadIndex(context))
            if elected >= 0:
                assert context not in [read for read, _ in nodes.reads[1]], tick
        if elected < 0 and any(nodes.nodes[id_].is_leader for id_ in (2, 3)):
            elected = tick
    assert elected > 0
    assert len(nodes.reads[1]) >= LEASE - 3, "and it has used it until then"


def test_a_lone_answer_in_time_makes_no_lease_of_a_leader_that_was_deposed() -> None:
    node = leader(lease_reads=True, check_quorum=True)
    round_ = beat(node)
    receive(node, AppendEntries(2, 3, 0, 0, (), 0))
    assert node.role is Role.FOLLOWER
    receive(node, AppendEntriesReply(1, True, 2, 0, 0, 0, round_))
    assert only(step(node, ReadIndex(b"r")), ReadReady) == []
