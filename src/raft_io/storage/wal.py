"""`WalLog`: the log on disk, one write and one sync for all that has changed since the last."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, final

from raft_io.core.log import RaftLog, check_contiguous, check_truncation
from raft_io.core.types import (
    MEMBERSHIP,
    Contents,
    HardState,
    Index,
    LogEntry,
    Snapshot,
    SnapshotMeta,
    Term,
)
from raft_io.errors import StorageError
from raft_io.storage.batches import ENTRY_COST, Install, Written, before_reset, split
from raft_io.storage.fs import FileSystem, OsFileSystem
from raft_io.storage.index import LogIndex, Place, segment_of
from raft_io.storage.records import SECTOR, SEGMENT_HEADER
from raft_io.storage.segments import Segments
from raft_io.storage.snapshots import SnapshotFiles, SnapshotWriter

__all__ = ["WalLog"]

SEGMENT_SIZE: Final = 16 << 20
CACHE_BYTES: Final = 16 << 20

TAIL_BYTES: Final = 16 << 20
"""How much of the log stays readable behind a snapshot, about."""

MAX_COMMAND: Final = 1 << 30
"""Bytes of one command."""


@final
class WalLog(RaftLog):
    """The durable log: a directory of segments (docs/log-format.md). One process at a time.

    >>> from raft_io.storage.memfs import MemoryFileSystem
    >>> disk = MemoryFileSystem()
    >>> with WalLog.open("/data/log", fs=disk) as log:
    ...     log.append([LogEntry(1, 1, b"put k v")])
    ...     log.sync()
    >>> with WalLog.open("/data/log", fs=disk) as log:
    ...     log.entry(1)
    LogEntry(term=1, index=1, command=b'put k v', kind=EntryKind.NORMAL)

    What has changed is buffered; `sync` makes it durable, with one write and one `fdatasync`. `sync` may
    run in another thread while any other method but `close` is called; it covers what was done before it
    was called. Recent entries are kept in memory, older ones are read back from disk, and verified.

    A snapshot is written, and what it stands for dropped, by the sync as well, except for about `tail_bytes`
    of entries before it. Its contents stay on disk: `snapshot().data` reads them.

    Invariants:
    1. `_recent` holds the entries from `_base` to the last one.
    2. Every entry before `_base` is durable, and `_index` says where.
    3. The entries up to `_handed` have been handed to a sync; those behind it, `_cut`, `_hard_changed` and
       `_install` are what the next one writes.
    4. What is on disk makes up a log without a gap: entries, and before them a snapshot or nothing.
    """

    def __init__(
        self,
        segments: Segments,
        files: SnapshotFiles,
        index: LogIndex,
        hard_state: HardState,
        snapshot: Snapshot | None,
        cache_bytes: int,
        tail_bytes: int,
    ) -> None:
        """Use `WalLog.open`."""
        self._segments = segments
        self._files = files
        self._index = index
        self._snapshot: Snapshot | None = snapshot
        self._install: Install | None = None
        self._drop_due = snapshot is not None
        self._tail_bytes = tail_bytes
        self._hard_state = hard_state
        self._hard_changed = False
        self._cache_bytes = cache_bytes
        self._recent: list[LogEntry] = []
        self._base = int(index.last_index) + 1
        self._recent_bytes = 0
        self._handed = int(index.last_index)
        self._cut = 0
        self._loaded: dict[Place, list[LogEntry]] = {}
        self._failure: str | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        fs: FileSystem | None = None,
        segment_size: int = SEGMENT_SIZE,
        cache_bytes: int = CACHE_BYTES,
        tail_bytes: int = TAIL_BYTES,
    ) -> WalLog:
        """Open the log in the directory `path`, made if it is missing, and check all of it.

        `fs` is the file system to use, `segment_size` the bytes of a new segment (a multiple of 512),
        `cache_bytes` about how much memory recent entries may take, `tail_bytes` about how much of the log
        stays on disk behind a snapshot. A record that a crash tore is cut off.
        Raises `CorruptLogError` for any other damage, `StorageError` if another process has the log open
        or the disk fails.
        """
        if segment_size < SEGMENT_HEADER * 2 or segment_size % SECTOR:
            raise ValueError(f"segment_size must be a multiple of 512, at least 1024, not {segment_size}")
        where = os.path.abspath(path)
        disk: FileSystem = OsFileSystem() if fs is None else fs
        try:
            segments = Segments(disk, where, segment_size)
        except BlockingIOError as error:
            raise StorageError(f"opening {where}", "the log is in use by another process") from error
        except (FileExistsError, NotADirectoryError) as error:
            raise StorageError(f"opening {where}", "it is not a directory") from error
        except OSError as error:
            raise StorageError.wrap(f"opening {where}", error) from error
        try:
            return cls._recovered(segments, SnapshotFiles(disk, where), cache_bytes, tail_bytes)
        except OSError as error:
            segments.close()
            raise StorageError.wrap(f"opening {where}", error) from error
        except BaseException:
            segments.close()
            raise

    @classmethod
    def _recovered(
        cls, segments: Segments, files: SnapshotFiles, cache_bytes: int, tail_bytes: int
    ) -> WalLog:
        """The log in a directory that has just been locked."""
        index = LogIndex()
        snapshot = files.recover()
        hard_state = segments.recover(index)
        replaced = segments.settle(index, snapshot)
        # The names are durable now: what they have made needless may go.
        segments.remove_stragglers()
        files.remove_older()
        log = cls(segments, files, index, hard_state, snapshot, cache_bytes, tail_bytes)
        if replaced and snapshot is not None:
            log._install = Install(None)
            log._install.reset(snapshot.index, snapshot.term)
        return log

    # Reading

    def last_index(self) -> Index:
        self._check_open()
        return self._index.last_index

    def last_term(self) -> Term:
        self._check_open()
        return self._index.last_term

    def term_at(self, index: Index) -> Term | None:
        with self._lock:
            self._check_open()
            return self._index.term_at(index)

    def entry(self, index: Index) -> LogEntry | None:
        found = self.entries(index, index)
        return found[0] if found else None

    def entries(self, first: Index, last: Index) -> Sequence[LogEntry]:
        with self._lock:
            self._check_open()
            first = max(first, int(self._index.base) + 1)
            last = min(last, int(self._index.last_index))
            base = self._base
            if first >= base:
                return self._recent[first - base : max(last + 1 - base, 0)]
            found: list[LogEntry] = []
            while first <= last and first < base:
                first = self._read_record(first, min(last, base - 1), found)
            if first <= last:
                found += self._recent[: last + 1 - base]
            return found

    def _read_record(self, first: int, last: int, found: list[LogEntry]) -> int:
        """Add the entries from `first` to `last`, as far as one record holds them; returns the next one."""
        index = self._index
        record = index.record_of(first)
        start = index.firsts[record]
        if record + 1 < len(index.firsts):
            last = min(last, index.firsts[record + 1] - 1)
        entries = self._load(index.places[record])
        part = entries[first - start : last + 1 - start]
        if not part or part[0].index != first or part[-1].index != last:
            raise StorageError(
                "reading the log", f"entries {first} to {last} are not where they were written"
            )
        found += part
        return last + 1

    def _load(self, place: Place) -> list[LogEntry]:
        """The entries of a record, out of the few that were read last."""
        entries = self._loaded.pop(place, None)
        if entries is None:
            try:
                entries = self._segments.read(place)
            except OSError as error:
                raise StorageError.wrap(f"reading {self._segments.path}", error) from error
            if len(self._loaded) >= 4:
                del self._loaded[next(iter(self._loaded))]
        self._loaded[place] = entries
        return entries

    def hard_state(self) -> HardState:
        self._check_open()
        return self._hard_state

    def snapshot(self) -> Snapshot | None:
        self._check_open()
        return self._snapshot

    def membership_entries(self) -> Sequence[LogEntry]:
        with self._lock:
            self._check_open()
            first = 1 if self._snapshot is None else self._snapshot.index + 1
            wanted = [index for index in self._index.memberships if index >= first]
        found = [self.entry(index) for index in wanted]
        return [entry for entry in found if entry is not None]

    # Writing: to memory, until the next sync

    def append(self, entries: Sequence[LogEntry]) -> None:
        with self._lock:
            self._check_usable()
            index = self._index
            check_contiguous(entries, index.last_index)
            size = 0
            for entry in entries:
                length = len(entry.command)
                if length > MAX_COMMAND:
                    raise StorageError(
                        "appending entries", f"entry {entry.index} has {length} bytes; the limit is 2**30"
                    )
                size += length
            for entry in entries:
                if entry.term != index.run_term:
                    index.new_term(entry.index, entry.term)
                if entry.kind is MEMBERSHIP:
                    index.memberships.append(entry.index)
            self._recent += entries
            self._recent_bytes += size + ENTRY_COST * len(entries)
            index.last_index += len(entries)

    def truncate(self, first: Index) -> None:
        with self._lock:
            self._check_usable()
            check_truncation(first, 0 if self._snapshot is None else self._snapshot.index)
            if first > self._index.last_index:
                return
            self._index.cut(first)
            if first <= self._handed:
                self._handed = first - 1
                self._cut = min(self._cut, first) if self._cut else first
            if first < self._base:
                self._base = first
                self._recent.clear()
                self._recent_bytes = 0
                return
            removed = self._recent[first - self._base :]
            del self._recent[first - self._base :]
            self._recent_bytes -= sum([len(entry.command) for entry in removed]) + ENTRY_COST * len(removed)

    def set_hard_state(self, state: HardState) -> None:
        with self._lock:
            self._check_usable()
            self._hard_state = state
            self._hard_changed = True

    def save_snapshot(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._check_usable()
            if snapshot.index <= (0 if self._snapshot is None else self._snapshot.index):
                return
            install = self._install
            if install is None:
                install = Install(None)
                self._install = install
            install.snapshot = snapshot
            if self._index.term_at(snapshot.index) != snapshot.term:
                self._empty(install)
            self._snapshot = snapshot

    def _empty(self, install: Install) -> None:
        """The snapshot of `install` replaces the whole log. What is on disk is cut first where that was due:
        so a crash before the reset is written leaves a log that the snapshot replaces just as well."""
        snapshot = install.snapshot
        assert snapshot is not None
        index = self._index
        if self._cut:
            term = index.term_at(self._cut - 1)
            install.cut = self._cut
            install.cut_term = 0 if term is None else term
            self._cut = 0
        install.reset(snapshot.index, snapshot.term)
        index.reset(snapshot.index, snapshot.term)
        self._recent.clear()
        self._recent_bytes = 0
        self._base = snapshot.index + 1
        self._handed = snapshot.index

    def receive_snapshot(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> Contents | None:
        with self._lock:
            self._check_usable()
        try:
            received: Contents | None = self._files.receive(meta, offset, chunk)
        except OSError as error:
            raise StorageError.wrap(f"writing a snapshot to {self._segments.path}", error) from error
        return received

    def snapshot_writer(self) -> SnapshotWriter:
        """A sink for the contents of a snapshot, for any thread, while the log is in use. What its `finish`
        returns is the `data` of a snapshot to save, and is not copied then. Raises `StorageError`."""
        with self._lock:
            self._check_usable()
        return self._files.writer()

    # Syncing

    def sync(self) -> None:
        with self._sync_lock:
            with self._lock:
                self._check_usable()
                install = self._install
                self._install = None
                batch = self._take()
            try:
                if install is not None:
                    self._carry_out(install, batch)
                elif batch is not None:
                    self._write(batch)
                if batch is not None:
                    with self._lock:
                        self._evict(min(batch.last_index, self._handed))
                if self._drop_due:
                    self._drop()
            except BaseException as error:
                self._failure = str(error) or type(error).__name__
                if isinstance(error, OSError):
                    raise StorageError.wrap(f"writing {self._segments.active_path}", error) from error
                raise

    def _write(self, batch: Written) -> None:
        for written in split(batch):
            place = self._segments.write(written)
            if written.entries:
                self._publish(written.entries[0].index, place)

    def _carry_out(self, install: Install, batch: Written | None) -> None:
        """Write `batch` and the snapshot. The hard state goes first, as ever; whatever the snapshot replaces
        goes last."""
        snapshot = install.snapshot
        if install.reset_index < 0:
            if batch is not None:
                self._write(batch)
        elif snapshot is not None:
            first = before_reset(install, batch, self._segments.last_index, self._segments.last_term)
            if first is not None:
                self._segments.write(first)
        if snapshot is not None:
            self._publish_snapshot(snapshot)
        if install.reset_index >= 0:
            if batch is None:
                batch = Written(None, 0, [], install.reset_index, install.reset_term)
            batch.reset_index = install.reset_index
            batch.reset_term = install.reset_term
            self._write(batch)

    def _publish_snapshot(self, snapshot: Snapshot) -> None:
        data = self._files.publish(snapshot)
        with self._lock:
            if self._snapshot is snapshot and data is not snapshot.data:
                self._snapshot = Snapshot(snapshot.index, snapshot.term, snapshot.membership, data)
        self._drop_due = True

    def _drop(self) -> None:
        """Drop the segments that the snapshot has made needless, once what is on disk is what the index says
        but for entries behind it."""
        with self._lock:
            snapshot = self._snapshot
            if self._cut or self._install is not None or snapshot is None:
                return
            index = self._index
            first = self._segments.first_kept(index, snapshot.index, self._handed, self._tail_bytes)
            paths = self._segments.forget(first)
            if paths:
                self._forget(first)
        self._drop_due = False
        self._segments.remove(paths)

    def _forget(self, first: int) -> None:
        """The entries in segments before `first` are gone."""
        index = self._index
        records = 0
        while records < len(index.places) and segment_of(index.places[records]) < first:
            records += 1
        base = index.firsts[records] - 1 if records < len(index.firsts) else self._handed
        if base > index.base:
            index.drop(base)
        if base >= self._base:
            gone = self._recent[: base + 1 - self._base]
            del self._recent[: base + 1 - self._base]
            self._recent_bytes -= sum([len(entry.command) for entry in gone]) + ENTRY_COST * len(gone)
            self._base = base + 1
        for place in list(self._loaded):
            if segment_of(place) < first:
                del self._loaded[place]

    def _take(self) -> Written | None:
        """Everything since the last sync, which from here on counts as handed over."""
        last = int(self._index.last_index)
        entries = self._recent[self._handed + 1 - self._base :] if last > self._handed else []
        state = self._hard_state if self._hard_changed else None
        if not entries and state is None and not self._cut:
            return None
        batch = Written(state, self._cut, entries, last, int(self._index.last_term))
        self._hard_changed = False
        self._cut = 0
        self._handed = last
        return batch

    def _publish(self, first: int, place: Place) -> None:
        """A record with the entries from `first` on is durable, unless they have been cut off or
        replaced by a snapshot meanwhile."""
        with self._lock:
            install = self._install
            if install is not None and install.reset_index >= 0:
                return
            if not self._cut or first < self._cut:
                self._index.add_record(first, place)

    def _evict(self, durable: int) -> None:
        """Drop the oldest entries up to `durable` where they take too much memory; a quarter at a time,
        since dropping from the front moves all the others."""
        if self._recent_bytes <= self._cache_bytes:
            return
        count = 0
        for entry in self._recent[: max(durable + 1 - self._base, 0)]:
            if self._recent_bytes <= self._cache_bytes * 3 // 4:
                break
            self._recent_bytes -= len(entry.command) + ENTRY_COST
            count += 1
        del self._recent[:count]
        self._base += count

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("using the log", "it is closed")

    def _check_usable(self) -> None:
        self._check_open()
        if self._failure is not None:
            raise StorageError(
                "using the log",
                f"an earlier write failed ({self._failure}); open it again to learn what is there",
            )

    # Closing

    def close(self) -> None:
        """Release the files and the lock. What was not synced is lost."""
        with self._sync_lock, self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                try:
                    self._files.close()
                finally:
                    self._segments.close()
            except OSError as error:
                raise StorageError.wrap(f"closing {self._segments.path}", error) from error

    def __enter__(self) -> WalLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
