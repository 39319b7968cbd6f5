"""A log on a disk that a scenario controls: what is not synced is lost in a crash."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from raft_io import (
    HardState,
    Index,
    LogEntry,
    RaftLog,
    Snapshot,
    SnapshotData,
    SnapshotMeta,
    StorageError,
    Term,
)


@dataclass
class Held:
    """Entries `base + 1` to the last, a snapshot, the hard state; of what the snapshot stands for, `tail`
    entries stay readable."""

    tail: int = 0
    base: int = 0
    entries: list[LogEntry] = field(default_factory=list)
    snapshot: Snapshot | None = None
    state: HardState = field(default_factory=HardState)

    def copy(self) -> Held:
        return Held(self.tail, self.base, list(self.entries), self.snapshot, self.state)

    @property
    def covered(self) -> int:
        """Through where the snapshot stands for the entries."""
        return 0 if self.snapshot is None else self.snapshot.index

    @property
    def last_index(self) -> int:
        return self.base + len(self.entries)

    def term_at(self, index: int) -> int | None:
        if self.snapshot is not None and index == self.snapshot.index:
            return self.snapshot.term
        if index == self.base == 0:
            return 0
        return self.entries[index - self.base - 1].term if self.base < index <= self.last_index else None

    def between(self, first: int, last: int) -> list[LogEntry]:
        return self.entries[max(first - self.base, 1) - 1 : max(last - self.base, 0)]

    def append(self, entry: LogEntry) -> None:
        self.entries.append(entry)

    def truncate(self, first: int) -> None:
        del self.entries[first - self.base - 1 :]

    def set_state(self, state: HardState) -> None:
        self.state = state

    def save(self, snapshot: Snapshot) -> None:
        if self.term_at(snapshot.index) == snapshot.term:
            base = max(snapshot.index - self.tail, self.base)
            self.entries = self.between(base + 1, self.last_index)
        else:
            base = snapshot.index
            self.entries = []
        self.base = base
        self.snapshot = snapshot


class Disk(RaftLog):
    """Two copies: what the node reads back (`now`) and what a crash leaves (`kept`). `say` is told what the
    node writes into the log; a position is a number of writes since the beginning."""

    def __init__(
        self,
        say: Callable[[str, Sequence[LogEntry] | Snapshot], None],
        *,
        node_may_sync: bool = True,
        tail: int = 0,
    ) -> None:
        self.say = say
        self.node_may_sync = node_may_sync
        self.now = Held(tail)
        self.kept = Held(tail)
        self.unsynced: list[Callable[[Held], None]] = []
        self.position = 0
        self.broken = False
        self.damage_next = False
        self.staged = b""

    def load(self, entries: Sequence[LogEntry], state: HardState) -> None:
        """Start with this on the disk."""
        self.now.entries, self.now.state = list(entries), state
        self.kept = self.now.copy()

    # What the node reads.

    def last_index(self) -> Index:
        return self.now.last_index

    def last_term(self) -> Term:
        term = self.now.term_at(self.now.last_index)
        return 0 if term is None else term

    def term_at(self, index: Index) -> Term | None:
        return self.now.term_at(index)

    def entry(self, index: Index) -> LogEntry | None:
        return next(iter(self.now.between(index, index)), None)

    def hard_state(self) -> HardState:
        return self.now.state

    def snapshot(self) -> Snapshot | None:
        return self.now.snapshot

    # What it writes.

    def append(self, entries: Sequence[LogEntry]) -> None:
        if entries[0].index != self.now.last_index + 1:
            raise StorageError("append entries", f"a gap before index {entries[0].index}")
        self.say("appends", entries)
        for entry in entries:
            self._write("append entries", partial(Held.append, entry=entry))

    def truncate(self, first: Index) -> None:
        self.say("removes", self.now.between(first, self.now.last_index))
        self._write("truncate", partial(Held.truncate, first=first))

    def set_hard_state(self, state: HardState) -> None:
        self._write("set hard state", partial(Held.set_state, state=state))

    def save_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.index > self.now.covered:
            self.say("saves", snapshot)
            self._write("save a snapshot", partial(Held.save, snapshot=snapshot))

    def receive_snapshot(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> bytes | SnapshotData | None:
        if offset == 0:
            self.staged = b""
        if offset != len(self.staged):
            raise StorageError("receive a snapshot", f"byte {len(self.staged)} expected, got byte {offset}")
        self.staged += chunk
        if len(self.staged) < meta.size:
            return None
        whole, self.staged = self.staged, b""
        if self.damage_next:
            self.damage_next = False
            return None
        return whole

    def sync(self) -> None:
        assert self.node_may_sync, "a node that defers its syncs called sync"
        self._check("sync log")
        self.persist(self.position)

    # What happens to it.

    def persist(self, position: int) -> None:
        """The writes before `position` have reached the disk."""
        count = max(position - (self.position - len(self.unsynced)), 0)
        for write in self.unsynced[:count]:
            write(self.kept)
        del self.unsynced[:count]

    def crash(self) -> None:
        """Lose what was not synced."""
        self.position -= len(self.unsynced)
        self.unsynced.clear()
        self.staged = b""
        self.now = self.kept.copy()
        self.broken = False

    def _write(self, what: str, write: Callable[[Held], None]) -> None:
        self._check(what)
        write(self.now)
        self.unsynced.append(write)
        self.position += 1

    def _check(self, what: str) -> None:
        if self.broken:
            raise StorageError.wrap(what, OSError(errno.EIO, "Input/output error"))
