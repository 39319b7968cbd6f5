"""The only writers of the log, and what is known to be durable in it.

"Persist before you respond" (paper, section 5, figure 2: state updated on stable storage before responding
to RPCs). A leader may send its entries before they are durable here (thesis, section 10.2.1), for it counts
itself only afterwards.
"""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import adoption
from raft_io.core.messages import AppendEntriesReply, Message
from raft_io.core.state import LEADER, State, Ticket
from raft_io.core.terms import term_of
from raft_io.core.types import NOBODY, EntryKind, HardState, LogEntry, Snapshot
from raft_io.errors import StorageError

__all__ = [
    "append",
    "append_own",
    "compact",
    "fail",
    "issue_ticket",
    "relies_on_unsynced",
    "replace_log",
    "save_hard_state",
    "settle_tickets",
    "stalled",
    "sync",
    "truncate",
]


def append(st: State, entries: tuple[LogEntry, ...]) -> None:
    """Append entries that continue the log."""
    st.log.append(entries)
    last = entries[-1]
    st.last_index = last.index
    st.last_term = last.term
    st.dirty = True
    st.work = True
    adoption.appended(st, entries)


def append_own(st: State, kind: EntryKind, command: bytes) -> i64:
    """Append a leader's entry that no caller proposed. Returns its index."""
    assert st.role is LEADER
    index = st.last_index + 1
    st.sizes.append(0)
    append(st, (LogEntry(st.term, index, command, kind),))
    return index


def truncate(st: State, first: i64) -> None:
    """Remove the entries at `first` and after: they conflict with a leader's (section 5.3)."""
    assert first > st.commit_index, "a committed entry is never removed"
    st.log.truncate(first)
    last = first - 1
    st.last_index = last
    st.last_term = term_of(st, last)
    _vouch_no_further(st, last)
    st.dirty = True
    st.work = True
    adoption.truncated(st, first)


def _vouch_no_further(st: State, last: i64) -> None:
    """What stood behind `last` is replaced: that it was or will be durable says nothing any more."""
    if st.stable_index > last:
        st.stable_index = last
    for ticket in st.tickets:
        if ticket.index > last:
            ticket.index = last


def compact(st: State, snapshot: Snapshot) -> None:
    """Save a snapshot of what this node has applied; the log drops what it stands for (section 7)."""
    assert st.snapshot_index < snapshot.index <= st.last_applied
    st.log.save_snapshot(snapshot)
    st.snapshot_index = snapshot.index
    st.snapshot_term = snapshot.term
    st.dirty = True
    st.work = True
    adoption.compacted(st, snapshot.index)


def replace_log(st: State, snapshot: Snapshot) -> None:
    """Save a leader's snapshot in place of the whole log (figure 13, 7)."""
    assert snapshot.index > st.commit_index, "a snapshot never moves a state machine backwards"
    st.log.save_snapshot(snapshot)
    _vouch_no_further(st, st.commit_index)
    st.last_index = st.log.last_index()
    st.last_term = st.log.last_term()
    assert st.last_index == snapshot.index and st.last_term == snapshot.term
    st.snapshot_index = snapshot.index
    st.snapshot_term = snapshot.term
    st.commit_index = snapshot.index
    st.dirty = True
    st.work = True
    adoption.installed(st, snapshot.index, snapshot.membership)


def save_hard_state(st: State) -> None:
    """Write the term and the vote."""
    st.log.set_hard_state(HardState(st.term, None if st.voted_for == NOBODY else st.voted_for))
    st.hard_written += 1
    st.dirty = True
    st.work = True


def sync(st: State) -> None:
    """Make all of it durable now."""
    st.log.sync()
    st.dirty = False
    st.stable_index = st.last_index
    st.hard_synced = st.hard_written


def issue_ticket(st: State) -> i64:
    """A number for the sync that will make all that is written so far durable.

    Where nothing was written since the last one went out, that one stands for this as well: asking again and
    again while a disk hangs costs no memory.
    """
    number = st.next_ticket
    st.next_ticket = number + 1
    if not st.dirty and st.tickets:
        return number
    st.tickets.append(Ticket(number, st.last_index, st.hard_written, st.now))
    st.dirty = False
    return number


def settle_tickets(st: State, number: i64) -> bool:
    """The sync of ticket `number` is done, and with it every earlier one. Returns whether that was news:
    a ticket that is settled already, or was never handed out, says nothing."""
    if number >= st.next_ticket:
        return False
    settled = 0
    for ticket in st.tickets:
        if ticket.number > number:
            break
        settled += 1
        if ticket.index > st.stable_index:
            st.stable_index = ticket.index
        st.hard_synced = ticket.writes
    del st.tickets[:settled]
    return settled > 0


def relies_on_unsynced(st: State, message: Message) -> bool:
    """Whether a crash now could make this node unsay `message`: its term, its vote, or an entry that it
    acknowledges may be lost."""
    if st.hard_synced != st.hard_written:
        return True
    if isinstance(message, AppendEntriesReply):
        return message.success and message.match_index > st.stable_index
    return False


def stalled(st: State) -> bool:
    """Whether a sync has been out for longer than the longest election timeout: a disk that hangs is a disk
    that failed."""
    return len(st.tickets) > 0 and st.now - st.tickets[0].tick > st.election_max


def fail(st: State, error: Exception) -> Exception:
    """The node is dead: something failed halfway, and what is on its disk is no longer known. Returns what to
    raise: a `StorageError`, but our own bug as itself."""
    failure = error if isinstance(error, StorageError) else StorageError.wrap("using the log", error)
    st.failed = failure
    return error if isinstance(error, AssertionError) else failure
