"""Reading a segment from front to back: what a log is made of when it is opened. No input or output here.

`Scan.feed` takes bytes and keeps its place; `judge_tail` decides what to make of the bytes behind the last
good record: nothing, a record that a crash tore, or damage.
"""

from __future__ import annotations

from typing import Final, final

from google_crc32c import value
from mypy_extensions import i64

from raft_io.core.types import HardState
from raft_io.storage.index import LogIndex, place_of
from raft_io.storage.records import (
    ALL_FLAGS,
    ENTRIES,
    ENTRY_HEADER,
    HARD_STATE,
    RECORD_HEADER,
    RECORD_MAGIC_BYTES,
    RESET,
    SECTOR,
    SEGMENT_HEADER,
    STUFFED,
    TRUNCATE,
    RecordHeader,
    SegmentHeader,
    corrupt,
    decode_body,
    decode_header,
    hard_state_of,
)

try:
    from librt.strings import read_i64_le
except ImportError:  # no build of librt for this platform
    from raft_io._plain import read_i64_le

__all__ = ["Scan", "entries_start", "judge_tail"]

MEMBERSHIP_KIND: Final = 1
"""`EntryKind.MEMBERSHIP` as it is on disk."""


@final
class Scan:
    """A walk over the records of one segment, replaying them into `index` and `hard_state`.

    `offset` is where the next record begins, `sequence` the number it must have, `previous` the checksum it
    must name; `last_size` is the size of the record before it, 0 if there is none.
    """

    __slots__ = (
        "hard_state",
        "header",
        "index",
        "last_size",
        "offset",
        "path",
        "previous",
        "sequence",
    )

    def __init__(self, header: SegmentHeader, index: LogIndex, path: str) -> None:
        self.header: SegmentHeader = header
        self.index: LogIndex = index
        self.path: str = path
        self.hard_state: HardState = hard_state_of(header.term, header.vote)
        self.offset: i64 = SEGMENT_HEADER
        self.sequence: i64 = header.sequence
        self.previous: i64 = header.checksum
        self.last_size: i64 = 0

    def feed(self, data: bytes) -> i64:
        """Take the records in `data`, the file's bytes from `offset` on.

        Returns how many bytes from the new `offset` on it takes to continue; 0 if no good record is there.
        Raises `CorruptLogError` for a record that is whole but not the one that belongs there.
        """
        pos: i64 = 0
        end: i64 = len(data)
        segment = self.header.checksum
        while True:
            if end - pos < RECORD_HEADER:
                return RECORD_HEADER
            record = decode_header(segment, self.offset, data, pos)
            if record is None:
                return 0
            if end - pos < record.size:
                return record.size
            body = data[pos + RECORD_HEADER : pos + record.size]
            if value(body) != record.body_checksum:
                return 0
            if record.flags & STUFFED:
                self._take(record, decode_body(record.flags, body, record.length), 0)
            else:
                self._take(record, data, pos + RECORD_HEADER)
            pos += record.size

    def _take(self, record: RecordHeader, data: bytes, pos: i64) -> None:
        """Replay a record whose content begins at `pos` of `data`."""
        flags = record.flags
        end = pos + record.length
        check_order(self, record)
        if flags & ~ALL_FLAGS or (flags & RESET and self.header.version < 2):
            raise self._senseless("unknown flags")
        if entries_start(flags) > record.length:
            raise self._senseless("cut short")
        if flags & HARD_STATE:
            term = read_i64_le(data, pos)
            if term < 0:
                raise self._senseless("a negative term")
            self.hard_state = hard_state_of(term, read_i64_le(data, pos + 8))
            pos += 16
        if flags & TRUNCATE:
            cut = read_i64_le(data, pos)
            if cut < 1:
                raise self._senseless("a truncation below the first entry")
            self.index.cut(cut)
            pos += 8
        if flags & RESET:
            base = read_i64_le(data, pos)
            term = read_i64_le(data, pos + 8)
            if base < 1 or term < 0:
                raise self._senseless("a reset to nowhere")
            self.index.reset(base, term)
            pos += 16
        if (pos < end) != (flags & ENTRIES != 0):
            raise self._senseless("entries that its flags do not announce, or none that they do")
        if pos < end:
            self.index.add_record(self.index.last_index + 1, place_of(self.header.number, self.offset))
            self._entries(data, pos, end)
        self.last_size = record.size
        self.offset += record.size
        self.sequence += 1
        self.previous = record.checksum

    def _entries(self, data: bytes, pos: i64, end: i64) -> None:
        index = self.index
        last = index.last_index
        run_term = index.run_term
        while pos < end:
            if end - pos < ENTRY_HEADER:
                raise self._senseless("an entry cut short")
            size_and_kind = read_i64_le(data, pos) & 0xFF_FFFF_FFFF
            size = size_and_kind & 0xFFFF_FFFF
            term = read_i64_le(data, pos + 5)
            last += 1
            kind = size_and_kind >> 32
            if size > end - pos - ENTRY_HEADER or kind > 2 or term < 0:
                raise self._senseless(f"entry {last} makes no sense")
            if read_i64_le(data, pos + 13) != last:
                raise self._senseless(f"entry {last} expected, {read_i64_le(data, pos + 13)} found")
            if term != run_term:
                index.new_term(last, term)
                run_term = term
            if kind == MEMBERSHIP_KIND:
                index.memberships.append(last)
            pos += ENTRY_HEADER + size
        index.last_index = last

    def _senseless(self, what: str) -> Exception:
        return corrupt(f"a record with a good checksum and bad content: {what}", self.path, self.offset)


