"""The real log, and beside it what it holds and what of that is durable, by a count of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from raft_io import (
    EntryKind,
    HardState,
    Index,
    LogEntry,
    Membership,
    RaftLog,
    Snapshot,
    SnapshotData,
    SnapshotMeta,
    Term,
    decode_membership,
)
from raft_io.storage import WalLog

__all__ = ["Image", "WatchedLog"]


@final
class Image:
    """What a log holds: the terms of the entries above `base`, and everything up to it by a snapshot."""

    __slots__ = ("base", "base_term", "changes", "membership", "state", "terms")

    def __init__(self) -> None:
        self.base: Index = 0
        self.base_term: Term = 0
        self.terms: list[Term] = []
        self.state = HardState(0, None)
        self.membership: Membership | None = None
        """As of `base`."""
        self.changes: list[tuple[Index, Membership]] = []
        """Those above `base`."""

    @property
    def last(self) -> Index:
        """The index of the last entry."""
        return self.base + len(self.terms)

    @property
    def end(self) -> tuple[Term, Index]:
        """What elections go by (paper, section 5.4.1)."""
        return (self.terms[-1] if self.terms else self.base_term), self.last

    def holds(self, index: Index, term: Term) -> bool:
        """Whether the entry of `term` is there, or a snapshot stands for it."""
        place = index - self.base
        return place <= 0 or (place <= len(self.terms) and self.terms[place - 1] == term)

    def latest_membership(self, initial: Membership) -> Membership:
        """The last one in the log, committed or not (paper, section 6)."""
        if self.changes:
            return self.changes[-1][1]
        return initial if self.membership is None else self.membership

    def truncate(self, first: Index) -> None:
        """Entries from `first` on are gone."""
        del self.terms[max(first - self.base - 1, 0) :]
        while self.changes and self.changes[-1][0] >= first:
            self.changes.pop()

    def append(self, entry: LogEntry) -> None:
        """One more entry."""
        self.terms.append(entry.term)
        if entry.kind is EntryKind.MEMBERSHIP:
            self.changes.append((entry.index, decode_membership(entry.command)))

    def settle(self, index: Index, term: Term, membership: Membership) -> None:
        """A snapshot stands for everything up to `index`; above it, what agrees with it stays."""
        if index <= self.base:
            return
        if not self.holds(index, term):
            self.terms = []
            self.changes = []
        else:
            del self.terms[: index - self.base]
            self.changes = [change for change in self.changes if change[0] > index]
        self.base, self.base_term, self.membership = index, term, membership

    def copy_from(self, other: Image, same: Index) -> None:
        """Become like `other`; through `same` it is so already."""
        if self.base == other.base and same >= self.base:
            del self.terms[same - self.base :]
            self.terms.extend(other.terms[same - self.base :])
        else:
            self.base, self.base_term = other.base, other.base_term
            self.terms = list(other.terms)
        self.state = other.state
        self.membership = other.membership
        self.changes = list(other.changes)


def _nothing(*_: Any) -> None:
    pass


@final
class WatchedLog(RaftLog):
    """Passes everything on to `log`. `now` is what it holds, `disk` what a crash at this moment leaves at
    least. The callbacks are called before the change."""

    def __init__(self, log: WalLog) -> None:
        self.log = log
        self.now = read_image(log)
        self.disk = Image()
        self.disk.copy_from(self.now, 0)
        self.same: Index = self.now.last
        """Through here both are equal."""
        self.appending: Callable[[Sequence[LogEntry]], None] = _nothing
        self.truncating: Callable[[Index], None] = _nothing
        self.saving: Callable[[Snapshot], None] = _nothing
        self.bytes = 0
        """Of all commands that were appended."""

    def last_index(self) -> Index:
        return self.log.last_index()

    def last_term(self) -> Term:
        return self.log.last_term()

    def term_at(self, index: Index) -> Term | None:
        return self.log.term_at(index)

    def entry(self, index: Index) -> LogEntry | None:
        return self.log.entry(index)

    def entries(self, first: Index, last: Index) -> Sequence[LogEntry]:
        return self.log.entries(first, last)

    def append(self, entries: Sequence[LogEntry]) -> None:
        self.appending(entries)
        self.log.append(entries)
        for entry in entries:
            self.now.append(entry)

    def truncate(self, first: Index) -> None:
        self.truncating(first)
        self.log.truncate(first)
        self.now.truncate(first)
        self.same = min(self.same, first - 1)

    def hard_state(self) -> HardState:
        return self.log.hard_state()

    def set_hard_state(self, state: HardState) -> None:
        self.log.set_hard_state(state)
        self.now.state = state

    def snapshot(self) -> Snapshot | None:
        return self.log.snapshot()

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self.saving(snapshot)
        self.log.save_snapshot(snapshot)
        if not self.now.holds(snapshot.index, snapshot.term):
            self.same = min(self.same, snapshot.index)
        self.now.settle(snapshot.index, snapshot.term, snapshot.membership)

    def receive_snapshot(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> bytes | SnapshotData | None:
        return self.log.receive_snapshot(meta, offset, chunk)

    def membership_entries(self) -> Sequence[LogEntry]:
        return self.log.membership_entries()

    def sync(self) -> None:
        self.log.sync()
        self.disk.copy_from(self.now, self.same)
        self.same = self.now.last

    def close(self) -> None:
        self.log.close()


def read_image(log: WalLog) -> Image:
    """What a log that was just opened holds."""
    image = Image()
    snapshot = log.snapshot()
    if snapshot is not None:
        image.base, image.base_term, image.membership = snapshot.index, snapshot.term, snapshot.membership
    for index in range(image.base + 1, log.last_index() + 1):
        term = log.term_at(index)
        assert term is not None, f"entry {index} has no term"
        image.terms.append(term)
    image.changes = [
        (entry.index, decode_membership(entry.command))
        for entry in log.membership_entries()
        if entry.index > image.base
    ]
    image.state = log.hard_state()
    return image
