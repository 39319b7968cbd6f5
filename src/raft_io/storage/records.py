"""The format of the log, without any input or output. docs/log-format.md describes it byte by byte.

A segment is a header of one sector, records, and zeros up to its end. A record is what one sync wrote.
Everything is little-endian. Each record is bound to its place: its checksum starts from its segment's header
and its own offset, and it names the checksum of the record before it.
"""

from __future__ import annotations

import struct
from typing import Final, final

from google_crc32c import extend, value
from mypy_extensions import i64

from raft_io.core.types import HardState
from raft_io.errors import CorruptLogError, StorageError

try:
    from librt.strings import BytesWriter, write_i64_le
except ImportError:  # no build of librt for this platform
    from raft_io._plain import BytesWriter, write_i64_le  # type: ignore[assignment]

__all__ = ["RecordHeader", "SegmentHeader"]

VERSION: Final = 2
"""Of the format of new segments. Version 1 knows no `RESET`."""

SECTOR: Final = 512
"""What a disk writes whole or not at all."""

SEGMENT_HEADER: Final = SECTOR
"""Bytes of a segment before its first record."""

RECORD_HEADER: Final = 32
"""Bytes of a record before its body; also the alignment of records, so that no header straddles a sector."""

ENTRY_HEADER: Final = 21
"""Bytes of an entry before its command (`raft_io.wire`)."""

MAX_LENGTH: Final = 2**31 - 1
"""Bytes of a record's content."""

SEGMENT_MAGIC: Final = b"raftiolg"
RECORD_MAGIC: Final = 0x434552F5
RECORD_MAGIC_BYTES: Final = RECORD_MAGIC.to_bytes(4, "little")

HARD_STATE: Final = 1
TRUNCATE: Final = 2
ENTRIES: Final = 4
STUFFED: Final = 8
RESET: Final = 16
ALL_FLAGS: Final = 31

NO_RESET: Final = -1
"""Where an index is expected that a log is emptied at: it is not."""

_SEGMENT: Final = struct.Struct("<8sIIqqqqqqqqq")
_RECORD: Final = struct.Struct("<IIIIQII")

