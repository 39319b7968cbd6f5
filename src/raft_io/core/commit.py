"""Commitment: advance the commit index, and hand out what is committed (paper, sections 5.3 and 5.4.2)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from raft_io.core import membership, quorum
from raft_io.core.actions import Action, Apply, MembershipCommitted, RestoreSnapshot
from raft_io.core.members import decode_membership
from raft_io.core.state import State
from raft_io.core.types import MEMBERSHIP, NORMAL, LogEntry

__all__ = ["advance", "can_apply", "commit_to", "emit_applies"]

_PAGE: Final = 64


def advance(st: State) -> None:
    """A leader commits what a quorum has, itself counted by what is durable here, from its own term on:
    earlier entries are committed with it (section 5.4.2, figure 8)."""
    index = st.stable_index
    if st.followers or not st.plain:
        matches: list[int] = [index]
        for follower in st.followers:
            matches.append(follower.match)
        index = quorum.committed_index(matches) if st.plain else quorum.agreed(matches, st.seats)
    if index > st.commit_index and index >= st.term_start:
        done = index - (st.last_index - len(st.sizes))
        for place in range(done):
            st.uncommitted_bytes -= st.sizes[place]
        del st.sizes[:done]
        commit_to(st, index)
        if st.outgoing or st.pending_change is not None:
            membership.act(st)
        if not st.votes and membership.has_left(st):
            # Its last word: with it the others know that they are on their own.
            st.heartbeat_due = True


def commit_to(st: State, index: i64) -> None:
    """Everything through `index` is committed."""
    if index > st.commit_index:
        st.commit_index = index
        st.work = True


def _applicable(st: State) -> i64:
    return min(st.commit_index, st.stable_index)


def can_apply(st: State) -> bool:
    """Whether something committed and durable here is not applied yet."""
    if st.restoring is not None:
        return st.restoring.index <= st.stable_index
    return st.last_applied < _applicable(st)


def emit_applies(st: State, actions: list[Action]) -> None:
    """Hand out what is committed and durable here, in order, as far as `max_apply_bytes` goes."""
    if st.restoring is not None:
        if st.restoring.index > st.stable_index:
            return
        actions.append(RestoreSnapshot(st.restoring))
        st.last_applied = st.restoring.index
        st.restoring = None
    last = _applicable(st)
    budget = st.max_apply_bytes
    taken = False
    while st.last_applied < last:
        first = st.last_applied + 1
        for entry in st.log.entries(first, min(last, first + _page(st, first, budget) - 1)):
            assert entry.index == st.last_applied + 1, "the log holds what is committed"
            if entry.kind is NORMAL:
                size = len(entry.command)
                if st.max_apply_bytes > 0:
                    if budget < size and taken:
                        return
                    budget -= size
                    taken = True
                actions.append(Apply(entry.index, entry.term, entry.command))
            elif entry.kind is MEMBERSHIP:
                _tell_membership(entry, actions)
            st.last_applied = entry.index
        assert st.last_applied >= first, "the log holds what is committed"


def _page(st: State, first: i64, budget: i64) -> i64:
    """How many entries to read at once. They tend to be of one size, and what goes beyond the limit would be
    read again for every drain."""
    if st.max_apply_bytes == 0:
        return _PAGE
    head = st.log.entry(first)
    assert head is not None, "the log holds what is committed"
    return max(min(budget // max(len(head.command), 1), _PAGE), 1)


def _tell_membership(entry: LogEntry, actions: list[Action]) -> None:
    committed = decode_membership(entry.command)
    if not committed.outgoing:
        actions.append(MembershipCommitted(committed, entry.index))
