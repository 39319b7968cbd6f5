"""Elections: the timer, campaigns, votes (paper, sections 5.2 and 5.4.1)."""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import durability, quorum, roles
from raft_io.core.actions import Send
from raft_io.core.messages import RequestVote, RequestVoteReply
from raft_io.core.state import CANDIDATE, FOLLOWER, LEADER, State
from raft_io.core.types import MAX, NOBODY

__all__ = ["count_own_vote", "handle_request_vote", "handle_request_vote_reply", "tick"]


def tick(st: State) -> None:
    """One tick: heartbeats for a leader, the election timeout for everybody else."""
    st.now += 1
    if st.role is LEADER:
        st.heartbeat_elapsed += 1
        if st.heartbeat_elapsed >= st.heartbeat_interval:
            st.heartbeat_elapsed = 0
            st.heartbeat_due = True
            st.work = True
        if durability.stalled(st):
            roles.become_follower(st, st.term, NOBODY)
        return
    if st.campaigned:
        # A campaign that has not even been sent gets no successor, and its time has not begun: a process that
        # was suspended for a thousand ticks campaigns once.
        return
    st.elapsed += 1
    if st.elapsed < st.election_min:
        return
    if st.timeout == 0:
        st.timeout = st.rng.between(st.election_min, st.election_max)
    if st.elapsed >= st.timeout and _may_campaign(st):
        campaign(st)


def _may_campaign(st: State) -> bool:
    return not durability.stalled(st) and st.term + 1 < MAX and st.last_index + 1 < MAX


def campaign(st: State) -> None:
    """Stand for the next term (section 5.2)."""
    roles.become_candidate(st)
    request = RequestVote(st.term, st.id, st.last_index, st.last_term)
    for voter in st.voters:
        if voter != st.id:
            st.outbox.append(Send(voter, request))


def count_own_vote(st: State) -> None:
    """A candidate's own vote counts once it is durable."""
    if st.role is CANDIDATE and st.hard_synced >= st.vote_write:
        _count_vote(st, st.id)


def _count_vote(st: State, voter: i64) -> None:
    if voter in st.voters and voter not in st.granted:
        st.granted.append(voter)
        if quorum.wins(st.voters, st.granted):
            roles.become_leader(st)


def _up_to_date(st: State, last_term: i64, last_index: i64) -> bool:
    """Whether a log that ends so is at least as up to date as this one (section 5.4.1)."""
    if last_term != st.last_term:
        return last_term > st.last_term
    return last_index >= st.last_index


def handle_request_vote(st: State, message: RequestVote) -> None:
    """Grant one vote a term, to a candidate whose log is as up to date as this one (figure 2)."""
    grant = (
        message.term == st.term
        and st.role is FOLLOWER
        and (st.voted_for == NOBODY or st.voted_for == message.candidate)
        and _up_to_date(st, message.last_log_term, message.last_log_index)
    )
    if grant:
        if st.voted_for == NOBODY:
            roles.grant_vote(st, message.candidate)
        roles.reset_election_timer(st)
    st.outbox.append(Send(message.candidate, RequestVoteReply(st.term, grant, st.id)))
    st.work = True


def handle_request_vote_reply(st: State, message: RequestVoteReply) -> None:
    """Count a vote of this term, by the id of the voter."""
    if st.role is CANDIDATE and message.term == st.term and message.vote_granted:
        _count_vote(st, message.sender)