_PAD: Final = b"\xff" * 64
_ZERO_RUN: Final = bytes(SECTOR // 2)
_CHUNK: Final = 30
"""Bytes of content in each 32 bytes of a stuffed body; the other two are 0xff."""


@final
class SegmentHeader:
    """The first sector of a segment: what it is, and the state of the log where it begins.

    `previous` and `previous_end` are the checksum of the last record before it and where that record ends
    in the segment before: with the header's name in the directory, the segment before is complete.
    `checksum` is that of the header itself, and where the checksums of its records start from.
    """

    __slots__ = (
        "capacity",
        "checksum",
        "last_index",
        "last_term",
        "number",
        "previous",
        "previous_end",
        "sequence",
        "term",
        "version",
        "vote",
    )

    def __init__(
        self,
        number: i64,
        capacity: i64,
        sequence: i64 = 1,
        previous: i64 = 0,
        previous_end: i64 = 0,
        last_index: i64 = 0,
        last_term: i64 = 0,
        hard_state: HardState | None = None,
        version: i64 = VERSION,
    ) -> None:
        self.version: i64 = version
        self.number: i64 = number
        self.capacity: i64 = capacity
        self.sequence: i64 = sequence
        self.previous: i64 = previous
        self.previous_end: i64 = previous_end
        self.last_index: i64 = last_index
        self.last_term: i64 = last_term
        self.term: i64 = 0 if hard_state is None else hard_state.term
        self.vote: i64 = -1 if hard_state is None else vote_number(hard_state)
        self.checksum: i64 = 0


def vote_number(state: HardState) -> i64:
    """The vote as a number: -1 is none."""
    vote = state.voted_for
    return -1 if vote is None else vote


def hard_state_of(term: i64, vote: i64) -> HardState:
    """The counterpart of `vote_number`."""
    return HardState(term, None if vote < 0 else vote)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The sector; sets `header.checksum`."""
    fields = _SEGMENT.pack(
        SEGMENT_MAGIC,
        0,
        header.version,
        header.number,
        header.capacity,
        header.sequence,
        header.previous,
        header.previous_end,
        header.last_index,
        header.last_term,
        header.term,
        header.vote,
    )
    data = fields + bytes(SEGMENT_HEADER - len(fields))
    checksum: int = value(data[:8] + data[12:])
    header.checksum = checksum
    return data[:8] + checksum.to_bytes(4, "little") + data[12:]


def decode_segment_header(data: bytes, path: str) -> SegmentHeader:
    """The header in `data`, the first sector of the file at `path`. Raises `CorruptLogError`, or
    `StorageError` for a version that is newer than this code."""
    if len(data) < SEGMENT_HEADER:
        raise corrupt("the segment's header is cut off", path, len(data))
    if data[:8] != SEGMENT_MAGIC:
        raise corrupt("this is no segment of a raft-io log", path, 0)
    found = int.from_bytes(data[8:12], "little")
    if value(data[:8] + data[12:SEGMENT_HEADER]) != found:
        raise corrupt("the checksum of the segment's header does not match", path, 8)
    version = int.from_bytes(data[12:16], "little")
    if version > VERSION:
        raise StorageError(
            f"opening {path}",
            f"the log has format version {version}; this version of raft-io knows them up to {VERSION}",
        )
    if version < 1:
        raise corrupt("the segment's header makes no sense", path, 12)
    numbers: list[int] = list(_SEGMENT.unpack_from(data))[3:]
    if min(numbers[:-1]) < 0:
        raise corrupt("the segment's header makes no sense", path, 16)
    header = SegmentHeader(
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
        numbers[6],
        hard_state_of(numbers[7], numbers[8]),
        version,
    )
    header.checksum = found
    return header


def corrupt(detail: str, path: str, offset: i64) -> CorruptLogError:
    """The error for damage at `offset` of the file at `path`."""
    return CorruptLogError("reading the log", detail, path, offset)


def encode_content(
    state: HardState | None, cut: i64, entries: bytes, reset_index: i64 = NO_RESET, reset_term: i64 = 0
) -> tuple[i64, bytes]:
    """Flags and content of a record: a new hard state, then a truncation at `cut` (0: none), then a reset to
    behind `reset_index`, then entries, as `raft_io.wire.encode_entries` gives them."""
    flags: i64 = 0
    if state is None and cut == 0 and reset_index < 0:
        return ENTRIES, entries
    out = BytesWriter()
    if state is not None:
        flags |= HARD_STATE
        write_i64_le(out, state.term)
        write_i64_le(out, vote_number(state))
    if cut != 0:
        flags |= TRUNCATE
        write_i64_le(out, cut)
    if reset_index >= 0:
        flags |= RESET
        write_i64_le(out, reset_index)
        write_i64_le(out, reset_term)
    if entries:
        flags |= ENTRIES
        out.write(entries)
    return flags, out.getvalue()


def body_size(length: i64, flags: i64) -> i64:
    """Bytes of the body on disk of a record with `length` bytes of content."""
    if flags & STUFFED:
        return (length + _CHUNK - 1) // _CHUNK * 32
    return (length + 33) // 32 * 32


def encode_body(flags: i64, content: bytes) -> tuple[i64, bytes]:
    """Flags and body: `content` with at least two bytes of padding.

    A torn record is told from a damaged one by a sector that was never written, that is, all zero. So no
    record may hold such a sector to begin with, nor one that a single flipped byte would turn into one:
    content with a long run of zeros is stuffed, two bytes 0xff after every thirty. A full sector with at
    most one byte that is not zero has half a sector of zeros in a row; the sector where a record begins has
    its header, the one where it ends the padding.
    """
    length: i64 = len(content)
    if content.find(_ZERO_RUN) < 0:
        return flags, content + _PAD[: body_size(length, flags) - length]
    flags |= STUFFED
    chunks = body_size(length, flags) // 32
    padded = content + _PAD[: chunks * _CHUNK - length]
    body = bytearray(b"\xff") * (chunks * 32)
    for at in range(_CHUNK):
        body[at::32] = padded[at::_CHUNK]
    return flags, bytes(body)


def decode_body(flags: i64, body: bytes, length: i64) -> bytes:
    """The content of a body whose checksum has been verified."""
    if not flags & STUFFED:
        return body[:length]
    chunks = len(body) // 32
    content = bytearray(chunks * _CHUNK)
    for at in range(_CHUNK):
        content[at::_CHUNK] = body[at::32]
    return bytes(content[:length])


@final
class RecordHeader:
    """The first 32 bytes of a record. `size`: of the whole record on disk."""

    __slots__ = ("body_checksum", "checksum", "flags", "length", "previous", "sequence", "size")

    def __init__(
        self, checksum: i64, length: i64, body_checksum: i64, sequence: i64, previous: i64, flags: i64
    ) -> None:
        self.checksum: i64 = checksum
        self.length: i64 = length
        self.body_checksum: i64 = body_checksum
        self.sequence: i64 = sequence
        self.previous: i64 = previous
        self.flags: i64 = flags
        self.size: i64 = RECORD_HEADER + body_size(length, flags)


def encode_header(
    segment: i64, offset: i64, length: i64, body: bytes, sequence: i64, previous: i64, flags: i64
) -> bytes:
    """The header of a record at `offset` of the segment whose header's checksum is `segment`."""
    fields = _RECORD.pack(0, RECORD_MAGIC, length, value(body), sequence, previous, flags)[4:]
    checksum: int = extend(segment, int(offset).to_bytes(8, "little") + fields)
    return checksum.to_bytes(4, "little") + fields


def decode_header(segment: i64, offset: i64, data: bytes, pos: i64) -> RecordHeader | None:
    """The header in the 32 bytes from `pos` of `data`, or `None` if it is none for this place."""
    fields = _RECORD.unpack_from(data, pos)
    if fields[1] != RECORD_MAGIC:
        return None
    place = int(offset).to_bytes(8, "little")
    if extend(segment, place + data[pos + 4 : pos + RECORD_HEADER]) != fields[0]:
        return None
    return RecordHeader(fields[0], fields[2], fields[3], fields[4], fields[5], fields[6])
