"""`WalLog`: the log on disk, one write and one sync for all that has changed since the last."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, final

from raft_io.core.log import RaftLog, check_contiguous, check_truncation
from raft_io.core.types import HardState, Index, LogEntry, Term
from raft_io.errors import StorageError
from raft_io.storage.fs import FileSystem, OsFileSystem
from raft_io.storage.index import LogIndex, Place
from raft_io.storage.records import SECTOR, SEGMENT_HEADER
from raft_io.storage.segments import Segments, Written

__all__ = ["WalLog"]

SEGMENT_SIZE: Final = 16 << 20
CACHE_BYTES: Final = 16 << 20

MAX_RECORD: Final = 4 << 20
"""Bytes of entries in one record, unless a single entry is larger. A sync of more writes several records,
each of them synced before the next is written."""

MAX_COMMAND: Final = 1 << 30
"""Bytes of one command."""

ENTRY_COST: Final = 200
"""What an entry is taken to cost in memory and on disk besides its command."""


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

    Invariants:
    1. `_recent` holds the entries from `_base` to the last one.
    2. Every entry before `_base` is durable, and `_index` says where.
    3. The entries up to `_handed` have been handed to a sync; those behind it, `_cut` and `_hard_changed`
       are what the next one writes.
    """

    def __init__(self, segments: Segments, index: LogIndex, hard_state: HardState, cache_bytes: int) -> None:
        """Use `WalLog.open`."""
        self._segments = segments
        self._index = index
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
    ) -> WalLog:
        """Open the log in the directory `path`, made if it is missing, and check all of it.

        `fs` is the file system to use, `segment_size` the bytes of a new segment (a multiple of 512),
        `cache_bytes` about how much memory recent entries may take. A record that a crash tore is cut off.
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
            raise StorageError(f"open {where}", "the log is in use by another process") from error
        except (FileExistsError, NotADirectoryError) as error:
            raise StorageError(f"open {where}", "it is not a directory") from error
        except OSError as error:
            raise StorageError.wrap(f"open {where}", error) from error
        try:
            index = LogIndex()
            return cls(segments, index, segments.recover(index), cache_bytes)
        except OSError as error:
            segments.close()
            raise StorageError.wrap(f"open {where}", error) from error
        except BaseException:
            segments.close()
            raise

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
            first = max(first, 1)
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
            raise StorageError("read the log", f"entries {first} to {last} are not where they were written")
        found += part
        return last + 1

    def _load(self, place: Place) -> list[LogEntry]:
        """The entries of a record, out of the few that were read last."""
        entries = self._loaded.pop(place, None)
        if entries is None:
            try:
                entries = self._segments.read(place)
            except OSError as error:
                raise StorageError.wrap(f"read {self._segments.path}", error) from error
            if len(self._loaded) >= 4:
                del self._loaded[next(iter(self._loaded))]
        self._loaded[place] = entries
        return entries

    def hard_state(self) -> HardState:
        self._check_open()
        return self._hard_state

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
                        "append entries", f"entry {entry.index} has {length} bytes; the limit is 2**30"
                    )
                size += length
            for entry in entries:
                if entry.term != index.run_term:
                    index.new_term(entry.index, entry.term)
            self._recent += entries
            self._recent_bytes += size + ENTRY_COST * len(entries)
            index.last_index += len(entries)

    def truncate(self, first: Index) -> None:
        with self._lock:
            self._check_usable()
            check_truncation(first)
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

    # Syncing

    def sync(self) -> None:
        with self._sync_lock:
            with self._lock:
                self._check_usable()
                batch = self._take()
            if batch is None:
                return
            try:
                for written in split(batch):
                    place = self._segments.write(written)
                    if written.entries:
                        self._publish(written.entries[0].index, place)
            except BaseException as error:
                self._failure = str(error) or type(error).__name__
                if isinstance(error, OSError):
                    raise StorageError.wrap(f"write {self._segments.active_path}", error) from error
                raise
            with self._lock:
                self._evict(min(batch.last_index, self._handed))

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
        """A record with the entries from `first` on is durable, unless they have been cut off meanwhile."""
        with self._lock:
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
            raise StorageError("use the log", "it is closed")

    def _check_usable(self) -> None:
        self._check_open()
        if self._failure is not None:
            raise StorageError(
                "use the log",
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
                self._segments.close()
            except OSError as error:
                raise StorageError.wrap(f"close {self._segments.path}", error) from error

    def __enter__(self) -> WalLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def split(batch: Written) -> list[Written]:
    """`batch` as the records to write: mostly itself. The hard state and the cut go first, since no entry
    may be durable before the term it was accepted in."""
    entries = batch.entries
    size = sum([len(entry.command) + ENTRY_COST for entry in entries])
    if size <= MAX_RECORD:
        return [batch]
    parts: list[Written] = []
    part: list[LogEntry] = []
    size = 0
    for entry in entries:
        cost = len(entry.command) + ENTRY_COST
        if part and size + cost > MAX_RECORD:
            parts.append(_part(batch, part, not parts))
            part = []
            size = 0
        part.append(entry)
        size += cost
    parts.append(_part(batch, part, not parts))
    return parts


def _part(batch: Written, entries: list[LogEntry], is_first: bool) -> Written:
    state = batch.hard_state if is_first else None
    cut = batch.cut if is_first else 0
    return Written(state, cut, entries, entries[-1].index, entries[-1].term)
