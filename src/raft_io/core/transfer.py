"""Leadership transfer (thesis, section 3.10): the target is brought up to date, then told to campaign."""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import reads
from raft_io.core.actions import Send
from raft_io.core.messages import TimeoutNow
from raft_io.core.state import State
from raft_io.core.types import NOBODY

__all__ = ["advance", "begin", "tick"]


def begin(st: State, target: i64) -> None:
    """Hand over to `target`, a voter, in place of an earlier target; to this node itself: nothing happens.
    Meanwhile no proposals are taken, so that it can catch up."""
    if target == st.id:
        return
    st.transfer_target = target
    st.transfer_since = st.now
    st.transfer_sent = -1
    # From here on the followers are told rounds: by them a target knows an order that was given up.
    st.tells_rounds = True
    reads.begin_round(st)
    st.work = True
    advance(st)


def advance(st: State) -> None:
    """Tell the target to campaign as soon as it has everything, and again with every heartbeat, for the word
    may be lost."""
    if st.transfer_sent >= 0 and st.now - st.transfer_sent < st.heartbeat_interval:
        return
    for follower in st.followers:
        if follower.id == st.transfer_target and follower.match == st.last_index:
            st.transfer_sent = st.now
            st.lease_void = True
            st.outbox.append(Send(follower.id, TimeoutNow(st.term, st.id, st.round)))
            st.work = True


def tick(st: State) -> None:
    """Give up after the longest election timeout: the target is down, or too slow."""
    if st.now - st.transfer_since < st.election_max:
        advance(st)
        return
    st.transfer_target = NOBODY
    reads.begin_round(st)
    st.heartbeat_due = True
    st.work = True
