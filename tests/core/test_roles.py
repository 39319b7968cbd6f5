"""The changes of role: what each writes, and what it forgets."""

from __future__ import annotations

import pytest
from tests.support import (
    NOOP,
    TracingLog,
    ask,
    campaign,
    elect,
    feed,
    heartbeat,
    leader,
    log_of,
    only,
    paper,
    receive,
    sent,
    step,
)

from raft_io import (
    AppendEntries,
    ChangeMembership,
    HardState,
    LogEntry,
    Propose,
    RaftConfig,
    RaftNode,
    ReadFailed,
    ReadIndex,
    ReadIndexRequest,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Tick,
    TransferLeadership,
)
from raft_io.core import roles

pytestmark = pytest.mark.core


def test_a_campaign_writes_term_and_vote_in_one() -> None:
    log = TracingLog([1, 1], HardState(4, 2))
    node = RaftNode(paper(1, [2, 3]), log)
    campaign(node)
    assert log.state == HardState(5, 1)
    assert log.calls == ["set_hard_state", "sync"]


def test_a_later_term_is_written_without_a_vote() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([], term=4, voted_for=1))
    receive(node, RequestVoteReply(6, False, 2))
    assert node.log.hard_state() == HardState(6, None)


def test_stepping_down_in_ones_own_term_keeps_the_vote() -> None:
    node = RaftNode(paper(1, [2, 3]))
    campaign(node)
    heartbeat(node, term=1, sender=2)
    assert node.log.hard_state() == HardState(1, 1)


def test_following_on_writes_nothing() -> None:
    log = TracingLog()
    node = RaftNode(paper(1, [2, 3]), log)
    heartbeat(node, term=1)
    log.calls.clear()
    heartbeat(node, term=1)
    assert log.calls == []


def test_a_leader_that_steps_down_forgets_its_followers_and_its_pipeline() -> None:
    node = leader()
    step(node, Propose(b"abc"))
    assert (node.status.uncommitted_bytes, len(node.status.followers)) == (3, 2)
    receive(node, AppendEntries(5, 2, 0, 0, (), 0))
    assert (node.status.uncommitted_bytes, node.status.followers) == (0, ())
    assert (node.role, node.leader) == (Role.FOLLOWER, 2)


def test_a_candidate_knows_no_leader() -> None:
    node = RaftNode(paper(1, [2, 3]))
    heartbeat(node, sender=3)
    assert node.leader == 3
    campaign(node)
    assert node.leader is None


def test_a_new_leader_asserts_itself_at_once() -> None:
    node = RaftNode(paper(1, [2, 3]))
    beats = sent(elect(node), AppendEntries)
    assert beats == [AppendEntries(1, 1, 0, 0, (), 0)] * 2


def test_a_new_leader_of_a_log_that_is_all_committed_appends_nothing() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 1]), applied=2)
    elect(node)
    assert node.log.last_index() == 2
    assert step(node, Propose(b"x")) != []
    assert node.log.entry(3) == LogEntry(2, 3, b"x")


@pytest.mark.parametrize("applied", [0, 1])
def test_a_new_leader_with_uncommitted_entries_appends_a_noop_and_sends_it(applied: int) -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 1]), applied=applied)
    messages = sent(elect(node), AppendEntries)
    noop = LogEntry(2, 3, b"", NOOP)
    assert node.log.entry(3) == noop
    assert messages == [AppendEntries(2, 1, 2, 1, [noop], applied)] * 2


def test_the_first_proposal_of_a_fresh_cluster_has_index_1() -> None:
    assert leader().feed(Propose(b"x")) == 1


def test_a_leader_re_elected_begins_anew_with_every_follower() -> None:
    node = leader()
    step(node, Propose(b"x"))
    receive(node, RequestVoteReply(5, False, 3))
    elect(node)
    assert [(f.state, f.match_index, f.next_index) for f in node.status.followers] == [("probe", 0, 2)] * 2


def test_the_heartbeat_of_a_new_leader_counts_from_its_election() -> None:
    node = RaftNode(paper(1, [2, 3], heartbeat_interval=4))
    for _ in range(3):
        elect(node)
        for _ in range(3):
            assert step(node, Tick()) == []
        assert len(sent(step(node, Tick()), AppendEntries)) == 2
        receive(node, RequestVoteReply(node.term + 1, False, 2))


# What fails when the leader changes.


def test_word_of_the_same_leader_fails_nothing() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    heartbeat(node, sender=2)
    step(node, ReadIndex(b"r"))
    assert only(heartbeat(node, sender=2), ReadFailed) == []
    assert only(heartbeat(node, term=2, sender=2), ReadFailed) == [ReadFailed(b"r")]


def test_a_leader_that_resigns_fails_its_own_reads_and_not_those_of_others() -> None:
    node = leader()
    feed(node, ReadIndex(b"own"), Receive(ReadIndexRequest(1, 2, b"another's")))
    assert only(receive(node, RequestVoteReply(5, False, 3)), ReadFailed) == [ReadFailed(b"own")]


def test_a_leader_that_resigns_forgets_whom_it_hands_over_to_and_what_waits() -> None:
    node = leader(log=log_of([1]))
    feed(node, ChangeMembership([1, 2]), TransferLeadership(2))
    receive(node, RequestVoteReply(5, False, 3))
    assert node.status.transfer_target is None
    assert node._state.pending_change is None


def test_who_asks_for_pre_votes_is_a_follower_of_nobody_in_the_same_term() -> None:
    log = TracingLog([1], HardState(3, 2))
    node = RaftNode(RaftConfig(1, [2, 3]), log)
    heartbeat(node, term=3, sender=2, prev=(1, 1))
    ask(node)
    assert (node.role, node.term, node.leader, node.status.voted_for) == (Role.FOLLOWER, 3, None, 2)
    assert log.calls == []


@pytest.mark.parametrize("lease_reads", [False, True])
def test_word_of_the_leader_binds_a_voter_where_leases_are_on(lease_reads: bool) -> None:
    node = RaftNode(RaftConfig(1, [2, 3], lease_reads=lease_reads))
    heartbeat(node, sender=2)
    assert node._state.vouched == (10 if lease_reads else 0)


def test_a_candidate_that_hears_the_leader_of_its_term_follows_it() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    campaign(node)
    heartbeat(node, term=1, sender=2)
    assert (node.role, node.leader) == (Role.FOLLOWER, 2)


def test_terms_do_not_go_back() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([], term=5))
    with pytest.raises(AssertionError):
        roles.become_follower(node._state, 4, -1)


def test_a_vote_is_for_good() -> None:
    node = RaftNode(paper(1, [2, 3]))
    receive(node, RequestVote(1, 2, 0, 0))
    with pytest.raises(AssertionError):
        roles.grant_vote(node._state, 3)
