"""The changes of role: the only writers of role, term, vote and leader (paper, figure 4; thesis, 9.6).

follower --- times out -------------------> follower, asking for pre-votes
follower --- pre-votes from a quorum -----> candidate, in the next term
follower --- is told to by the leader ----> candidate, in the next term
candidate -- times out -------------------> follower, asking for pre-votes
candidate -- votes from a quorum ---------> leader
any -------- discovers a higher term -----> follower
candidate -- discovers the term's leader -> follower
leader ----- hears from no quorum --------> follower
leader ----- its removal is committed ----> follower
leader ----- its disk hangs --------------> follower

Without pre-vote a follower or candidate that times out is a candidate in the next term at once.
"""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import adoption, durability
from raft_io.core.actions import ReadFailed
from raft_io.core.state import CANDIDATE, FOLLOWER, LEADER, State
from raft_io.core.types import NOBODY, NOOP

__all__ = [
    "become_candidate",
    "become_follower",
    "become_leader",
    "become_precandidate",
    "follow",
    "grant_vote",
    "hear_leader",
    "reset_election_timer",
]


def reset_election_timer(st: State) -> None:
    """Start the election timeout over; a new one is drawn when it first matters (section 5.2)."""
    st.elapsed = 0
    st.timeout = 0


def hear_leader(st: State, leader: i64) -> None:
    """The leader of this term has spoken."""
    if st.role is FOLLOWER:
        follow(st, leader)
    else:
        become_follower(st, st.term, leader)
    reset_election_timer(st)
    if st.lease_reads:
        st.vouched = st.now + st.election_min


def follow(st: State, leader: i64) -> None:
    """Recognise `leader`, or nobody: the way of a follower. What another leader was asked for has failed."""
    st.prevoting = False
    if leader == st.leader:
        return
    st.leader = leader
    st.leader_round = 0
    _fail_asked(st)


def _fail_asked(st: State) -> None:
    if st.asked:
        for asked in st.asked:
            st.notices.append(ReadFailed(asked.context))
        st.asked = []
        st.work = True


def become_follower(st: State, term: i64, leader: i64) -> None:
    """Follow `leader` (or nobody yet) in `term`, which is this term or a later one.

    The election timer of a follower or candidate runs on: only a vote granted or word from the leader starts
    it over (figure 2, rules for followers). Else a candidate that cannot win would hold back one that can.
    """
    assert term >= st.term
    if st.role is LEADER:
        _resign(st)
        reset_election_timer(st)
    st.role = FOLLOWER
    st.granted = []
    if term > st.term:
        _fail_asked(st)
        st.leader_round = 0
    follow(st, leader)
    if term > st.term:
        st.term = term
        st.voted_for = NOBODY
        durability.save_hard_state(st)


def _resign(st: State) -> None:
    """Drop what only a leader has. Its own reads fail; followers' reads they give up by themselves."""
    st.followers = []
    st.seats = []
    st.sizes = []
    st.uncommitted_bytes = 0
    st.heartbeat_due = False
    st.pending_change = None
    st.transfer_target = NOBODY
    for read in st.reads:
        if read.origin == st.id:
            st.notices.append(ReadFailed(read.context))
    st.reads = []
    st.work = True


def grant_vote(st: State, candidate: i64) -> None:
    """Vote for `candidate` in this term, for good (section 5.2: first come, first served)."""
    assert st.voted_for == NOBODY
    st.voted_for = candidate
    durability.save_hard_state(st)


def become_precandidate(st: State) -> None:
    """Ask for pre-votes: in the same term, and still a follower, of nobody (thesis, section 9.6)."""
    st.role = FOLLOWER
    follow(st, NOBODY)
    st.prevoting = True
    st.granted = [st.id]
    st.campaigned = True
    st.work = True
    reset_election_timer(st)


def become_candidate(st: State) -> None:
    """Enter the next term with a vote for oneself (section 5.2)."""
    follow(st, NOBODY)
    st.role = CANDIDATE
    st.term += 1
    st.voted_for = st.id
    st.granted = []
    st.campaigned = True
    reset_election_timer(st)
    durability.save_hard_state(st)
    st.vote_write = st.hard_written


def become_leader(st: State) -> None:
    """Lead this term: the election was won (section 5.2).

    A leader may not count copies of earlier terms' entries towards a commit (section 5.4.2); a `NOOP` of
    its own term carries over what it does not know to be committed.
    """
    st.role = LEADER
    st.leader = st.id
    st.granted = []
    st.sizes = []
    st.uncommitted_bytes = 0
    st.term_start = st.last_index + 1
    st.read_floor = st.last_index
    st.round = 0
    st.tells_rounds = st.lease_reads
    st.lease_void = False
    st.lease_rounds = []
    st.lease_ticks = []
    st.heartbeat_elapsed = 0
    st.heartbeat_due = True
    st.work = True
    adoption.refit(st)
    st.quorum_check = st.now + st.election_max
    if st.last_index > st.commit_index:
        durability.append_own(st, NOOP, b"")
