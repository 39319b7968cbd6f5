"""The follower's side of replication (paper, section 5.3 and figure 2)."""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import commit, durability, roles
from raft_io.core.actions import Send
from raft_io.core.members import decode_membership
from raft_io.core.messages import AppendEntries, AppendEntriesReply
from raft_io.core.state import LEADER, State
from raft_io.core.terms import first_of_term, term_of
from raft_io.core.types import MAX, MEMBERSHIP, LogEntry

__all__ = ["handle_append_entries"]


def handle_append_entries(st: State, message: AppendEntries) -> None:
    """Take the entries in if they continue a log that agrees with the leader's; otherwise say where to
    look (figure 2, AppendEntries, 1 to 5)."""
    if message.term < st.term:
        _refuse(st, message, 0, 0)
        return
    if st.role is LEADER or not _well_formed(message):
        return  # a second leader in one term, or nonsense: no correct peer sends it
    roles.hear_leader(st, message.leader)
    if message.round > st.leader_round:
        st.leader_round = message.round

    prev = message.prev_log_index
    if prev > st.last_index:
        _refuse(st, message, st.last_index + 1, 0)
        return
    if prev > st.commit_index:
        term = term_of(st, prev)
        if term != message.prev_log_term:
            _refuse(st, message, first_of_term(st, term, prev), term)
            return
    if not _take(st, message.entries):
        return
    match = prev + len(message.entries)
    commit.commit_to(st, min(message.leader_commit, match))
    _reply(st, message, AppendEntriesReply(st.term, True, st.id, match, 0, 0, message.round))


def _well_formed(message: AppendEntries) -> bool:
    """Whether the entries count up from `prev_log_index` and stay below the largest index, with terms that
    never decrease and end at most at the message's own, and memberships that are some."""
    if message.prev_log_index >= MAX - len(message.entries):
        return False
    index = message.prev_log_index
    term = max(1, min(message.prev_log_term, message.term))
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            return False
        if entry.kind is MEMBERSHIP and not _is_membership(entry.command):
            return False
        term = entry.term
    return term <= message.term


def _is_membership(command: bytes) -> bool:
    try:
        return len(decode_membership(command).voters) > 0
    except ValueError:
        return False


def _take(st: State, entries: tuple[LogEntry, ...]) -> bool:
    """Append what is new, removing first what conflicts (figure 2, AppendEntries, 3 and 4). What agrees
    stays: an old message must not cut off what came after it. Returns whether that could be done: nobody
    may ask for the removal of what is committed."""
    if not entries:
        return True
    known: i64 = 0
    if entries[0].index <= st.last_index:
        for entry in entries:
            if entry.index > st.last_index:
                break
            if entry.index > st.commit_index:
                if term_of(st, entry.index) != entry.term:
                    durability.truncate(st, entry.index)
                    break
            else:
                # What a snapshot stands for cannot be compared any more.
                term = st.log.term_at(entry.index)
                if term is not None and term != entry.term:
                    return False
            known += 1
    if known == 0:
        durability.append(st, entries)
    elif known < len(entries):
        durability.append(st, entries[known:])
    return True


def _refuse(st: State, message: AppendEntries, index: i64, term: i64) -> None:
    """Answer that the logs do not agree, with a hint where to look; or that the leader's term is over.

    A round belongs to a term. In the answer to an earlier one it would confirm a round of this term, which
    the same leader may lead by now, that this node has never seen.
    """
    seen = message.round if message.term == st.term else 0
    _reply(st, message, AppendEntriesReply(st.term, False, st.id, 0, index, term, seen))


def _reply(st: State, message: AppendEntries, reply: AppendEntriesReply) -> None:
    st.outbox.append(Send(message.leader, reply))
    st.work = True
