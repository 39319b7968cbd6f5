"""A log whose unsynced part a crash takes away, and whose disk can fail."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.sim.contents import Contents, fingerprint
from tests.sim.image import Image, Save, Write

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


def _ignore_append(entries: Sequence[LogEntry]) -> None:
    pass


def _ignore_truncate(removed: Sequence[LogEntry]) -> None:
    pass


def _ignore_snapshot(snapshot: Snapshot) -> None:
    pass


@dataclass
class Staged:
    """What has come of a snapshot that is on its way here."""

    meta: SnapshotMeta
    data: bytearray = field(default_factory=bytearray)


class CrashLog(RaftLog):
    """Two copies: what the node reads back (`now`) and what a crash leaves (`disk`).

    `unsynced` holds the writes between the two, oldest first: a disk keeps some prefix of them. A position
    is a number of writes since the beginning. `on_append`, `on_truncate` and `on_snapshot` see every change
    first. `chance` picks how long a tail stays readable behind a snapshot, whether an incoming one is handed
    over as bytes, and (one time in `damage`) whether it arrives damaged.
    """

    def __init__(self, *, node_may_sync: bool = True, seed: int = 0, damage: int = 0) -> None:
        self.node_may_sync = node_may_sync
        self.now = Image()
        self.disk = Image()
        self.unsynced: list[Write] = []
        self.position = 0
        self.broken = False
        self.chance = random.Random(seed)
        self.damage = damage
        self.staged: Staged | None = None
        self.on_append: Callable[[Sequence[LogEntry]], None] = _ignore_append
        self.on_truncate: Callable[[Sequence[LogEntry]], None] = _ignore_truncate
        self.on_snapshot: Callable[[Snapshot], None] = _ignore_snapshot

    def load(self, entries: Sequence[LogEntry], state: HardState, snapshot: Snapshot | None = None) -> None:
        """Start with this on the disk: entries behind the snapshot."""
        image = Image(state=state)
        if snapshot is not None:
            image.write(Save(snapshot, snapshot.index))
        for entry in entries:
            image.write(entry)
        self.now, self.disk = image.copy(), image

    @property
    def held(self) -> list[LogEntry]:
        """The entries that can be read back."""
        return self.now.entries

    # What the node reads.

    def last_index(self) -> Index:
        return self.now.last_index()

    def last_term(self) -> Term:
        return self.now.last_term()

    def term_at(self, index: Index) -> Term | None:
        return self.now.term_at(index)

    def entry(self, index: Index) -> LogEntry | None:
        return self.now.entry(index)

    def entries(self, first: Index, last: Index) -> Sequence[LogEntry]:
        return self.now.between(first, last)

    def hard_state(self) -> HardState:
        return self.now.state

    def snapshot(self) -> Snapshot | None:
        return self.now.snapshot

    # What it writes.

    def append(self, entries: Sequence[LogEntry]) -> None:
        self._check("append entries")
        for place, entry in enumerate(entries, start=self.now.last_index() + 1):
            if entry.index != place:
                raise StorageError("append entries", f"a gap before index {entry.index}")
        self.on_append(entries)
        for entry in entries:
            self._write(entry)

    def truncate(self, first: Index) -> None:
        self._check("truncate")
        assert first > self.now.covered, "a snapshot cannot be truncated"
        self.on_truncate(self.now.between(first, self.now.last_index()))
        self._write(first)

    def set_hard_state(self, state: HardState) -> None:
        self._check("set hard state")
        self._write(state)

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._check("save a snapshot")
        if snapshot.index <= self.now.covered:
            return
        self.on_snapshot(snapshot)
        self.staged = None
        oldest = min(self.now.base, snapshot.index)
        some = self.chance.randint(oldest, snapshot.index)
        base = self.chance.choice((snapshot.index, snapshot.index, some, oldest))
        self._write(Save(snapshot, base))

    def receive_snapshot(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> bytes | SnapshotData | None:
        self._check("receive a snapshot")
        if offset == 0:
            self.staged = Staged(meta)
        staged = self.staged
        assert staged is not None and staged.meta == meta, f"a piece of {meta}, but none of it came before"
        assert offset == len(staged.data), f"byte {len(staged.data)} expected, got byte {offset}"
        staged.data += chunk
        assert len(staged.data) <= meta.size, "more than the whole"
        if len(staged.data) < meta.size:
            return None
        self.staged = None
        whole = bytes(staged.data)
        assert meta.checksum in (fingerprint(whole), Contents(whole).checksum), (
            f"pieces of several: {whole!r}"
        )
        if self.damage and self.chance.randrange(self.damage) == 0:
            return None
        return Contents(whole, self) if self.chance.random() < 0.5 else whole

    def sync(self) -> None:
        assert self.node_may_sync, "a node that defers its syncs called sync"
        self._check("sync log")
        self.persist(self.position)

    def persist(self, position: int) -> None:
        """The writes before `position` have reached the disk."""
        count = max(position - (self.position - len(self.unsynced)), 0)
        for write in self.unsynced[:count]:
            self.disk.write(write)
        del self.unsynced[:count]

    def waits_for(self, position: int) -> bool:
        """Whether some write before `position` has not reached the disk."""
        return position > self.position - len(self.unsynced)

    def crash(self, keep: int = 0, *, snapshots: bool = False) -> None:
        """Lose what was not synced, but for the first `keep` writes: those had reached the disk anyway, and
        `snapshots` too, files of their own, which may come about before what was written earlier."""
        self.persist(self.position - len(self.unsynced) + keep)
        if snapshots:
            for write in self.unsynced:
                if isinstance(write, Save):
                    self.disk.write(write)
        self.position -= len(self.unsynced)
        self.unsynced.clear()
        self.staged = None
        self.now = self.disk.copy()
        self.broken = False

    def _write(self, write: Write) -> None:
        self.now.write(write)
        self.unsynced.append(write)
        self.position += 1

    def _check(self, what: str) -> None:
        if self.broken:
            raise StorageError.wrap(what, OSError(errno.EIO, "Input/output error"))
