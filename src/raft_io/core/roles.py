"""The changes of role: the only writers of role, term and vote (paper, figure 4).

follower --- times out -------------------> candidate
candidate -- times out -------------------> candidate, in the next term
candidate -- votes from a majority -------> leader
any -------- discovers a higher term -----> follower
candidate -- discovers the term's leader -> follower
leader ----- its disk hangs --------------> follower
"""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import durability
from raft_io.core.progress import Progress
from raft_io.core.state import CANDIDATE, FOLLOWER, LEADER, State
from raft_io.core.types import NOBODY, NOOP, LogEntry

__all__ = [
    "become_candidate",
    "become_follower",
    "become_leader",
    "grant_vote",
    "reset_election_timer",
]


def reset_election_timer(st: State) -> None:
    """Start the election timeout over; a new one is drawn when it first matters (section 5.2)."""
    st.elapsed = 0
    st.timeout = 0


def become_follower(st: State, term: i64, leader: i64) -> None:
    """Follow `leader` (or nobody yet) in `term`, which is this term or a later one.

    The election timer of a follower or candidate runs on: only a vote granted or word from the leader starts
    it over (figure 2, rules for followers). Else a candidate that cannot win would hold back one that can.
    """
    assert term >= st.term
    if st.role is LEADER:
        st.followers = []
        st.sizes = []
        st.uncommitted_bytes = 0
        st.heartbeat_due = False
        reset_election_timer(st)
    st.role = FOLLOWER
    st.leader = leader
    st.granted = []
    if term > st.term:
        st.term = term
        st.voted_for = NOBODY
        durability.save_hard_state(st)


def grant_vote(st: State, candidate: i64) -> None:
    """Vote for `candidate` in this term, for good (section 5.2: first come, first served)."""
    assert st.voted_for == NOBODY
    st.voted_for = candidate
    durability.save_hard_state(st)


def become_candidate(st: State) -> None:
    """Enter the next term with a vote for oneself (section 5.2)."""
    st.role = CANDIDATE
    st.leader = NOBODY
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
    first = st.last_index + 1
    st.followers = [Progress(voter, first) for voter in st.voters if voter != st.id]
    st.term_start = first
    st.sizes = []
    st.uncommitted_bytes = 0
    st.heartbeat_elapsed = 0
    st.heartbeat_due = True
    st.work = True
    if st.last_index > st.commit_index:
        durability.append(st, (LogEntry(st.term, first, b"", NOOP),))
        st.sizes.append(0)
