"""The leader's side of replication (paper, section 5.3; thesis, section 10.2)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from raft_io.core import commit, durability, reads, snapshot, transfer
from raft_io.core.actions import Send
from raft_io.core.messages import AppendEntries, AppendEntriesReply
from raft_io.core.progress import SNAPSHOT, Progress
from raft_io.core.state import LEADER, State
from raft_io.core.terms import last_of_term, term_of
from raft_io.core.types import NOBODY, LogEntry

__all__ = ["handle_append_entries_reply", "propose", "send_appends"]

_NO_ENTRIES: Final[tuple[LogEntry, ...]] = ()

_MAX_TURN_BYTES: Final = 4 * 1024 * 1024
"""Bytes of commands after which a follower has had its turn in one drain: one that is far behind catches up
page by page, while heartbeats, the other followers and new events are not kept waiting for its window."""


def accepts(st: State, size: i64) -> bool:
    """Whether a command of `size` bytes fits beside what is uncommitted. One always fits alone."""
    return (
        st.max_uncommitted_bytes == 0
        or st.uncommitted_bytes == 0
        or st.uncommitted_bytes + size <= st.max_uncommitted_bytes
    )


def propose(st: State, command: bytes, size: i64) -> i64:
    """Append a command to the leader's log; the next drain sends it. Returns its index."""
    index = st.last_index + 1
    durability.append(st, (LogEntry(st.term, index, command),))
    st.sizes.append(size)
    st.uncommitted_bytes += size
    return index


def send_appends(st: State) -> None:
    """Put into the outbox what each follower should get now."""
    batch_start: i64 = 0
    batch_size: i64 = 0
    batch: tuple[LogEntry, ...] = _NO_ENTRIES
    for follower in st.followers:
        sent = False
        turn: i64 = 0
        if follower.next <= st.snapshot_index or follower.state is SNAPSHOT:
            _consider_snapshot(st, follower)
        while follower.next <= st.last_index and follower.can_send(st.max_inflight, st.max_inflight_bytes):
            if batch_start != follower.next or not batch:
                batch_start = follower.next
                batch = _read_batch(st, batch_start)
                batch_size = 0
                for entry in batch:
                    batch_size += len(entry.command)
            _send(st, follower, batch)
            follower.sent(batch[-1].index, batch_size)
            sent = True
            turn += batch_size
            if turn >= _MAX_TURN_BYTES:
                st.work = True  # the next drain goes on, if there is more
                break
        if not sent and (st.heartbeat_due or _owes_commit(st, follower)):
            _send(st, follower, _NO_ENTRIES)
    st.heartbeat_due = False


def _consider_snapshot(st: State, follower: Progress) -> None:
    """Send a piece of a snapshot to a follower whose entries are compacted away (section 7). While one
    travels a newer one changes nothing: else a follower could be sent beginnings for ever."""
    if follower.state is not SNAPSHOT:
        if st.log.term_at(follower.next - 1) is not None:
            return  # the log has kept a tail behind the snapshot
        latest = st.log.snapshot()
        assert latest is not None, "the log holds what no snapshot stands for"
        follower.begin_snapshot(latest)
    snapshot.send_piece(st, follower)


def _owes_commit(st: State, follower: Progress) -> bool:
    """Whether a follower that has everything and waits for nothing should hear of a commit at once.

    One that is silent always has something in flight, so that this never piles up."""
    return (
        follower.commit_sent < st.commit_index and follower.match == st.last_index and not follower.inflight
    )


def _read_batch(st: State, first: i64) -> tuple[LogEntry, ...]:
    """The entries from `first` on that fit in one message, at least one."""
    head = st.log.entry(first)
    assert head is not None, "the log holds everything through last_index"
    count = min(st.last_index - first + 1, st.max_batch)
    if count == 1:
        return (head,)
    # Entries tend to be of one size: ask for no more than should fit, then cut.
    size: i64 = len(head.command)
    if size * count > st.max_batch_bytes:
        count = max(st.max_batch_bytes // size, 1)
    entries = st.log.entries(first, first + count - 1)
    total: i64 = 0
    fitting: i64 = 0
    for entry in entries:
        total += len(entry.command)
        if total > st.max_batch_bytes and fitting > 0:
            break
        fitting += 1
    assert fitting > 0, "the log holds everything through last_index"
    return tuple(entries[:fitting])


def _send(st: State, follower: Progress, entries: tuple[LogEntry, ...]) -> None:
    first = entries[0].index if entries else follower.next
    prev = first - 1
    sending = follower.snapshot
    prev_term = term_of(st, prev) if sending is None else sending.term
    message = AppendEntries(st.term, st.id, prev, prev_term, entries, st.commit_index, reads.told_round(st))
    st.outbox.append(Send(follower.id, message))
    follower.commit_sent = st.commit_index


def handle_append_entries_reply(st: State, message: AppendEntriesReply) -> None:
    """Move a follower's progress; commit what a majority now has (section 5.3)."""
    if st.role is not LEADER or message.term != st.term:
        return
    for follower in st.followers:
        if follower.id == message.sender:
            follower.heard = st.now
            if message.round:
                reads.answered_round(st, follower, message.round)
            _update(st, follower, message)
            return


def _update(st: State, follower: Progress, message: AppendEntriesReply) -> None:
    if not message.success:
        if follower.refused(_next_after(st, follower, message)):
            st.work = True
    elif message.match_index <= st.last_index:
        if follower.acknowledged(message.match_index) and follower.match > st.commit_index:
            commit.advance(st)
        if st.transfer_target != NOBODY:
            transfer.advance(st)
        st.work = True


def _next_after(st: State, follower: Progress, message: AppendEntriesReply) -> i64:
    """Where to probe next, given a refusal's hint: behind the last entry of the conflicting term if this
    log has that term, else at the follower's first entry of it (section 5.3, end)."""
    hint = min(message.conflict_index, st.last_index + 1)
    if message.conflict_term == 0:
        return hint
    last = last_of_term(st, message.conflict_term)
    return last + 1 if 0 < last < follower.next - 1 else hint
