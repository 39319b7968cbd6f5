"""A log read offline, without changing anything: what is in it, and all that is wrong with it.

`walk` streams what is there, in the order in which it is on disk, and goes on behind damage as far as it can.
`verify` is what is wrong. Nothing is opened for writing, nothing is repaired, no lock is taken: of a log that
is in use (`in_use`) the last record may be seen half written.

>>> from raft_io.storage import MemoryFileSystem, WalLog
>>> disk = MemoryFileSystem()
>>> with WalLog.open("/data/log", fs=disk) as log:
...     log.append([LogEntry(1, 1, b"put k v")])
...     log.sync()
>>> verify("/data/log", disk)
[]
>>> [entry.command for entry in entries("/data", disk)]
[b'put k v']
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Final

from raft_io.core.types import LogEntry, Snapshot
from raft_io.errors import CorruptLogError, StorageError, WireError
from raft_io.storage.disk import TEMPORARY, read_up_to
from raft_io.storage.fs import File, FileSystem, OsFileSystem
from raft_io.storage.index import LogIndex, offset_of, segment_of
from raft_io.storage.items import (
    DAMAGE,
    LEFTOVER,
    TORN,
    Finding,
    Item,
    RecordInfo,
    SegmentInfo,
    SnapshotInfo,
    decoded,
    guessed_header,
    is_whole,
    next_record,
    segment_info,
)
from raft_io.storage.names import LOCK_NAME, NAME, SNAPSHOT_NAME, segment_name
from raft_io.storage.records import (
    RECORD_HEADER,
    SEGMENT_HEADER,
    RecordHeader,
    SegmentHeader,
    decode_header,
    decode_segment_header,
)
from raft_io.storage.scan import Scan, is_zero, judge_tail
from raft_io.storage.segments import check_covered, check_start
from raft_io.storage.snapshot_file import FileData, load_snapshot

__all__ = [
    "Finding",
    "Item",
    "RecordInfo",
    "SegmentInfo",
    "SnapshotInfo",
    "entries",
    "in_use",
    "log_directory",
    "verify",
    "walk",
]

STEP: Final = 1 << 16
"""Bytes read at a time: what a sector that cannot be read takes with it."""


class NoLogError(StorageError):
    """There is no log where one was looked for; `context` says where."""

    def __str__(self) -> str:
        return f"{self.detail} in {self.context}"


def log_directory(path: str | os.PathLike[str], fs: FileSystem | None = None) -> str:
    """The directory with the log's files: `path`, or `log` in it. Raises `StorageError` if there is none."""
    disk = OsFileSystem() if fs is None else fs
    where = os.path.abspath(path)
    for candidate in (where, os.path.join(where, "log")):
        try:
            names = disk.listdir(candidate)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise StorageError.wrap(f"listing {candidate}", error) from error
        if any(NAME.fullmatch(name) or SNAPSHOT_NAME.fullmatch(name) for name in names):
            return candidate
    raise NoLogError(where, "there is no log")


def in_use(path: str | os.PathLike[str], fs: FileSystem | None = None) -> bool:
    """Whether a process has the log open. Raises `StorageError`."""
    disk = OsFileSystem() if fs is None else fs
    lock = os.path.join(log_directory(path, disk), LOCK_NAME)
    try:
        return disk.is_locked(lock)
    except OSError as error:
        raise StorageError.wrap(f"looking at {lock}", error) from error


def verify(path: str | os.PathLike[str], fs: FileSystem | None = None) -> list[Finding]:
    """All that is wrong with the log in `path`, the contents of its snapshot included. Raises `StorageError`
    if there is no log, or one of a newer version."""
    return [item for item in walk(path, fs, contents=True) if isinstance(item, Finding)]


def entries(path: str | os.PathLike[str], fs: FileSystem | None = None) -> Iterator[LogEntry]:
    """The entries that the log has, without those that were cut off or replaced. Raises `CorruptLogError` at
    the first damage, `StorageError`."""
    disk = OsFileSystem() if fs is None else fs
    directory = log_directory(path, disk)
    walker = _Walker(disk, directory)
    for item in walker.segments():
        if isinstance(item, Finding) and item.is_damage:
            raise CorruptLogError("reading the log", item.detail, item.path, item.offset)
    index = walker.index
    for at, place in enumerate(index.places):
        last = index.firsts[at + 1] - 1 if at + 1 < len(index.firsts) else index.last_index
        data = walker.contents(os.path.join(directory, segment_name(segment_of(place))))
        seed = int.from_bytes(data[8:12], "little")
        record = decode_header(seed, offset_of(place), data, offset_of(place))
        assert record is not None, "it has just been read"
        for entry in decoded(record, data, offset_of(place)).entries:
            if entry.index <= last:
                yield entry


