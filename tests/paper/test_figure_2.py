"""Figure 2 of the Raft paper (extended version), rule by rule, in its order and by its names."""

from __future__ import annotations

import pytest
from tests.support import (
    TracingLog,
    ack,
    applied,
    campaign,
    caught_up_leader,
    elect,
    entries_of,
    heartbeat,
    leader,
    log_of,
    paper,
    receive,
    reply_of,
    sent,
    sent_to,
    step,
    terms_in,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    Apply,
    HardState,
    LogEntry,
    NotLeaderError,
    Propose,
    RaftConfig,
    RaftNode,
    RequestVote,
    RequestVoteReply,
    Role,
    Tick,
)

pytestmark = pytest.mark.core


def follower(terms: list[int], term: int | None = None) -> RaftNode:
    return RaftNode(paper(1, [2, 3]).with_election_timeout(10, 10), log_of(terms, term))


# State.


def test_current_term_is_0_on_first_boot_and_increases_monotonically() -> None:
    node = follower([])
    seen = [node.term]
    for term in (2, 1, 4, 4, 3):
        heartbeat(node, term=term)
        seen.append(node.term)
    assert seen == [0, 2, 2, 4, 4, 4]


def test_voted_for_is_null_if_none() -> None:
    node = follower([])
    assert node.status.voted_for is None
    receive(node, RequestVote(1, 3, 0, 0))
    assert node.status.voted_for == 3
    receive(node, RequestVote(2, 2, 0, 0))
    assert node.status.voted_for == 2


def test_persistent_state_is_on_stable_storage_before_responding_to_rpcs() -> None:
    log = TracingLog()
    node = RaftNode(paper(1, [2, 3]), log)
    assert reply_of(node, RequestVote(1, 2, 0, 0)).vote_granted
    assert (log.state, log.calls[-1]) == (HardState(1, 2), "sync")
    assert reply_of(node, AppendEntries(1, 2, 0, 0, entries_of([1]), 0)).success
    assert (log.held, log.calls[-1]) == (entries_of([1]), "sync")


def test_commit_index_and_last_applied_are_volatile_and_begin_at_0() -> None:
    node = RaftNode(RaftConfig.single(1))
    elect(node)
    step(node, Propose(b"x"))
    assert (node.commit_index, node.last_applied) == (1, 1)
    again = RaftNode(RaftConfig.single(1), node.log)
    assert (again.commit_index, again.last_applied) == (0, 0)


def test_next_index_begins_at_the_leaders_last_index_plus_1_and_match_index_at_0() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 1, 1]))
    messages = sent(elect(node), AppendEntries)
    assert [message.prev_log_index for message in messages] == [3, 3]
    assert [(f.match_index, f.next_index) for f in node.status.followers] == [(0, 4)] * 2


# AppendEntries RPC, receiver implementation.


def test_append_entries_1_reply_false_if_term_is_older_than_the_current_term() -> None:
    node = follower([1, 1], term=3)
    reply = reply_of(node, AppendEntries(2, 2, 2, 1, entries_of([2], first=3), 9))
    assert (reply.success, reply.term) == (False, 3)
    assert (terms_in(node.log), node.commit_index, node.leader) == ([1, 1], 0, None)


@pytest.mark.parametrize(("prev_index", "prev_term"), [(3, 1), (2, 2), (1, 3)])
def test_append_entries_2_reply_false_if_the_log_has_no_entry_at_prev_of_its_term(
    prev_index: int, prev_term: int
) -> None:
    node = follower([1, 1], term=3)
    reply = reply_of(node, AppendEntries(3, 2, prev_index, prev_term, (), 2))
    assert not reply.success
    assert (terms_in(node.log), node.commit_index) == ([1, 1], 0)


def test_append_entries_3_delete_a_conflicting_entry_and_all_that_follow_it() -> None:
    node = follower([1, 1, 2, 2], term=2)
    assert reply_of(node, AppendEntries(3, 2, 2, 1, [LogEntry(3, 3)], 0)).success
    assert terms_in(node.log) == [1, 1, 3]


def test_append_entries_3_entries_that_do_not_conflict_are_not_deleted() -> None:
    node = follower([1, 1, 1, 1])
    assert reply_of(node, AppendEntries(1, 2, 1, 1, entries_of([1], first=2), 0)).success
    assert terms_in(node.log) == [1, 1, 1, 1]


