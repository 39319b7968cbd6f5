"""What a log holds at one moment: a snapshot, the entries that are still there, the hard state."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from raft_io import EntryKind, HardState, LogEntry, Membership, NodeId, Snapshot, decode_membership

Write: TypeAlias = "LogEntry | int | HardState | Save"
"""What was written: an entry, the index of a truncation, a hard state or a snapshot."""


class Save(NamedTuple):
    """A snapshot was saved; of what it stands for, the entries through `base` are gone."""

    snapshot: Snapshot
    base: int


@functools.lru_cache(4096)
def membership_in(command: bytes) -> Membership:
    """The membership that a `MEMBERSHIP` entry holds."""
    return decode_membership(command)


@dataclass
class Image:
    """Entries `base + 1` to `last_index`; some of them may be at or below the snapshot's index: a tail."""

    snapshot: Snapshot | None = None
    base: int = 0
    entries: list[LogEntry] = field(default_factory=list)
    changes: list[LogEntry] = field(default_factory=list)
    """The `MEMBERSHIP` entries among them."""
    state: HardState = field(default_factory=HardState)

    def copy(self) -> Image:
        return Image(self.snapshot, self.base, list(self.entries), list(self.changes), self.state)

    @property
    def covered(self) -> int:
        """The index through which the snapshot stands for the entries."""
        return 0 if self.snapshot is None else self.snapshot.index

    def last_index(self) -> int:
        return self.base + len(self.entries)

    def last_term(self) -> int:
        if self.entries:
            return self.entries[-1].term
        return 0 if self.snapshot is None else self.snapshot.term

    def term_at(self, index: int) -> int | None:
        """As `RaftLog.term_at`. What lies right before the first entry is not known, unless it is the
        snapshot's end or the beginning."""
        if self.snapshot is not None and index == self.snapshot.index:
            return self.snapshot.term
        if index == 0:
            return 0 if self.base == 0 else None
        entry = self.entry(index)
        return None if entry is None else entry.term

    def entry(self, index: int) -> LogEntry | None:
        if self.base < index <= self.base + len(self.entries):
            return self.entries[index - self.base - 1]
        return None

    def between(self, first: int, last: int) -> list[LogEntry]:
        """The entries from `first` to `last`, as far as they are there."""
        return self.entries[max(first - self.base, 1) - 1 : max(last - self.base, 0)]

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry of `term` at `index` is here, itself or in the snapshot. Only asked for entries
        that are committed or acknowledged, so that a snapshot over `index` holds the right one."""
        return index <= self.covered or self.term_at(index) == term

    def end(self) -> tuple[int, int]:
        """What voters compare (paper, section 5.4.1)."""
        return self.last_term(), self.last_index()

    def hard_state(self, node: NodeId) -> HardState:
        """The hard state as `node` adopts it. It may be behind the snapshot; then `node` votes for nobody
        else in that term."""
        if self.last_term() > self.state.term:
            return HardState(self.last_term(), node)
        return self.state

    def membership(self, initial: Membership) -> Membership:
        """Who takes part: the last word in the log, else the snapshot's, else the configuration's."""
        if self.changes and self.changes[-1].index > self.covered:
            return membership_in(self.changes[-1].command)
        return initial if self.snapshot is None else self.snapshot.membership

    def change(self) -> LogEntry | None:
        """The last `MEMBERSHIP` entry behind the snapshot."""
        return self.changes[-1] if self.changes and self.changes[-1].index > self.covered else None

    # Writes.

    def write(self, write: Write) -> None:
        if isinstance(write, LogEntry):
            self.entries.append(write)
            if write.kind is EntryKind.MEMBERSHIP:
                self.changes.append(write)
        elif isinstance(write, HardState):
            self.state = write
        elif isinstance(write, Save):
            self._save(write.snapshot, write.base)
        else:
            del self.entries[write - self.base - 1 :]
            while self.changes and self.changes[-1].index >= write:
                del self.changes[-1]

    def agrees(self, snapshot: Snapshot) -> bool:
        """Whether the log goes on behind `snapshot`, which so replaces none of it."""
        return self.term_at(snapshot.index) == snapshot.term

    def _save(self, snapshot: Snapshot, base: int) -> None:
        if snapshot.index <= self.covered:
            return
        if self.agrees(snapshot):
            base = max(base, self.base)
            del self.entries[: base - self.base]
            self.changes = [entry for entry in self.changes if entry.index > base]
        else:
            base = snapshot.index
            self.entries.clear()
            self.changes.clear()
        self.base = base
        self.snapshot = snapshot
