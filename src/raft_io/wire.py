"""Messages as bytes. docs/wire.md describes the format byte by byte.

Canonical: what decodes re-encodes to the same bytes. Safe on hostile input: `decode` raises `WireError` and
nothing else, and allocates nothing larger than the input justifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from mypy_extensions import i64

from raft_io.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    Message,
    RequestVote,
    RequestVoteReply,
)
from raft_io.core.types import EntryKind, LogEntry
from raft_io.errors import WireError

try:
    from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i32_le, write_i64_le
except ImportError:  # no build of librt for this platform
    from raft_io._plain import BytesWriter, read_i32_le, read_i64_le, write_i32_le, write_i64_le  # type: ignore[assignment]

__all__ = ["VERSION", "decode", "decode_entries", "encode", "encode_entries"]

VERSION: Final = 1
"""The version of the format, the first byte of every message."""

ENTRY_HEADER: Final = 21
"""Bytes of an entry before its command."""

_REQUEST_VOTE: Final = 1
_REQUEST_VOTE_REPLY: Final = 2
_APPEND_ENTRIES: Final = 3
_APPEND_ENTRIES_REPLY: Final = 4

_KINDS: Final = [EntryKind.NORMAL, EntryKind.MEMBERSHIP, EntryKind.NOOP]


def _write_entries(out: BytesWriter, entries: Sequence[LogEntry]) -> None:
    for entry in entries:
        command = entry.command
        write_i32_le(out, len(command))
        out.append(entry.kind)
        write_i64_le(out, entry.term)
        write_i64_le(out, entry.index)
        out.write(command)


def encode_entries(entries: Sequence[LogEntry]) -> bytes:
    """The entries one after the other: the same bytes on the wire and in the log."""
    out = BytesWriter()
    _write_entries(out, entries)
    return out.getvalue()


@final
class _Reader:
    """Reads fields off a buffer, checking each against what is left."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: i64, end: i64) -> None:
        self.data: bytes = data
        self.pos: i64 = pos
        self.end: i64 = end

    def need(self, n: i64) -> None:
        if self.end - self.pos < n:
            raise WireError(f"{n} bytes expected at byte {self.pos}, {self.end - self.pos} left")

    def u8(self) -> i64:
        self.need(1)
        value: i64 = self.data[self.pos]
        self.pos += 1
        return value

    def flag(self) -> bool:
        value = self.u8()
        if value > 1:
            raise WireError(f"a flag must be 0 or 1, not {value}")
        return value == 1

    def u63(self) -> i64:
        self.need(8)
        value = read_i64_le(self.data, self.pos)
        if value < 0:
            raise WireError(f"a number at byte {self.pos} is over 2**63 - 1")
        self.pos += 8
        return value

    def u31(self) -> i64:
        self.need(4)
        value: i64 = i64(read_i32_le(self.data, self.pos))
        if value < 0:
            raise WireError(f"a length at byte {self.pos} is over 2**31 - 1")
        self.pos += 4
        return value

    def entry(self) -> LogEntry:
        size = self.u31()
        kind = self.u8()
        if kind > 2:
            raise WireError(f"an entry of unknown kind {kind}")
        term = self.u63()
        index = self.u63()
        self.need(size)
        command = self.data[self.pos : self.pos + size]
        self.pos += size
        return LogEntry(term, index, command, _KINDS[kind])

    def done(self) -> None:
        if self.pos != self.end:
            raise WireError(f"{self.end - self.pos} bytes too many")


def decode_entries(data: bytes, first: int = 0, last: int = -1) -> list[LogEntry]:
    """The entries in `data[first:last]` (-1: to the end), none of them cut off. Raises `WireError`;
    `ValueError` for a range outside of `data`."""
    end = len(data) if last < 0 else last
    if not 0 <= first <= end <= len(data):
        raise ValueError(f"{first}:{last} lies outside of {len(data)} bytes")
    reader = _Reader(data, first, end)
    entries: list[LogEntry] = []
    while reader.pos < reader.end:
        entries.append(reader.entry())
    return entries


def encode(message: Message) -> bytes:
    """The bytes of `message`."""
    out = BytesWriter()
    out.append(VERSION)
    if isinstance(message, AppendEntries):
        out.append(_APPEND_ENTRIES)
        write_i64_le(out, message.term)
        write_i64_le(out, message.leader)
        write_i64_le(out, message.prev_log_index)
        write_i64_le(out, message.prev_log_term)
        write_i64_le(out, message.leader_commit)
        write_i32_le(out, len(message.entries))
        _write_entries(out, message.entries)
    elif isinstance(message, AppendEntriesReply):
        out.append(_APPEND_ENTRIES_REPLY)
        write_i64_le(out, message.term)
        out.append(1 if message.success else 0)
        write_i64_le(out, message.sender)
        write_i64_le(out, message.match_index)
        write_i64_le(out, message.conflict_index)
        write_i64_le(out, message.conflict_term)
    elif isinstance(message, RequestVote):
        out.append(_REQUEST_VOTE)
        write_i64_le(out, message.term)
        write_i64_le(out, message.candidate)
        write_i64_le(out, message.last_log_index)
        write_i64_le(out, message.last_log_term)
    elif isinstance(message, RequestVoteReply):
        out.append(_REQUEST_VOTE_REPLY)
        write_i64_le(out, message.term)
        out.append(1 if message.vote_granted else 0)
        write_i64_le(out, message.sender)
    else:
        raise TypeError(f"message must be a Message, not {type(message).__name__}")
    return out.getvalue()


def _append_entries(reader: _Reader) -> AppendEntries:
    term = reader.u63()
    leader = reader.u63()
    prev_log_index = reader.u63()
    prev_log_term = reader.u63()
    leader_commit = reader.u63()
    count = reader.u31()
    if count > (reader.end - reader.pos) // ENTRY_HEADER:
        raise WireError(f"{count} entries do not fit in {reader.end - reader.pos} bytes")
    entries: list[LogEntry] = []
    for _ in range(count):
        entries.append(reader.entry())
    return AppendEntries(term, leader, prev_log_index, prev_log_term, entries, leader_commit)


def decode(data: bytes) -> Message:
    """The message in `data`. Raises `WireError` for anything that `encode` would not have made."""
    if not isinstance(data, bytes):
        raise TypeError(f"data must be bytes, not {type(data).__name__}")
    reader = _Reader(data, 0, len(data))
    version = reader.u8()
    if version != VERSION:
        raise WireError(f"version {version} is unknown; this side speaks {VERSION}")
    kind = reader.u8()
    message: Message
    if kind == _APPEND_ENTRIES:
        message = _append_entries(reader)
    elif kind == _APPEND_ENTRIES_REPLY:
        term = reader.u63()
        success = reader.flag()
        sender = reader.u63()
        match_index = reader.u63()
        conflict_index = reader.u63()
        conflict_term = reader.u63()
        message = AppendEntriesReply(term, success, sender, match_index, conflict_index, conflict_term)
    elif kind == _REQUEST_VOTE:
        term = reader.u63()
        candidate = reader.u63()
        last_log_index = reader.u63()
        last_log_term = reader.u63()
        message = RequestVote(term, candidate, last_log_index, last_log_term)
    elif kind == _REQUEST_VOTE_REPLY:
        term = reader.u63()
        granted = reader.flag()
        sender = reader.u63()
        message = RequestVoteReply(term, granted, sender)
    else:
        raise WireError(f"a message of unknown type {kind}")
    reader.done()
    return message