def test_append_entries_4_append_any_new_entries_not_already_in_the_log() -> None:
    node = follower([1, 1])
    receive(node, AppendEntries(1, 2, 0, 0, entries_of([1, 1, 1, 1]), 0))
    assert list(node.log.entries(1, 9)) == entries_of([1, 1, 1, 1])


@pytest.mark.parametrize(("leader_commit", "expected"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_append_entries_5_commit_index_is_the_lesser_of_leader_commit_and_the_last_new_entry(
    leader_commit: int, expected: int
) -> None:
    node = follower([1, 1, 1, 1, 1])
    receive(node, AppendEntries(1, 2, 1, 1, entries_of([1, 1], first=2), leader_commit))
    assert node.commit_index == expected


# RequestVote RPC, receiver implementation.


def test_request_vote_1_reply_false_if_term_is_older_than_the_current_term() -> None:
    node = follower([], term=5)
    assert reply_of(node, RequestVote(4, 2, 9, 9)) == RequestVoteReply(5, False, 1)


def test_request_vote_2_grant_if_voted_for_is_null_or_the_candidate() -> None:
    node = follower([])
    assert reply_of(node, RequestVote(1, 2, 0, 0)) == RequestVoteReply(1, True, 1)
    assert reply_of(node, RequestVote(1, 2, 0, 0)) == RequestVoteReply(1, True, 1)
    assert reply_of(node, RequestVote(1, 3, 0, 0)) == RequestVoteReply(1, False, 1)


@pytest.mark.parametrize(
    ("index", "term", "granted"), [(2, 3, True), (3, 3, True), (1, 4, True), (1, 3, False), (9, 2, False)]
)
def test_request_vote_2_grant_only_if_the_candidates_log_is_as_up_to_date(
    index: int, term: int, granted: bool
) -> None:
    assert reply_of(follower([1, 3]), RequestVote(5, 2, index, term)).vote_granted is granted


# Rules for servers: all.


def test_all_servers_apply_what_lies_between_last_applied_and_commit_index() -> None:
    node = follower([1, 1, 1])
    assert applied(heartbeat(node, prev=(3, 1), commit=2)) == [1, 2]
    assert (node.commit_index, node.last_applied) == (2, 2)


@pytest.mark.parametrize(
    "message",
    [
        RequestVote(7, 2, 0, 0),
        RequestVoteReply(7, True, 2),
        AppendEntries(7, 2, 0, 0, (), 0),
        AppendEntriesReply(7, True, 2, 0),
    ],
    ids=lambda message: type(message).__name__,
)
@pytest.mark.parametrize("role", list(Role))
def test_all_servers_convert_to_follower_on_a_greater_term_in_any_rpc(
    role: Role, message: RequestVote | RequestVoteReply | AppendEntries | AppendEntriesReply
) -> None:
    node = RaftNode(paper(1, [2, 3]))
    if role is not Role.FOLLOWER:
        campaign(node)
    if role is Role.LEADER:
        receive(node, RequestVoteReply(1, True, 2))
    receive(node, message)
    assert (node.term, node.role) == (7, Role.FOLLOWER)


# Rules for servers: followers.


def test_followers_respond_to_rpcs_from_candidates_and_leaders() -> None:
    node = follower([])
    assert isinstance(reply_of(node, RequestVote(1, 2, 0, 0)), RequestVoteReply)
    assert isinstance(reply_of(node, AppendEntries(1, 2, 0, 0, (), 0)), AppendEntriesReply)


def test_followers_convert_to_candidate_when_the_election_timeout_elapses() -> None:
    node = follower([])
    for _ in range(10):
        step(node, Tick())
    assert node.role is Role.CANDIDATE


@pytest.mark.parametrize(
    ("message", "resets"),
    [
        (AppendEntries(5, 2, 0, 0, (), 0), True),  # from the current leader
        (AppendEntries(5, 2, 9, 5, (), 0), True),  # from the current leader, though refused
        (AppendEntries(4, 2, 0, 0, (), 0), False),  # from a leader of an earlier term
        (RequestVote(5, 2, 9, 9), True),  # vote granted
        (RequestVote(5, 2, 0, 0), False),  # vote refused
        (RequestVote(6, 2, 0, 0), False),  # vote refused, though the term is newer
        (RequestVoteReply(5, False, 2), False),
        (AppendEntriesReply(6, False, 2, 0), False),
    ],
    ids=repr,
)
def test_followers_timeout_starts_over_by_the_current_leader_or_a_vote_granted_only(
    message: RequestVote | RequestVoteReply | AppendEntries | AppendEntriesReply, resets: bool
) -> None:
    node = follower([1, 5], term=5)
    for _ in range(9):
        step(node, Tick())
    receive(node, message)
    step(node, Tick())
    assert (node.role is Role.FOLLOWER) is resets


# Rules for servers: candidates.


def test_candidates_start_an_election_increment_vote_for_self_reset_timer_send_requests() -> None:
    node = follower([1, 2])
    requests = sent(campaign(node), RequestVote)
    assert requests == [RequestVote(3, 1, 2, 2)] * 2
    assert (node.term, node.status.voted_for) == (3, 1)
    for _ in range(9):
        assert step(node, Tick()) == []
    assert sent(step(node, Tick()), RequestVote) != []


def test_candidates_become_leader_by_votes_from_a_majority() -> None:
    node = RaftNode(paper(1, [2, 3, 4, 5]))
    campaign(node)
    receive(node, RequestVoteReply(1, True, 4))
    assert not node.is_leader
    receive(node, RequestVoteReply(1, True, 5))
    assert node.is_leader


def test_candidates_convert_to_follower_by_append_entries_from_the_new_leader() -> None:
    node = follower([])
    campaign(node)
    heartbeat(node, term=1, sender=3)
    assert (node.role, node.leader) == (Role.FOLLOWER, 3)


def test_candidates_start_a_new_election_when_the_timeout_elapses() -> None:
    node = follower([])
    assert [sent(campaign(node), RequestVote)[0].term for _ in range(3)] == [1, 2, 3]


# Rules for servers: leaders.


def test_leaders_send_heartbeats_upon_election_and_repeat_them_when_idle() -> None:
    node = RaftNode(paper(1, [2, 3]))
    assert sent(elect(node), AppendEntries) == [AppendEntries(1, 1, 0, 0, (), 0)] * 2
    for _ in range(5):
        beats = [m for _ in range(3) for m in sent(step(node, Tick()), AppendEntries)]
        assert beats == [AppendEntries(1, 1, 0, 0, (), 0)] * 2


def test_leaders_append_a_command_and_respond_after_it_is_applied() -> None:
    node = leader()
    actions = step(node, Propose(b"x"))
    assert node.log.entry(1) == LogEntry(1, 1, b"x")
    assert applied(actions) == []
    assert ack(node, 2, 1)[-1] == Apply(1, 1, b"x")


def test_only_leaders_take_commands() -> None:
    node = follower([])
    with pytest.raises(NotLeaderError):
        node.step(Propose(b"x"))


def test_leaders_send_entries_from_next_index_to_a_follower_behind() -> None:
    node = caught_up_leader(log=log_of([1, 1]))
    (message, _) = sent(step(node, Propose(b"x")), AppendEntries)
    assert (message.prev_log_index, message.prev_log_term) == (3, 2)
    assert message.entries == (LogEntry(2, 4, b"x"),)


def test_leaders_update_next_and_match_index_on_success() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    status = node.status.followers[0]
    assert (status.match_index, status.next_index) == (1, 2)


def test_leaders_go_back_and_retry_on_an_inconsistency() -> None:
    node = leader(log=log_of([1, 1, 1]))
    (retry,) = sent_to(receive(node, AppendEntriesReply(2, False, 2, 0, 2, 0)), 2)
    assert isinstance(retry, AppendEntries)
    assert (retry.prev_log_index, len(retry.entries)) == (1, 3)


def test_leaders_commit_an_index_that_a_majority_matches_in_the_current_term() -> None:
    node = leader([2, 3, 4, 5], log_of([1]))
    ack(node, 2, 1)
    ack(node, 3, 1)
    assert node.commit_index == 0, "a majority has index 1, but its term is an earlier one"
    ack(node, 2, 2)
    ack(node, 3, 2)
    assert node.commit_index == 2