def walk(
    path: str | os.PathLike[str], fs: FileSystem | None = None, *, contents: bool = False
) -> Iterator[Item]:
    """What is in the log in `path`: its snapshots, then each segment and its records, and in between what is
    wrong. `contents`: read those of the snapshot as well. Raises `StorageError`, as `verify` does."""
    disk = OsFileSystem() if fs is None else fs
    walker = _Walker(disk, log_directory(path, disk))
    yield from walker.snapshots(contents)
    yield from walker.segments()
    yield from walker.coverage()


class _Walker:
    """A walk over the files in a log's directory."""

    def __init__(self, fs: FileSystem, directory: str) -> None:
        self.fs = fs
        self.directory = directory
        self.index = LogIndex()
        try:
            names = sorted(fs.listdir(directory))
        except OSError as error:
            raise StorageError.wrap(f"listing {directory}", error) from error
        self.numbers = [int(name[:16]) for name in names if NAME.fullmatch(name)]
        self.snapshot_names = [name for name in names if SNAPSHOT_NAME.fullmatch(name)]
        self.temporaries = [name for name in names if name.endswith(TEMPORARY)]
        self._snapshot: Snapshot | None = None
        self._before: Scan | None = None
        self._broken = False
        """Whether something was passed over, so that what the log holds here is not known."""
        self._lossy = False
        """Whether that has happened anywhere in the log."""
        self._cached = ("", b"")

    def _at(self, name: str) -> str:
        return os.path.join(self.directory, name)

    # Snapshots

    def snapshots(self, contents: bool) -> Iterator[Item]:
        """The last snapshot, and what is wrong with it."""
        for name in self.temporaries:
            yield Finding(self._at(name), 0, LEFTOVER, "it was being made; the next open removes it")
        for name in self.snapshot_names[:-1]:
            yield Finding(self._at(name), 0, LEFTOVER, "there is a later snapshot; the next open removes it")
        for name in self.snapshot_names[-1:]:
            path = self._at(name)
            try:
                self._snapshot = snapshot = load_snapshot(self.fs, path)
            except CorruptLogError as error:
                yield Finding(path, error.offset, DAMAGE, error.detail)
                continue
            except OSError as error:
                yield Finding(path, 0, DAMAGE, f"it cannot be read: {error}")
                continue
            data = snapshot.data
            assert isinstance(data, FileData)
            yield SnapshotInfo(
                path, snapshot.index, snapshot.term, snapshot.membership, data.size, data.checksum
            )
            if contents:
                yield from _damaged_blocks(data)

    # Segments

    def segments(self) -> Iterator[Item]:
        """Each segment and its records."""
        for at, number in enumerate(self.numbers):
            if at and number != self.numbers[at - 1] + 1:
                # What is before a gap is not part of the log any more, or something is missing: `coverage`.
                self.index = LogIndex()
                self._before = None
                self._broken = self._lossy = False
            yield from self._segment(number)

    def _segment(self, number: int) -> Iterator[Item]:
        path = self._at(segment_name(number))
        data = b""
        for piece in self._read(path):
            if isinstance(piece, Finding):
                self._broken = self._lossy = True
                yield piece
            else:
                data = piece
        try:
            header = decode_segment_header(data, path)
        except CorruptLogError as error:
            yield Finding(path, error.offset, DAMAGE, error.detail)
            scan = Scan(guessed_header(number, data), self.index, path)
            self._pass_over(scan, SEGMENT_HEADER)
        else:
            yield segment_info(header, path)
            yield from self._start(header, number, path)
            scan = Scan(header, self.index, path)
        whole = yield from self._records(scan, data, number == self.numbers[-1])
        self._before = scan if whole else None

    def _start(self, header: SegmentHeader, number: int, path: str) -> Iterator[Finding]:
        """Whether the segment follows the one before."""
        before = self._before
        try:
            if self._broken:
                follows = (header.sequence, header.previous, header.previous_end)
                if before is not None and follows != (before.sequence, before.previous, before.offset):
                    detail = "the segment does not follow the one before it"
                    yield Finding(path, 16, DAMAGE, detail)
            else:
                check_start(header, number, self.index, before, path)
        except CorruptLogError as error:
            yield Finding(path, error.offset, DAMAGE, error.detail)
            self._broken = self._lossy = True
        if self._broken:
            self.index.reset(header.last_index, header.last_term)
            self._broken = False

    def _records(self, scan: Scan, data: bytes, last: bool) -> Generator[Item, None, bool]:
        """Each record, and what is wrong behind the last one. Returns whether where it ends is known."""
        while True:
            offset = int(scan.offset)
            record = None
            if len(data) - offset >= RECORD_HEADER:
                record = decode_header(scan.header.checksum, offset, data, offset)
            if record is not None and is_whole(record, data, offset):
                yield from self._record(scan, record, data)
                continue
            following = next_record(scan, data)
            if following < 0:
                break
            detail = "a record is missing" if is_zero(data, offset, following) else "a damaged record"
            yield Finding(scan.path, offset, DAMAGE, f"{detail}, and more are behind it")
            self._pass_over(scan, following)
        return (yield from self._tail(scan, data, last)) and scan.sequence >= 0

    def _pass_over(self, scan: Scan, offset: int) -> None:
        """Go on at `offset`, whatever is there."""
        self._broken = self._lossy = True
        scan.offset = offset
        scan.sequence = -1

    def _record(self, scan: Scan, record: RecordHeader, data: bytes) -> Iterator[Item]:
        """A record whose checksums are good."""
        offset = int(scan.offset)
        whole = data[offset : offset + record.size]
        if scan.sequence < 0:
            scan.sequence = record.sequence
            scan.previous = record.previous
        try:
            info = decoded(record, data, offset, scan.path)
            if self._broken and info.entries and info.reset is None:
                self.index.reset(info.entries[0].index - 1, info.entries[0].term)
            scan.feed(whole)
        except (CorruptLogError, WireError) as error:
            yield Finding(scan.path, offset, DAMAGE, error.detail)
            self._pass_over(scan, offset + int(record.size))
            scan.previous = record.checksum
            scan.sequence = record.sequence + 1
            scan.last_size = record.size
        else:
            yield info

    def _tail(self, scan: Scan, data: bytes, last: bool) -> Generator[Finding, None, bool]:
        """What is behind the last good record; returns whether that is no damage."""
        offset = int(scan.offset)
        try:
            left = judge_tail(scan, data[offset:], last)
        except CorruptLogError as error:
            self._broken = self._lossy = True
            yield Finding(scan.path, error.offset, DAMAGE, error.detail)
            return False
        if left:
            yield Finding(scan.path, offset, TORN, "a record was half written; the next open cuts it off")
        return True

    def _read(self, path: str) -> Iterator[Finding | bytes]:
        """The contents of a file, zeros where it cannot be read; before that, where that is."""
        data = bytearray()
        try:
            file = self.fs.open(path, read_only=True)
            try:
                for offset in range(0, file.size(), STEP):
                    piece = _read_piece(file, offset)
                    if isinstance(piece, str):
                        yield Finding(path, offset, DAMAGE, f"it cannot be read: {piece}")
                        piece = bytes(min(STEP, file.size() - offset))
                    data += piece
            finally:
                file.close()
        except OSError as error:
            yield Finding(path, len(data), DAMAGE, f"it cannot be read: {error}")
        yield bytes(data)

    def contents(self, path: str) -> bytes:
        """The contents of a segment in which nothing is wrong."""
        if self._cached[0] != path:
            self._cached = (path, next(piece for piece in self._read(path) if isinstance(piece, bytes)))
        return self._cached[1]

    # Both

    def coverage(self) -> Iterator[Finding]:
        """Whether the snapshot stands for everything before the first entry."""
        if not self.numbers:
            yield Finding(self._at(segment_name(1)), 0, DAMAGE, "there is a snapshot, and no segment")
            return
        first = self.numbers[-1]
        while first - 1 in self.numbers:
            first -= 1
        if self.snapshot_names and self._snapshot is None:
            return
        try:
            check_covered(self.directory, first, LogIndex() if self._lossy else self.index, self._snapshot)
        except CorruptLogError as error:
            yield Finding(error.path, error.offset, DAMAGE, error.detail)
            return
        for number in self.numbers:
            if number < first:
                path = self._at(segment_name(number))
                yield Finding(path, 0, LEFTOVER, "a snapshot stands for it; the next open removes it")


def _read_piece(file: File, offset: int) -> bytes | str:
    """The next bytes of `file`, or why they cannot be read."""
    try:
        return read_up_to(file, STEP, offset)
    except OSError as error:
        return str(error)


def _damaged_blocks(data: FileData) -> Iterator[Finding]:
    """Every block of a snapshot's contents that is not as it was written."""
    sound = True
    for start in range(0, data.size, data.block):
        try:
            data.read(start, data.block)
        except CorruptLogError as error:
            sound = False
            yield Finding(data.path, error.offset, DAMAGE, error.detail)
        except StorageError as error:
            sound = False
            yield Finding(data.path, start, DAMAGE, f"it cannot be read: {error.detail}")
    if sound:
        try:
            data.verify()
        except CorruptLogError as error:
            yield Finding(data.path, error.offset, DAMAGE, error.detail)