def entries_start(flags: i64) -> i64:
    """Where the entries begin in a record's content."""
    start: i64 = 0
    if flags & HARD_STATE:
        start += 16
    if flags & TRUNCATE:
        start += 8
    if flags & RESET:
        start += 16
    return start


def check_order(scan: Scan, record: RecordHeader) -> None:
    """Raise `CorruptLogError` unless `record` is the one that follows."""
    if record.sequence != scan.sequence:
        detail = f"record {scan.sequence} expected, record {record.sequence} found"
        raise corrupt(detail, scan.path, scan.offset)
    if record.previous != scan.previous:
        detail = f"record {record.sequence} does not follow the record before it"
        raise corrupt(detail, scan.path, scan.offset)


def judge_tail(scan: Scan, rest: bytes, last: bool) -> int:
    """How many of the bytes from `scan.offset` to the end of the file, where no good record begins, a torn
    record has left there: 0 if they are all zero. `last`: this is the log's last segment.

    Torn is only what a crash in the middle of the last write leaves: the file ends inside the record, or one
    of its sectors was never written and is all zero. Raises `CorruptLogError` for anything else.
    """
    if is_zero(rest, 0, len(rest)):
        return 0
    left = len(rest.rstrip(b"\0"))
    if not last:
        raise corrupt("the segment does not end where the next one begins", scan.path, scan.offset)
    if len(rest) < RECORD_HEADER:
        return left
    record = decode_header(scan.header.checksum, scan.offset, rest, 0)
    if record is None:
        _judge_headless(scan, rest)
        return left
    check_order(scan, record)
    if record.size > len(rest):
        return left
    if left > record.size:
        raise corrupt("a damaged record, and more behind it", scan.path, scan.offset)
    if not has_zero_sector(rest, scan.offset, record.size):
        raise corrupt("the checksum of a record does not match", scan.path, scan.offset)
    return left


def _judge_headless(scan: Scan, rest: bytes) -> None:
    """Raise `CorruptLogError` unless the sector with the header was never written, and no later record is."""
    sector_end = SECTOR - scan.offset % SECTOR
    if not is_zero(rest, 0, sector_end):
        raise corrupt("the checksum of a record's header does not match", scan.path, scan.offset)
    at: i64 = rest.find(RECORD_MAGIC_BYTES, sector_end)
    while at >= 0:
        start = at - 4
        if start % RECORD_HEADER == 0 and len(rest) - start >= RECORD_HEADER:
            record = decode_header(scan.header.checksum, scan.offset + start, rest, start)
            if record is not None and record.sequence > scan.sequence:
                raise corrupt("a record is missing, and more are behind it", scan.path, scan.offset)
        at = rest.find(RECORD_MAGIC_BYTES, at + 1)


_ZEROS: Final = bytes(1 << 16)


def is_zero(data: bytes, start: i64, end: i64) -> bool:
    """Whether `data[start:end]` is all zero."""
    while start < end:
        stop = min(end, start + len(_ZEROS))
        if data[start:stop] != _ZEROS[: stop - start]:
            return False
        start = stop
    return True


def has_zero_sector(data: bytes, offset: i64, size: i64) -> bool:
    """Whether the part of some sector in `data[:size]`, which is at `offset` of the file, is all zero."""
    start: i64 = 0
    while start < size:
        stop = min(size, (offset + start) // SECTOR * SECTOR + SECTOR - offset)
        if is_zero(data, start, stop):
            return True
        start = stop
    return False
