"""The files of a log: a directory of segments, of which the last one is written.

A segment is made under a temporary name, filled with zeros, given its header, synced, and only then named:
a segment that has its name is whole, and so is the one before it, whose end its header states. A crash in
between leaves a temporary file, which the next open removes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, final

from google_crc32c import value

from raft_io.core.types import HardState, LogEntry, Snapshot
from raft_io.storage.batches import Written
from raft_io.storage.disk import TEMPORARY, allocate, make_directory, read_up_to, write_all
from raft_io.storage.fs import File, FileSystem, Lock
from raft_io.storage.index import LogIndex, Place, offset_of, place_of, segment_of
from raft_io.storage.names import LOCK_NAME, NAME, SNAPSHOT_NAME, segment_name, snapshot_name
from raft_io.storage.records import (
    MAX_LENGTH,
    RECORD_HEADER,
    SECTOR,
    SEGMENT_HEADER,
    VERSION,
    SegmentHeader,
    corrupt,
    decode_body,
    decode_header,
    decode_segment_header,
    encode_body,
    encode_content,
    encode_header,
    encode_segment_header,
)
from raft_io.storage.scan import Scan, entries_start, judge_tail
from raft_io.wire import decode_entries, encode_entries

__all__ = ["Segments"]

LOCKNAME: Final = "LOCK"
READ_SIZE: Final = 1 << 20
"""Bytes read at a time when a segment is scanned."""

FIRST_READ: Final = 4096
"""Bytes read of a record before its size is known."""

MAX_READERS: Final = 8
"""Segments kept open for reading."""


@final
class Segments:
    """The directory at `path`, locked. `recover` comes first, then `write`, from one thread at a time;
    `read` at any time, from one thread at a time."""

    def __init__(self, fs: FileSystem, path: str, segment_size: int) -> None:
        self.fs = fs
        self.path = path
        self.segment_size = segment_size
        self.active_path = ""
        self.last_index = 0
        self.last_term = 0
        """Of the last entry that is durable."""
        self._first = 1
        self._stragglers: list[int] = []
        self._capacities: dict[int, int] = {}
        self._checksums: dict[int, int] = {}
        self._readers: dict[int, File] = {}
        self._active: File | None = None
        self._header = SegmentHeader(0, 0)
        self._offset = 0
        self._sequence = 1
        self._previous = 0
        self._hard_state = HardState()
        make_directory(fs, path)
        self._lock: Lock = fs.lock(os.path.join(path, LOCK_NAME))

    # Opening

    def recover(self, index: LogIndex) -> HardState:
        """Read everything into `index`, repair a torn tail, make durable what was found. Returns the hard
        state. Raises `OSError`, `CorruptLogError`, `StorageError`."""
        scan: Scan | None = None
        numbers = self._numbers()
        for number in numbers:
            scan = self._scan(number, index, scan, number == numbers[-1])
        if scan is None:
            if any(SNAPSHOT_NAME.fullmatch(name) for name in self._listing()):
                path = self._path_of(1)
                raise corrupt("there is a snapshot, and no segment", path, 0)
            self._start(SegmentHeader(1, self.segment_size))
        else:
            self._adopt(scan)
        self.fs.sync_dir(self.path)
        return self._hard_state

    def _numbers(self) -> list[int]:
        """The segments that make up the log: the last ones without a gap. Those before a gap are left over
        from a compaction, whose removals a power failure may have kept in any order."""
        names = self._listing()
        for name in names:
            if name.endswith(TEMPORARY):
                self.fs.unlink(os.path.join(self.path, name))
        numbers = sorted([int(match[1]) for match in map(NAME.fullmatch, names) if match])
        self._stragglers = []
        for before, number in enumerate(numbers[1:], 1):
            if number != numbers[before - 1] + 1:
                self._stragglers = numbers[:before]
        numbers = numbers[len(self._stragglers) :]
        if numbers:
            self._first = numbers[0]
        return numbers

    def _scan(self, number: int, index: LogIndex, before: Scan | None, last: bool) -> Scan:
        path = self._path_of(number)
        file = self.fs.open(path)
        try:
            header = decode_segment_header(read_up_to(file, SEGMENT_HEADER, 0), path)
            check_start(header, number, index, before, path)
            scan = Scan(header, index, path)
            torn = scan_file(file, scan, last)
            if last:
                self._repair(file, scan, torn)
        finally:
            file.close()
        self._checksums[number] = int(header.checksum)
        self._capacities[number] = int(header.capacity)
        return scan

    def settle(self, index: LogIndex, snapshot: Snapshot | None) -> bool:
        """Whether `snapshot` replaces the whole log that has been read into `index`, which then is empty.

        That is decided again at each open: a crash may have come between the snapshot and the record that
        says so. Raises `CorruptLogError` if entries between the two are missing.
        """
        check_covered(self.path, self._first, index, snapshot)
        if snapshot is None:
            return False
        covered = int(snapshot.index)
        if covered == index.base and index.base_term < 0:
            index.base_term = snapshot.term
            if index.last_index == covered:
                self.last_term = int(snapshot.term)
        if index.term_at(covered) == snapshot.term:
            return False
        index.reset(covered, snapshot.term)
        return True

    def remove_stragglers(self) -> None:
        """Remove the segments before a gap, for which a snapshot stands. Raises `OSError`."""
        for number in self._stragglers:
            self.fs.unlink(self._path_of(number))
        self._stragglers.clear()

    def _repair(self, file: File, scan: Scan, torn: int) -> None:
        """Cut a torn record off, and make what is left durable.

        The torn bytes become zeros, and are synced, before the file may grow: a crash in between leaves a
        torn record again. Nothing is given back to the file system, so a full disk does not matter.
        The last record is written once more: after a sync that failed, the system may have it in memory,
        take it for written, and leave it out of the next sync (Rebello and others, "Can applications
        recover from fsync failures?", 2020). Every record before it was synced before it was written.
        """
        if torn:
            write_all(file, bytes(torn), int(scan.offset))
            file.sync()
        if file.size() < scan.header.capacity:
            allocate(file, int(scan.header.capacity))
        if scan.last_size:
            start = int(scan.offset - scan.last_size)
            write_all(file, read_up_to(file, int(scan.last_size), start), start)
        file.sync()

    def _adopt(self, scan: Scan) -> None:
        self._header = scan.header
        self._offset = int(scan.offset)
        self._sequence = int(scan.sequence)
        self._previous = int(scan.previous)
        self.last_index = int(scan.index.last_index)
        self.last_term = int(scan.index.last_term)
        self._hard_state = scan.hard_state
        self.active_path = scan.path
        self._active = self.fs.open(scan.path)

    # Writing

    def write(self, what: Written) -> Place:
        """Write one record and sync it; returns its place. Raises `OSError`; then nothing may follow."""
        flags, content = encode_content(
            what.hard_state, what.cut, encode_entries(what.entries), what.reset_index, what.reset_term
        )
        assert len(content) <= MAX_LENGTH
        flags, body = encode_body(flags, content)
        too_old = what.reset_index >= 0 and self._header.version < VERSION
        if too_old or self._offset + RECORD_HEADER + len(body) > self._header.capacity:
            self._roll(RECORD_HEADER + len(body))
        header = encode_header(
            self._header.checksum, self._offset, len(content), body, self._sequence, self._previous, flags
        )
        place = place_of(int(self._header.number), self._offset)
        active = self._active
        assert active is not None
        write_all(active, header + body, self._offset)
        active.sync()
        self._offset += RECORD_HEADER + len(body)
        self._sequence += 1
        self._previous = int.from_bytes(header[:4], "little")
        self.last_index = what.last_index
        self.last_term = what.last_term
        if what.hard_state is not None:
            self._hard_state = what.hard_state
        return place

    def _roll(self, size: int) -> None:
        """Begin the next segment, with room for a record of `size` bytes. Everything before is synced."""
        capacity = max(self.segment_size, (SEGMENT_HEADER + size + SECTOR - 1) // SECTOR * SECTOR)
        self._start(
            SegmentHeader(
                self._header.number + 1,
                capacity,
                self._sequence,
                self._previous,
                self._offset,
                self.last_index,
                self.last_term,
                self._hard_state,
            )
        )

    def _start(self, header: SegmentHeader) -> None:
        number = int(header.number)
        path = self._path_of(number)
        self.active_path = path
        file = self.fs.open(path + TEMPORARY, create=True)
        try:
            allocate(file, int(header.capacity))
            write_all(file, encode_segment_header(header), 0)
            file.sync()
            self.fs.rename(path + TEMPORARY, path)
            self.fs.sync_dir(self.path)
        except BaseException:
            file.close()
            raise
        if self._active is not None:
            self._active.close()
        self._active = file
        self._header = header
        self._checksums[number] = int(header.checksum)
        self._capacities[number] = int(header.capacity)
        self._offset = SEGMENT_HEADER
        self._previous = int(header.checksum)

    # Compacting

    def first_kept(self, index: LogIndex, through: int, durable: int, tail: int) -> int:
        """The first segment to keep when a snapshot stands for the entries up to `through`; `durable` is the
        last entry on disk. Of what could go, about `tail` bytes stay: for followers a little behind, entries
        are cheaper than a snapshot."""
        active = int(self._header.number)
        needed = active
        if through < durable:
            needed = segment_of(index.places[index.record_of(through + 1)])
        readable = segment_of(index.places[0]) if index.places else active
        kept = self._offset + sum([self._capacities[number] for number in range(self._first, active)])
        for number in range(self._first, needed):
            kept -= self._capacities[number]
            if kept < tail and number >= readable:
                return number
        return needed

    def forget(self, first: int) -> list[str]:
        """Know nothing of the segments before `first` any more; returns their paths, the oldest first. In the
        thread that reads, or with it held up."""
        paths: list[str] = []
        while self._first < first:
            number = self._first
            paths.append(self._path_of(number))
            del self._checksums[number]
            del self._capacities[number]
            reader = self._readers.pop(number, None)
            if reader is not None:
                reader.close()
            self._first += 1
        return paths

    def remove(self, paths: list[str]) -> None:
        """Remove what `forget` returned. Raises `OSError`."""
        for path in paths:
            self.fs.unlink(path)

    # Reading

    def read(self, place: Place) -> list[LogEntry]:
        """The entries of the record at `place`. Raises `OSError`, `CorruptLogError`."""
        number = segment_of(place)
        offset = offset_of(place)
        file = self._reader(number)
        data = read_up_to(file, FIRST_READ, offset)
        record = None
        if len(data) >= RECORD_HEADER:
            record = decode_header(self._checksums[number], offset, data, 0)
        if record is None:
            raise corrupt("the checksum of a record's header does not match", self._path_of(number), offset)
        if len(data) < record.size:
            data += read_up_to(file, int(record.size) - len(data), offset + len(data))
        body = data[RECORD_HEADER : record.size]
        if value(body) != record.body_checksum:
            raise corrupt("the checksum of a record does not match", self._path_of(number), offset)
        content = decode_body(record.flags, body, record.length)
        return decode_entries(content, entries_start(record.flags))

    def _listing(self) -> list[str]:
        found: Iterable[str] = self.fs.listdir(self.path)
        return list(found)

    def _path_of(self, number: int) -> str:
        return os.path.join(self.path, segment_name(number))

    def _reader(self, number: int) -> File:
        file = self._readers.pop(number, None)
        if file is None:
            file = self.fs.open(self._path_of(number))
            if len(self._readers) >= MAX_READERS:
                self._readers.pop(next(iter(self._readers))).close()
        self._readers[number] = file
        return file

    def close(self) -> None:
        """Release the files and the lock. Raises `OSError`."""
        files = list(self._readers.values())
        self._readers.clear()
        if self._active is not None:
            files.append(self._active)
            self._active = None
        try:
            for file in files:
                file.close()
        finally:
            self._lock.close()


def check_covered(directory: str, first: int, index: LogIndex, snapshot: Snapshot | None) -> None:
    """Raise `CorruptLogError` unless the log in `directory` is whole: its first segment is `first`, its
    entries are those in `index`, and `snapshot` must stand for what is before them."""
    if int(index.base) <= (0 if snapshot is None else snapshot.index) and (
        snapshot is not None or first == 1
    ):
        return
    if first > 1:
        path = os.path.join(directory, segment_name(first - 1))
        raise corrupt(f"segment {first - 1} is missing, and no snapshot stands for it", path, 0)
    path = os.path.join(directory, snapshot_name(int(index.base)))
    raise corrupt(f"a snapshot is missing: the log begins behind entry {index.base}", path, 0)


def check_start(header: SegmentHeader, number: int, index: LogIndex, before: Scan | None, path: str) -> None:
    """Raise `CorruptLogError` unless `header` is that of segment `number`, where `before` ends. With nothing
    before it, the log begins where the header says, in segment 1 with nothing."""
    if header.number != number:
        raise corrupt(f"this is segment {header.number}, not {number}", path, 16)
    if before is None and number > 1:
        index.reset(header.last_index, header.last_term)
        return
    if index.last_index == index.base and index.base_term < 0:
        index.base_term = header.last_term
    expected = SegmentHeader(number, header.capacity, version=header.version)
    if before is not None:
        expected = SegmentHeader(
            number,
            header.capacity,
            before.sequence,
            before.previous,
            before.offset,
            index.last_index,
            index.last_term,
            before.hard_state,
            header.version,
        )
    if encode_segment_header(expected) != encode_segment_header(header):
        raise corrupt("the segment does not follow the one before it", path, 16)


def scan_file(file: File, scan: Scan, last: bool) -> int:
    """Scan a whole segment; returns how many bytes a torn record has left at its end.

    Raises `OSError`, `CorruptLogError`."""
    need = READ_SIZE
    while True:
        start = scan.offset
        asked = max(READ_SIZE, need)
        data = read_up_to(file, asked, int(start))
        need = int(scan.feed(data))
        ended = len(data) < asked and scan.offset == start
        if need == 0 or ended:
            break
    size = file.size()
    return judge_tail(scan, read_up_to(file, max(size - int(scan.offset), 0), int(scan.offset)), last)
