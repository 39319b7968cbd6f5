"""Changes of membership: by one entry, or by joint consensus (paper, section 6; thesis, chapter 4)."""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import durability
from raft_io.core.members import encode_membership
from raft_io.core.state import LEADER, State
from raft_io.core.types import MEMBERSHIP, NOOP, Membership

__all__ = ["act", "begin", "has_left", "in_progress"]


def in_progress(st: State) -> bool:
    """Whether a change waits, is not committed, or is in its joint phase: there is one at a time."""
    return st.pending_change is not None or len(st.outgoing) > 0 or st.history[-1].index > st.commit_index


def begin(st: State, target: Membership) -> i64:
    """Move to `target`. Returns the index of the entry that this made, `0` if it must wait."""
    before = st.last_index
    st.pending_change = target
    act(st)
    return st.last_index if st.last_index > before else 0


def act(st: State) -> None:
    """Do what is next in a change, if this node leads: begin the one that waits, or leave the joint phase,
    also one that another leader has begun.

    Not before the leader has committed an entry of its own term: another leader may have begun a change that
    it does not know of, and two changes at once need not have a majority in common (Ongaro, "bug in
    single-server membership changes", raft-dev, 2015).
    """
    if st.role is not LEADER or st.history[-1].index > st.commit_index:
        return
    target = st.pending_change
    if target is None and not st.outgoing:
        return
    if st.last_index < st.term_start:
        durability.append_own(st, NOOP, b"")
    if st.commit_index < st.term_start:
        return
    current = st.membership
    if st.outgoing:
        following = Membership(current.voters, current.learners)
    else:
        assert target is not None
        st.pending_change = None
        following = target
        if len(current.voters ^ target.voters) > 1:
            following = Membership(target.voters, target.learners, current.voters)
    durability.append_own(st, MEMBERSHIP, encode_membership(following))


def has_left(st: State) -> bool:
    """Whether this node leads, and a membership without it is committed: then it steps down (section 6)."""
    return st.role is LEADER and not st.votes and st.history[-1].index <= st.commit_index
