"""Messages as bytes. docs/wire.md describes the format byte by byte.

A message that version 1 could say is still said in version 1; one with a field that came later, in version 2.
Canonical: what decodes re-encodes to the same bytes. Safe on hostile input: `decode` raises `WireError` and
nothing else, and allocates nothing larger than the input justifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from mypy_extensions import i64

from raft_io.core.members import decode_membership, encode_membership
from raft_io.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raft_io.core.types import EntryKind, LogEntry, Membership
from raft_io.errors import WireError

try:
    from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i32_le, write_i64_le
except ImportError:  # no build of librt for this platform
    from raft_io._plain import BytesWriter, read_i32_le, read_i64_le, write_i32_le, write_i64_le  # type: ignore[assignment]

__all__ = ["VERSION", "decode", "decode_entries", "encode", "encode_entries"]

VERSION: Final = 2
"""The newest version of the format. The first byte of every message is the version it is in."""

_FIRST: Final = 1

ENTRY_HEADER: Final = 21
"""Bytes of an entry before its command."""

_REQUEST_VOTE: Final = 1
_REQUEST_VOTE_REPLY: Final = 2
_APPEND_ENTRIES: Final = 3
_APPEND_ENTRIES_REPLY: Final = 4
_PRE_VOTE: Final = 5
_PRE_VOTE_REPLY: Final = 6
_INSTALL_SNAPSHOT: Final = 7
_INSTALL_SNAPSHOT_REPLY: Final = 8
_TIMEOUT_NOW: Final = 9
_READ_INDEX_REQUEST: Final = 10
_READ_INDEX_REPLY: Final = 11

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

    def sized(self) -> bytes:
        """Bytes with their length before them."""
        size = self.u31()
        self.need(size)
        data = self.data[self.pos : self.pos + size]
        self.pos += size
        return data

    def membership(self) -> Membership:
        data = self.sized()
        try:
            return decode_membership(data)
        except ValueError as error:
            raise WireError(str(error)) from None

    def late(self) -> i64:
        """A number that version 1 did not have: one of 0 is said in version 1."""
        value = self.u63()
        if value == 0:
            raise WireError("a message of version 2 that says nothing version 1 could not")
        return value

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


def _sized(out: BytesWriter, data: bytes) -> None:
    write_i32_le(out, len(data))
    out.write(data)


def encode(message: Message) -> bytes:
    """The bytes of `message`."""
    out = BytesWriter()
    if isinstance(message, AppendEntries):
        out.append(VERSION if message.round else _FIRST)
        out.append(_APPEND_ENTRIES)
        write_i64_le(out, message.term)
        write_i64_le(out, message.leader)
        write_i64_le(out, message.prev_log_index)
        write_i64_le(out, message.prev_log_term)
        write_i64_le(out, message.leader_commit)
        if message.round:
            write_i64_le(out, message.round)
        write_i32_le(out, len(message.entries))
        _write_entries(out, message.entries)
    elif isinstance(message, AppendEntriesReply):
        out.append(VERSION if message.round else _FIRST)
        out.append(_APPEND_ENTRIES_REPLY)
        write_i64_le(out, message.term)
        out.append(1 if message.success else 0)
        write_i64_le(out, message.sender)
        write_i64_le(out, message.match_index)
        write_i64_le(out, message.conflict_index)
        write_i64_le(out, message.conflict_term)
        if message.round:
            write_i64_le(out, message.round)
    elif isinstance(message, (RequestVote, PreVote)):
        _encode_candidacy(out, message)
    elif isinstance(message, (RequestVoteReply, PreVoteReply)):
        out.append(_FIRST if isinstance(message, RequestVoteReply) else VERSION)
        out.append(_REQUEST_VOTE_REPLY if isinstance(message, RequestVoteReply) else _PRE_VOTE_REPLY)
        write_i64_le(out, message.term)
        out.append(1 if message.vote_granted else 0)
        write_i64_le(out, message.sender)
    else:
        out.append(VERSION)
        _encode_later(out, message)
    return out.getvalue()


def _encode_candidacy(out: BytesWriter, message: RequestVote | PreVote) -> None:
    if isinstance(message, RequestVote):
        out.append(VERSION if message.force else _FIRST)
        out.append(_REQUEST_VOTE)
    else:
        out.append(VERSION)
        out.append(_PRE_VOTE)
    write_i64_le(out, message.term)
    write_i64_le(out, message.candidate)
    write_i64_le(out, message.last_log_index)
    write_i64_le(out, message.last_log_term)


def _encode_later(out: BytesWriter, message: Message) -> None:
    """The messages that came with version 2."""
    if isinstance(message, InstallSnapshot):
        out.append(_INSTALL_SNAPSHOT)
        write_i64_le(out, message.term)
        write_i64_le(out, message.leader)
        write_i64_le(out, message.index)
        write_i64_le(out, message.snapshot_term)
        _sized(out, encode_membership(message.membership))
        write_i64_le(out, message.size)
        write_i64_le(out, message.checksum)
        write_i64_le(out, message.offset)
        out.append(1 if message.done else 0)
        _sized(out, message.data)
    elif isinstance(message, InstallSnapshotReply):
        out.append(_INSTALL_SNAPSHOT_REPLY)
        write_i64_le(out, message.term)
        write_i64_le(out, message.sender)
        write_i64_le(out, message.index)
        write_i64_le(out, message.offset)
    elif isinstance(message, TimeoutNow):
        out.append(_TIMEOUT_NOW)
        write_i64_le(out, message.term)
        write_i64_le(out, message.leader)
        write_i64_le(out, message.round)
    elif isinstance(message, ReadIndexRequest):
        out.append(_READ_INDEX_REQUEST)
        write_i64_le(out, message.term)
        write_i64_le(out, message.sender)
        _sized(out, message.context)
    elif isinstance(message, ReadIndexReply):
        out.append(_READ_INDEX_REPLY)
        write_i64_le(out, message.term)
        _sized(out, message.context)
        write_i64_le(out, message.index)
    else:
        raise TypeError(f"message must be a Message, not {type(message).__name__}")


def _append_entries(reader: _Reader, version: i64) -> AppendEntries:
    term = reader.u63()
    leader = reader.u63()
    prev_log_index = reader.u63()
    prev_log_term = reader.u63()
    leader_commit = reader.u63()
    round_ = reader.late() if version > _FIRST else 0
    count = reader.u31()
    if count > (reader.end - reader.pos) // ENTRY_HEADER:
        raise WireError(f"{count} entries do not fit in {reader.end - reader.pos} bytes")
    entries: list[LogEntry] = []
    for _ in range(count):
        entries.append(reader.entry())
    return AppendEntries(term, leader, prev_log_index, prev_log_term, entries, leader_commit, round_)


def decode(data: bytes) -> Message:
    """The message in `data`. Raises `WireError` for anything that `encode` would not have made."""
    if not isinstance(data, bytes):
        raise TypeError(f"data must be bytes, not {type(data).__name__}")
    reader = _Reader(data, 0, len(data))
    version = reader.u8()
    if version < _FIRST or version > VERSION:
        raise WireError(f"version {version} is unknown; this side speaks {_FIRST} to {VERSION}")
    message = _decode_first(reader, version, reader.u8())
    reader.done()
    return message


def _decode_first(reader: _Reader, version: i64, kind: i64) -> Message:
    """The messages that version 1 had."""
    if kind == _APPEND_ENTRIES:
        return _append_entries(reader, version)
    if kind == _APPEND_ENTRIES_REPLY:
        term = reader.u63()
        success = reader.flag()
        sender = reader.u63()
        match_index = reader.u63()
        conflict_index = reader.u63()
        conflict_term = reader.u63()
        round_ = reader.late() if version > _FIRST else 0
        return AppendEntriesReply(term, success, sender, match_index, conflict_index, conflict_term, round_)
    if kind == _REQUEST_VOTE:
        term = reader.u63()
        candidate = reader.u63()
        last_log_index = reader.u63()
        last_log_term = reader.u63()
        return RequestVote(term, candidate, last_log_index, last_log_term, version > _FIRST)
    if kind == _REQUEST_VOTE_REPLY and version == _FIRST:
        term = reader.u63()
        granted = reader.flag()
        sender = reader.u63()
        return RequestVoteReply(term, granted, sender)
    if version > _FIRST:
        return _decode_later(reader, kind)
    raise WireError(f"a message of unknown type {kind}")


def _decode_later(reader: _Reader, kind: i64) -> Message:
    """The messages that came with version 2."""
    if kind == _PRE_VOTE:
        term = reader.u63()
        candidate = reader.u63()
        last_log_index = reader.u63()
        last_log_term = reader.u63()
        return PreVote(term, candidate, last_log_index, last_log_term)
    if kind == _PRE_VOTE_REPLY:
        term = reader.u63()
        granted = reader.flag()
        sender = reader.u63()
        return PreVoteReply(term, granted, sender)
    if kind == _INSTALL_SNAPSHOT:
        return _install_snapshot(reader)
    if kind == _INSTALL_SNAPSHOT_REPLY:
        term = reader.u63()
        sender = reader.u63()
        index = reader.u63()
        offset = reader.u63()
        return InstallSnapshotReply(term, sender, index, offset)
    if kind == _TIMEOUT_NOW:
        term = reader.u63()
        leader = reader.u63()
        round_ = reader.u63()
        return TimeoutNow(term, leader, round_)
    if kind == _READ_INDEX_REQUEST:
        term = reader.u63()
        sender = reader.u63()
        context = reader.sized()
        return ReadIndexRequest(term, sender, context)
    if kind == _READ_INDEX_REPLY:
        term = reader.u63()
        context = reader.sized()
        index = reader.u63()
        return ReadIndexReply(term, context, index)
    raise WireError(f"a message of unknown type {kind}")


def _install_snapshot(reader: _Reader) -> InstallSnapshot:
    term = reader.u63()
    leader = reader.u63()
    index = reader.u63()
    snapshot_term = reader.u63()
    membership = reader.membership()
    size = reader.u63()
    checksum = reader.u63()
    offset = reader.u63()
    done = reader.flag()
    data = reader.sized()
    return InstallSnapshot(term, leader, index, snapshot_term, membership, offset, data, done, size, checksum)
