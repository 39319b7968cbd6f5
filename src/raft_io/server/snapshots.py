"""Snapshots of a server: what it replicates besides the state machine, and the state machine itself.

    magic (8), version (4)
    time (8), horizon (8)
    count (4), each session: id (8), nonce (16, since version 2), floor (8), count (4), each entry of it:
        sequence (8), count (4), results
    count (4), each key: length (4), key, index (8), result
    count (4), each place of results that take room, the oldest first: 0 (1), session (8), sequence (8); or
        1 (1), number of the key in the order above (4)
    count (4), each member: node id (8), incarnation (8), length (4), address (UTF-8)
    what the state machine wrote
    CRC32C of everything before it (4)

    result = 0 (1), length (4), bytes; or 1 (1), length (4), what a CommandError says (UTF-8); or 2 (1): the
             record was dropped

Integers are little-endian. Written in a thread and read in blocks: neither holds a second copy of the state.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Final, Protocol, cast

import google_crc32c

from raft_io.core.types import Index, SnapshotData
from raft_io.errors import CommandError, RaftError, SessionExpiredError, StorageError, detail
from raft_io.server.envelope import NONCE_BYTES, Member
from raft_io.server.machine import StateMachine
from raft_io.server.requests import Answer, Waiter
from raft_io.server.sessions import Place, Result, Sessions, State

__all__ = ["Capture", "Snapshots", "restore", "without_members"]

VERSION: Final = 2

_MAGIC: Final = b"raft-io="
_HEAD: Final = struct.Struct("<8sI")
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_TIMES: Final = struct.Struct("<QQ")
_SESSION_1: Final = struct.Struct("<QQI")
_SESSION: Final = struct.Struct("<Q16sQI")
_ENTRY: Final = struct.Struct("<QI")
_KEPT_ENTRY: Final = struct.Struct("<BQQ")
_KEPT_KEY: Final = struct.Struct("<BI")
_MEMBER: Final = struct.Struct("<QQI")
_TAGGED: Final = struct.Struct("<BI")

_BYTES: Final = 0
_REFUSAL: Final = 1
_EXPIRED: Final = 2

BLOCK: Final = 256 * 1024
"""Bytes read at a time."""

PIECE: Final = 64 * 1024
"""Bytes written at a time. Making them keeps other threads waiting."""

MAX_PIECE: Final = 64 * 1024 * 1024
"""The longest key, result or address that can be: a longer one is damage."""

CONTEXT: Final = "restoring a snapshot"


class Sink(Protocol):
    """What a snapshot is written to."""

    def write(self, data: bytes, /) -> Any:
        """Take all of `data`."""


# Writing.


def _go_on() -> None:
    pass


class Capture:
    """The state at `index`, ready to be written by another thread while applies go on."""

    __slots__ = ("_machine", "_state", "index")

    def __init__(self, index: Index, state: State, machine: Callable[[BinaryIO], None]) -> None:
        self.index = index
        self._state = state
        self._machine = machine

    def write(self, sink: Sink, pause: Callable[[], None] = _go_on) -> None:
        """Write it. `pause` is called after every piece, to let other threads have their turn. Raises what
        `sink` or the state machine raises: then there is no snapshot."""
        raw = _Raw(sink, pause)
        stream = io.BufferedWriter(raw, PIECE)
        stream.write(_HEAD.pack(_MAGIC, VERSION))
        _write_state(stream, self._state)
        self._machine(stream)
        stream.flush()
        sink.write(_U32.pack(raw.checksum))


class _Raw(io.RawIOBase):
    """Passes pieces on and sums them up."""

    def __init__(self, sink: Sink, pause: Callable[[], None]) -> None:
        self._sink = sink
        self._pause = pause
        self.checksum = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = bytes(data[:PIECE])
        self._sink.write(piece)
        self.checksum = google_crc32c.extend(self.checksum, piece)
        self._pause()
        return len(piece)


def _write_state(stream: BinaryIO, state: State) -> None:
    stream.write(_TIMES.pack(state.time, state.horizon))
    stream.write(_U32.pack(len(state.sessions)))
    for session, nonce, floor, results in state.sessions:
        stream.write(_SESSION.pack(session, nonce, floor, len(results)))
        for sequence, listed in results.items():
            stream.write(_ENTRY.pack(sequence, len(listed)))
            for result in listed:
                _write_result(stream, result)
    places: dict[bytes, int] = {}
    stream.write(_U32.pack(len(state.keys)))
    for key, (index, result) in state.keys:
        places[key] = len(places)
        stream.write(_U32.pack(len(key)) + key + _U64.pack(index))
        _write_result(stream, result)
    stream.write(_U32.pack(len(state.kept)))
    for place in state.kept:
        if isinstance(place, bytes):
            stream.write(_KEPT_KEY.pack(1, places[place]))
        else:
            stream.write(_KEPT_ENTRY.pack(0, *place))
    stream.write(_U32.pack(len(state.members)))
    for node, member in sorted(state.members.items()):
        address = member.address.encode()
        stream.write(_MEMBER.pack(node, member.incarnation, len(address)) + address)


def _write_result(stream: BinaryIO, result: Result) -> None:
    if isinstance(result, bytes):
        stream.write(_TAGGED.pack(_BYTES, len(result)))
        stream.write(result)
    elif isinstance(result, SessionExpiredError):
        stream.write(bytes((_EXPIRED,)))
    else:
        text = str(result).encode("utf-8", "surrogatepass")
        stream.write(_TAGGED.pack(_REFUSAL, len(text)))
        stream.write(text)


# Reading.


def restore(data: bytes | SnapshotData, sessions: Sessions, machine: StateMachine) -> None:
    """Put `sessions` and `machine` into the state that a `Capture` wrote. Raises `StorageError`, and has
    changed nothing, for anything else; and what the machine raises."""
    stream, version = _opened(data)
    state = _Reader(stream, version).state()
    machine.restore(stream)
    sessions.restore(state)


def without_members(data: bytes | SnapshotData, sink: Sink) -> None:
    """Write to `sink` the snapshot in `data`, but with an empty table of members: for a cluster of other
    nodes, which are not to be looked for where those were. Raises as `restore` does."""
    stream, version = _opened(data)
    state = _Reader(stream, version).state()

    def machine(out: BinaryIO) -> None:
        while block := stream.read(BLOCK):
            out.write(block)

    bare = State(state.sessions, state.keys, state.kept, state.horizon, state.time, {})
    Capture(0, bare, machine).write(sink)


def _opened(data: bytes | SnapshotData) -> tuple[BinaryIO, int]:
    """What stands behind the head of a snapshot that is whole, and up to its checksum; and its version."""
    size = len(data) if isinstance(data, bytes) else data.size
    if size < _HEAD.size + _U32.size:
        raise StorageError(CONTEXT, f"{size} bytes are no snapshot")
    head = _read(data, 0, _HEAD.size)
    magic, version = _HEAD.unpack(head)
    if magic != _MAGIC:
        raise StorageError(CONTEXT, "the bytes are no snapshot of a server")
    if version > VERSION:
        raise StorageError(CONTEXT, f"version {version} of a newer release; this one reads up to {VERSION}")
    end = size - _U32.size
    _verify(data, end)
    return cast(BinaryIO, io.BufferedReader(_Source(data, _HEAD.size, end), BLOCK)), version


def _read(data: bytes | SnapshotData, offset: int, size: int) -> bytes:
    piece = data[offset : offset + size] if isinstance(data, bytes) else data.read(offset, size)
    if len(piece) != size:
        raise StorageError(CONTEXT, f"it ends at byte {offset + len(piece)}, not at {offset + size}")
    return piece


def _verify(data: bytes | SnapshotData, end: int) -> None:
    """Before anything is made of it: a machine that is half restored is lost."""
    checksum = 0
    for offset in range(0, end, BLOCK):
        checksum = google_crc32c.extend(checksum, _read(data, offset, min(BLOCK, end - offset)))
    if _read(data, end, _U32.size) != _U32.pack(checksum):
        raise StorageError(CONTEXT, "the snapshot is damaged: its checksum does not match")


class _Source(io.RawIOBase):
    """The bytes of a snapshot from `offset` to `end`. It can go back, so that a state machine may look at
    everything first, and then need not keep its old state while it makes the new one."""

    def __init__(self, data: bytes | SnapshotData, offset: int, end: int) -> None:
        self._data = data
        self._offset = offset
        self._end = end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET:
            offset += self._offset if whence == io.SEEK_CUR else self._end
        self._offset = offset
        return offset

    def readinto(self, buffer: Any, /) -> int:
        size = min(len(buffer), self._end - self._offset)
        buffer[:size] = _read(self._data, self._offset, size)
        self._offset += size
        return size


class _Reader:
    """Reads the state of the sessions. The checksum has matched: what is wrong here was written wrong."""

    def __init__(self, stream: BinaryIO, version: int) -> None:
        self._stream = stream
        self._session_layout = _SESSION_1 if version == 1 else _SESSION

    def state(self) -> State:
        time, horizon = self._unpack(_TIMES)
        sessions = [self._session() for _ in range(self._count())]
        keys = [self._key() for _ in range(self._count())]
        places = {(session, sequence) for session, _, _, results in sessions for sequence in results}
        kept = [self._kept(places, keys) for _ in range(self._count())]
        members = dict([self._member() for _ in range(self._count())])
        return State(sessions, keys, kept, horizon, time, members)

    def _take(self, size: int) -> bytes:
        if size > MAX_PIECE:
            raise StorageError(CONTEXT, f"a piece of {size} bytes")
        data = self._stream.read(size)
        if len(data) != size:
            raise StorageError(CONTEXT, "it ends early")
        return data

    def _unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._take(layout.size))

    def _count(self) -> int:
        count: int = self._unpack(_U32)[0]
        return count

    def _session(self) -> tuple[int, bytes, int, dict[int, list[Result]]]:
        session, *nonce, floor, count = self._unpack(self._session_layout)
        results: dict[int, list[Result]] = {}
        for _ in range(count):
            sequence, size = self._unpack(_ENTRY)
            results[sequence] = [self._result() for _ in range(size)]
        return session, nonce[0] if nonce else bytes(NONCE_BYTES), floor, results

    def _key(self) -> tuple[bytes, tuple[int, Result]]:
        key = self._take(self._count())
        (index,) = self._unpack(_U64)
        return key, (index, self._result())

    def _kept(self, places: set[tuple[int, int]], keys: list[tuple[bytes, tuple[int, Result]]]) -> Place:
        tag = self._take(1)[0]
        if tag == 0:
            session, sequence = self._unpack(_TIMES)
            if (session, sequence) in places:
                return session, sequence
        elif tag == 1:
            number = self._count()
            if number < len(keys):
                return keys[number][0]
        raise StorageError(CONTEXT, "a record of results that are not there")

    def _member(self) -> tuple[int, Member]:
        node, incarnation, size = self._unpack(_MEMBER)
        return node, Member(self._text(size), incarnation)

    def _result(self) -> Result:
        tag = self._take(1)[0]
        if tag == _EXPIRED:
            return SessionExpiredError()
        size = self._count()
        if tag == _BYTES:
            return self._take(size)
        if tag != _REFUSAL:
            raise StorageError(CONTEXT, f"a result of unknown kind {tag}")
        return CommandError(self._text(size))

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise StorageError(CONTEXT, "text that is not UTF-8") from None


# Asking.


class Snapshots:
    """Who waits for a snapshot, and how far it is: asked for, being written, saved, durable."""

    def __init__(self) -> None:
        self.due = False
        """One is to be captured as soon as none is being written."""
        self.index: Index = 0
        """Of the one that is being written; `0`: none is."""
        self.answers: list[Answer] = []
        """What is to be told to waiters; whoever drives this takes it."""
        self._asking: list[Waiter] = []
        self._writing: list[Waiter] = []
        self._saved: list[tuple[int, Index, Waiter]] = []
        """With the ticket by which it is durable."""
        self._fresh: list[tuple[Index, Waiter]] = []
        """Saved since the last drain: it will tell the ticket."""

    @property
    def settling(self) -> bool:
        """Whether somebody waits for one that is saved."""
        return bool(self._saved or self._fresh)

    @property
    def asking(self) -> int:
        """How many wait for one to be captured."""
        return len(self._asking)

    def ask(self, waiter: Waiter | None) -> None:
        """One is wanted."""
        self.due = True
        if waiter is not None:
            self._asking.append(waiter)

    def there_already(self, index: Index) -> None:
        """The last one is no older than what is applied."""
        self.due = False
        self.answers.extend([(waiter, True, index) for waiter in self._asking])
        self._asking = []

    def begin(self, index: Index) -> None:
        """The state at `index` is being captured for all that asked."""
        self.due = False
        self.index = index
        self._writing = self._asking
        self._asking = []

    def failed(self, error: Exception) -> None:
        """It could not be captured or written."""
        self.index = 0
        self.answers.extend([(waiter, False, error) for waiter in self._writing])
        self._writing = []

    def saved(self) -> None:
        """The log has it."""
        self._fresh.extend([(self.index, waiter) for waiter in self._writing])
        self.index = 0
        self._writing = []

    def drained(self, ticket: int) -> None:
        """What was saved is durable with this ticket; without one (`0`) it was not needed any more."""
        for index, waiter in self._fresh:
            if ticket:
                self._saved.append((ticket, index, waiter))
            else:
                self.answers.append((waiter, True, index))
        self._fresh = []

    def durable(self, ticket: int) -> None:
        """This ticket and all before are settled."""
        for known, index, waiter in self._saved:
            if known <= ticket:
                self.answers.append((waiter, True, index))
        self._saved = [saved for saved in self._saved if saved[0] > ticket]

    def abandon(self, error: Exception) -> None:
        """The node stops."""
        saved = [*[waiter for _, waiter in self._fresh], *[waiter for _, _, waiter in self._saved]]
        waiters = [*self._asking, *self._writing, *saved]
        self.answers.extend([(waiter, False, error) for waiter in waiters])
        self._asking = []
        self._writing = []
        self._fresh = []
        self._saved = []


def not_taken(index: Index, error: Exception) -> RaftError:
    """Why there is no snapshot, in one line."""
    context = f"no snapshot at index {index}"
    text = detail(context, error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return RaftError(f"{context}: {text}")
