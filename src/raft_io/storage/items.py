"""What there is to see in a log that is read offline, and making it out of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google_crc32c import value

from raft_io.core.types import HardState, LogEntry, Membership
from raft_io.errors import WireError
from raft_io.storage.records import (
    HARD_STATE,
    RECORD_HEADER,
    RECORD_MAGIC_BYTES,
    RESET,
    SEGMENT_HEADER,
    STUFFED,
    TRUNCATE,
    RecordHeader,
    SegmentHeader,
    decode_body,
    decode_header,
    hard_state_of,
)
from raft_io.storage.scan import Scan, entries_start
from raft_io.wire import decode_entries

__all__ = ["DAMAGE", "LEFTOVER", "TORN", "Finding", "Item", "RecordInfo", "SegmentInfo", "SnapshotInfo"]

DAMAGE: Final = "damage"
TORN: Final = "torn"
LEFTOVER: Final = "leftover"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be at `offset` of the file `path`. `kind`: `"damage"`; `"torn"`, a
    record that a crash left half written and the next open cuts off; `"leftover"`, a file that the next open
    removes. Only the first keeps a log from being opened."""

    path: str
    offset: int
    kind: str
    detail: str

    @property
    def is_damage(self) -> bool:
        """Whether it is more than what a crash leaves."""
        return self.kind == DAMAGE


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment, as its header has it: what the log was where it begins."""

    path: str
    number: int
    version: int
    capacity: int
    sequence: int
    last_index: int
    last_term: int
    hard_state: HardState


@dataclass(frozen=True, slots=True)
class RecordInfo:
    """A record: what one sync wrote. `cut`: the first index it removes (0: none). `reset`: the index and the
    term behind which the log goes on, emptied (`None`: it does not)."""

    path: str
    offset: int
    size: int
    sequence: int
    hard_state: HardState | None
    cut: int
    reset: tuple[int, int] | None
    entries: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot, without its contents."""

    path: str
    index: int
    term: int
    membership: Membership
    size: int
    checksum: int


Item = SegmentInfo | RecordInfo | SnapshotInfo | Finding


def segment_info(header: SegmentHeader, path: str) -> SegmentInfo:
    """What the header of the segment at `path` tells."""
    return SegmentInfo(
        path,
        int(header.number),
        int(header.version),
        int(header.capacity),
        int(header.sequence),
        int(header.last_index),
        int(header.last_term),
        hard_state_of(header.term, header.vote),
    )


def guessed_header(number: int, data: bytes) -> SegmentHeader:
    """A stand-in for a damaged header, so that the records behind it can be looked at. Their checksums start
    from that of the header: the one that it names, or the one that it has."""
    header = SegmentHeader(number, len(data))
    named = int.from_bytes(data[8:12], "little")
    for checksum in (named, value(data[:8] + data[12:SEGMENT_HEADER])):
        header.checksum = checksum
        if len(data) >= SEGMENT_HEADER + RECORD_HEADER and decode_header(
            checksum, SEGMENT_HEADER, data, SEGMENT_HEADER
        ):
            break
    return header


def is_whole(record: RecordHeader, data: bytes, offset: int) -> bool:
    """Whether the body of the record at `offset` is there, with a good checksum."""
    end = offset + int(record.size)
    return len(data) >= end and value(data[offset + RECORD_HEADER : end]) == int(record.body_checksum)


def next_record(scan: Scan, data: bytes) -> int:
    """Where the next good record begins behind the one at `scan.offset`; -1 if there is none."""
    at = data.find(RECORD_MAGIC_BYTES, int(scan.offset) + RECORD_HEADER)
    while at >= 0:
        start = at - 4
        if start % RECORD_HEADER == 0 and len(data) - start >= RECORD_HEADER:
            record = decode_header(scan.header.checksum, start, data, start)
            if record is not None:
                return start
        at = data.find(RECORD_MAGIC_BYTES, at + 1)
    return -1


def decoded(record: RecordHeader, data: bytes, offset: int, path: str = "") -> RecordInfo:
    """The record at `offset` of `data`, whose checksums are good. Raises `WireError`."""
    body = data[offset + RECORD_HEADER : offset + record.size]
    content = decode_body(record.flags, body, record.length)
    flags = int(record.flags) & ~STUFFED
    numbers = [
        int.from_bytes(content[at : at + 8], "little", signed=True)
        for at in range(0, min(int(entries_start(flags)), len(content)), 8)
    ]
    state = None
    cut = 0
    reset = None
    try:
        if flags & HARD_STATE:
            state = hard_state_of(numbers.pop(0), numbers.pop(0))
        if flags & TRUNCATE:
            cut = numbers.pop(0)
        if flags & RESET:
            reset = (numbers.pop(0), numbers.pop(0))
        found = tuple(decode_entries(content, int(entries_start(flags))))
    except (IndexError, ValueError) as error:
        raise WireError(f"a record with a good checksum and bad content: {error}") from error
    return RecordInfo(path, offset, int(record.size), int(record.sequence), state, cut, reset, found)
