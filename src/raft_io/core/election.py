"""Elections: the timer, pre-votes, campaigns, votes (paper, 5.2 and 5.4.1; thesis, 4.2.3 and 9.6)."""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import adoption, durability, membership, quorum, reads, roles, transfer
from raft_io.core.actions import Send
from raft_io.core.messages import PreVote, PreVoteReply, RequestVote, RequestVoteReply, TimeoutNow
from raft_io.core.state import CANDIDATE, FOLLOWER, LEADER, State
from raft_io.core.types import MAX, NOBODY

__all__ = [
    "count_own_vote",
    "handle_pre_vote",
    "handle_pre_vote_reply",
    "handle_request_vote",
    "handle_request_vote_reply",
    "handle_timeout_now",
    "hears_leader",
    "ignores",
    "tick",
]


def tick(st: State) -> None:
    """One tick: heartbeats for a leader, the election timeout for everybody else."""
    st.now += 1
    if st.role is LEADER:
        _tick_leader(st)
        return
    if st.asked:
        reads.expire_asked(st)
    if st.campaigned:
        # A campaign that has not even been sent gets no successor, and its time has not begun: a process that
        # was suspended for a thousand ticks campaigns once.
        return
    st.elapsed += 1
    if st.elapsed < st.election_min:
        return
    if st.timeout == 0:
        st.timeout = st.rng.between(st.election_min, st.election_max)
    if st.elapsed >= st.timeout:
        _time_out(st)


def _tick_leader(st: State) -> None:
    st.heartbeat_elapsed += 1
    if st.heartbeat_elapsed >= st.heartbeat_interval:
        st.heartbeat_elapsed = 0
        st.heartbeat_due = True
        st.work = True
        if st.tells_rounds:
            reads.begin_round(st)
    if st.transfer_target != NOBODY:
        transfer.tick(st)
    if st.reads:
        reads.expire(st)
    if durability.stalled(st) or (st.check_quorum and st.now >= st.quorum_check and _is_deaf(st)):
        roles.become_follower(st, st.term, NOBODY)


def _is_deaf(st: State) -> bool:
    """Whether no quorum was heard from for the longest election timeout (thesis, section 6.2)."""
    heard: list[int] = [st.now]
    for follower in st.followers:
        heard.append(follower.heard)
    since = quorum.agreed(heard, st.seats)
    st.quorum_check = since + st.election_max
    return st.now >= st.quorum_check


def _time_out(st: State) -> None:
    if not adoption.may_lead(st):
        # Who is no voter never campaigns; it only notices that it has lost the leader.
        roles.follow(st, NOBODY)
        roles.reset_election_timer(st)
    elif _may_campaign(st):
        if not st.pre_vote:
            _campaign(st, False)
            return
        roles.become_precandidate(st)
        if quorum.wins(st.voters, st.outgoing, st.granted):
            _campaign(st, False)
        else:
            _ask_everybody(st, PreVote(st.term + 1, st.id, st.last_index, st.last_term))


def _may_campaign(st: State) -> bool:
    return not st.passive and not durability.stalled(st) and st.term + 1 < MAX and st.last_index + 1 < MAX


def _campaign(st: State, force: bool) -> None:
    """Stand for the next term (section 5.2)."""
    roles.become_candidate(st)
    _ask_everybody(st, RequestVote(st.term, st.id, st.last_index, st.last_term, force))


def _ask_everybody(st: State, message: RequestVote | PreVote) -> None:
    for voter in st.voters:
        if voter != st.id:
            st.outbox.append(Send(voter, message))
    for voter in st.outgoing:
        if voter != st.id and voter not in st.voters:
            st.outbox.append(Send(voter, message))


def count_own_vote(st: State) -> None:
    """A candidate's own vote counts once it is durable."""
    if st.role is CANDIDATE and st.hard_synced >= st.vote_write:
        _count_vote(st, st.id)


def _counts(st: State, voter: i64) -> bool:
    """Whether a grant of `voter` is news. It is added either way only once."""
    if voter in st.granted or (voter not in st.voters and voter not in st.outgoing):
        return False
    st.granted.append(voter)
    return quorum.wins(st.voters, st.outgoing, st.granted)


def _count_vote(st: State, voter: i64) -> None:
    if _counts(st, voter):
        roles.become_leader(st)
        membership.act(st)


def _up_to_date(st: State, last_term: i64, last_index: i64) -> bool:
    """Whether a log that ends so is at least as up to date as this one (section 5.4.1)."""
    if last_term != st.last_term:
        return last_term > st.last_term
    return last_index >= st.last_index


def hears_leader(st: State) -> bool:
    """Whether a leader was heard within the shortest election timeout; a leader always hears itself."""
    return st.role is LEADER or (st.leader != NOBODY and st.elapsed < st.election_min)


def _is_bound(st: State, force: bool) -> bool:
    """Whether a leader may rely on a lease that this node has vouched for, also before it restarted. One that
    has sent the candidate itself (`force`) does not."""
    return st.now < st.quarantine or (not force and st.now < st.vouched)


def ignores(st: State, message: RequestVote) -> bool:
    """Whether a candidate is not even answered, and its term not adopted: this node hears a leader, and the
    candidate was not sent by that (thesis, section 4.2.3); or it is bound by a lease."""
    if message.term <= st.term:
        return False
    return _is_bound(st, message.force) or (st.check_quorum and not message.force and hears_leader(st))


def handle_request_vote(st: State, message: RequestVote) -> None:
    """Grant one vote a term, to a candidate whose log is as up to date as this one (figure 2).

    Who is no voter as far as it knows votes as well: an entry that it lacks may have made it one (section 6).
    """
    grant = (
        message.term == st.term
        and st.role is FOLLOWER
        and (st.voted_for == NOBODY or st.voted_for == message.candidate)
        and not _is_bound(st, message.force)
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


def handle_pre_vote(st: State, message: PreVote) -> None:
    """Say whether a candidate could win this node's vote in a later term; nothing here changes by it."""
    grant = (
        message.term > st.term
        and not hears_leader(st)
        and not _is_bound(st, False)
        and _up_to_date(st, message.last_log_term, message.last_log_index)
    )
    reply = PreVoteReply(message.term if grant else st.term, grant, st.id)
    st.outbox.append(Send(message.candidate, reply))
    st.work = True


def handle_pre_vote_reply(st: State, message: PreVoteReply) -> None:
    """Campaign once a quorum would vote for this node; give up when one of them is ahead in terms."""
    if not message.vote_granted:
        if message.term > st.term:
            roles.become_follower(st, message.term, NOBODY)
    elif st.prevoting and message.term == st.term + 1 and _counts(st, message.sender) and _may_campaign(st):
        _campaign(st, False)


def handle_timeout_now(st: State, message: TimeoutNow) -> None:
    """Campaign at once, past pre-vote and stickiness, for the leader hands over (thesis, section 3.10). One
    that is older than what was heard of that leader since may be one that it has given up."""
    if (
        message.term != st.term
        or st.role is not FOLLOWER
        or (st.leader != message.leader and st.leader != NOBODY)
        or (message.round != 0 and message.round < st.leader_round)
        or not adoption.may_lead(st)
        or not _may_campaign(st)
    ):
        return
    _campaign(st, True)
