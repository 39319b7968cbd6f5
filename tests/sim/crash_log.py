"""A log whose unsynced part a crash takes away, and whose disk can fail."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TypeAlias

from raft_io import HardState, Index, LogEntry, RaftLog, StorageError, Term

Write: TypeAlias = "LogEntry | int | HardState"
"""What was written: an entry, the index of a truncation, or a hard state."""


def _ignore_append(previous: LogEntry | None, entries: Sequence[LogEntry]) -> None:
    pass


def _ignore_truncate(removed: Sequence[LogEntry]) -> None:
    pass


class CrashLog(RaftLog):
    """Two copies: what the node reads back (`held`, `state`) and what a crash leaves (`disk`, `disk_state`).

    `unsynced` holds the writes between the two, oldest first: a disk keeps some prefix of them. A position
    is a number of writes since the beginning. `on_append` and `on_truncate` see every change first.
    """

    def __init__(self, *, node_may_sync: bool = True) -> None:
        self.node_may_sync = node_may_sync
        self.held: list[LogEntry] = []
        self.state = HardState()
        self.disk: list[LogEntry] = []
        self.disk_state = HardState()
        self.unsynced: list[Write] = []
        self.position = 0
        self.broken = False
        self.on_append: Callable[[LogEntry | None, Sequence[LogEntry]], None] = _ignore_append
        self.on_truncate: Callable[[Sequence[LogEntry]], None] = _ignore_truncate

    def load(self, entries: Sequence[LogEntry], state: HardState) -> None:
        """Start with this on the disk."""
        self.held, self.disk = list(entries), list(entries)
        self.state = self.disk_state = state

    def last_index(self) -> Index:
        return len(self.held)

    def last_term(self) -> Term:
        return self.held[-1].term if self.held else 0

    def term_at(self, index: Index) -> Term | None:
        if index == 0:
            return 0
        return self.held[index - 1].term if 1 <= index <= len(self.held) else None

    def entry(self, index: Index) -> LogEntry | None:
        return self.held[index - 1] if 1 <= index <= len(self.held) else None

    def append(self, entries: Sequence[LogEntry]) -> None:
        self._write("append entries")
        for place, entry in enumerate(entries):
            if entry.index != len(self.held) + 1 + place:
                raise StorageError("append entries", f"a gap before index {entry.index}")
        self.on_append(self.held[-1] if self.held else None, entries)
        self.held.extend(entries)
        self.unsynced.extend(entries)
        self.position += len(entries)

    def truncate(self, first: Index) -> None:
        self._write("truncate")
        self.on_truncate(self.held[first - 1 :])
        del self.held[first - 1 :]
        self.unsynced.append(first)
        self.position += 1

    def hard_state(self) -> HardState:
        return self.state

    def set_hard_state(self, state: HardState) -> None:
        self._write("set hard state")
        self.state = state
        self.unsynced.append(state)
        self.position += 1

    def sync(self) -> None:
        assert self.node_may_sync, "a node that defers its syncs called sync"
        self._write("sync log")
        self.persist(self.position)

    def persist(self, position: int) -> None:
        """The writes before `position` have reached the disk."""
        count = max(position - (self.position - len(self.unsynced)), 0)
        for write in self.unsynced[:count]:
            if isinstance(write, LogEntry):
                self.disk.append(write)
            elif isinstance(write, HardState):
                self.disk_state = write
            else:
                del self.disk[write - 1 :]
        del self.unsynced[:count]

    def waits_for(self, position: int) -> bool:
        """Whether some write before `position` has not reached the disk."""
        return position > self.position - len(self.unsynced)

    def crash(self, keep: int = 0) -> None:
        """Lose what was not synced, but for the first `keep` writes: those had reached the disk anyway."""
        self.persist(self.position - len(self.unsynced) + keep)
        self.position -= len(self.unsynced)
        self.unsynced.clear()
        self.held = list(self.disk)
        self.state = self.disk_state
        self.broken = False

    def _write(self, what: str) -> None:
        if self.broken:
            raise StorageError.wrap(what, OSError(errno.EIO, "Input/output error"))
