"""What a server puts into the log: the requests that arrived together at one node, as one entry.

    open      version, 1, time, nonce (16)
    requests  version, 2, time, session, sequence, floor, count, then each request:
              kind 0 (command):  length, command
              kind 1 (barrier):  nothing; a place in the log
              kind 2 (keyed):    key length, key, since, length, command
              kind 3 (member):   node id, incarnation, length, address (UTF-8)
    clock     version, 3, time

Integers are little-endian: version, kinds 1 byte; lengths and count 4; the rest 8. docs/sessions.md says what
the fields are for. Version 2; entries of version 1 had no time, no kind 3 and no clock, and are still read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, final

from raft_io.core.types import Value
from raft_io.errors import WireError

__all__ = [
    "NONCE_BYTES",
    "Clock",
    "Command",
    "Member",
    "Open",
    "Requests",
    "decode",
    "encode_clock",
    "encode_open",
    "encode_requests",
    "is_envelope",
    "peek",
    "stamp",
]

VERSION: Final = 2
OLD_VERSION: Final = 1
"""Without a time: what 0.4 wrote."""

NONCE_BYTES: Final = 16
MAX_TIME: Final = 2**63 - 1
MAX_ADDRESS: Final = 512
"""Bytes of a member's address."""

_OPEN: Final = 1
_REQUESTS: Final = 2
_CLOCK: Final = 3

_COMMAND: Final = 0
_BARRIER: Final = 1
_KEYED: Final = 2
_MEMBER: Final = 3

_HEAD: Final = struct.Struct("<BBQ")
"""Version, kind, time: where every entry of this version begins."""
_TIME: Final = struct.Struct("<Q")
_TIME_AT: Final = 2
_HEADER: Final = struct.Struct("<QQQI")
_PEEK: Final = struct.Struct("<QQ")
_LENGTH: Final = struct.Struct("<I")
_COMMAND_HEAD: Final = struct.Struct("<BI")
_SINCE: Final = struct.Struct("<QI")
_MEMBER_HEAD: Final = struct.Struct("<QQI")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member listens, `"host:port"`, and which life of its data directory it is. An empty address
    takes the member out of the table."""

    address: str
    incarnation: int

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        # Compiled, a frozen dataclass is not copied or pickled without.
        return Member, (self.address, self.incarnation)


@final
class Command(Value):
    """One request. `data` is `None` for a barrier, and for a change of the member table (`member`: the id and
    what it is to be). `key` is the caller's, `None` without one; `since` is what its node had applied when it
    was first tried."""

    __slots__ = ("data", "key", "member", "since")
    __match_args__: ClassVar[tuple[str, ...]] = ("data", "key", "since", "member")

    def __init__(
        self,
        data: bytes | None,
        key: bytes | None = None,
        since: int = 0,
        member: tuple[int, Member] | None = None,
    ) -> None:
        self.data = data
        self.key = key
        self.since = since
        self.member = member


@final
class Open(Value):
    """A node opens a session; the entry's index becomes the session's id, so that no id is used twice."""

    __slots__ = ("nonce", "time")
    __match_args__: ClassVar[tuple[str, ...]] = ("nonce", "time")

    def __init__(self, nonce: bytes, time: int = 0) -> None:
        self.nonce = nonce
        self.time = time


@final
class Requests(Value):
    """Requests number `sequence` of `session`. Everything below `floor` has been answered, or given up.
    `time`: the leader's clock as it proposed this, in ms since the epoch; `0`: not told."""

    __slots__ = ("commands", "floor", "sequence", "session", "time")
    __match_args__: ClassVar[tuple[str, ...]] = ("session", "sequence", "floor", "commands", "time")

    def __init__(
        self, session: int, sequence: int, floor: int, commands: list[Command], time: int = 0
    ) -> None:
        self.session = session
        self.sequence = sequence
        self.floor = floor
        self.commands = commands
        self.time = time


@final
class Clock(Value):
    """The leader tells the time, for a state machine that waits for it while nobody proposes anything."""

    __slots__ = ("time",)
    __match_args__: ClassVar[tuple[str, ...]] = ("time",)

    def __init__(self, time: int) -> None:
        self.time = time


def encode_open(nonce: bytes) -> bytes:
    """The entry that opens a session. `nonce`, 16 random bytes, tells its node which entry is its own."""
    assert len(nonce) == NONCE_BYTES
    return _HEAD.pack(VERSION, _OPEN, 0) + nonce


def encode_clock(time: int) -> bytes:
    """The entry that only tells the time."""
    return _HEAD.pack(VERSION, _CLOCK, time)


def encode_requests(session: int, sequence: int, floor: int, commands: Sequence[Command]) -> bytes:
    """The entry that holds `commands`, not yet stamped."""
    parts = [_HEAD.pack(VERSION, _REQUESTS, 0), _HEADER.pack(session, sequence, floor, len(commands))]
    for command in commands:
        data = command.data
        if data is None:
            member = command.member
            if member is None:
                parts.append(b"\x01")
            else:
                address = member[1].address.encode()
                parts.append(b"\x03")
                parts.append(_MEMBER_HEAD.pack(member[0], member[1].incarnation, len(address)))
                parts.append(address)
        elif command.key is None:
            parts.append(_COMMAND_HEAD.pack(_COMMAND, len(data)))
            parts.append(data)
        else:
            parts.append(_COMMAND_HEAD.pack(_KEYED, len(command.key)))
            parts.append(command.key)
            parts.append(_SINCE.pack(command.since, len(data)))
            parts.append(data)
    return b"".join(parts)


def stamp(data: bytes, time: int) -> bytes:
    """The entry with the leader's time in it, in ms since the epoch. One of version 1 has no place for it."""
    if data[0] != VERSION:
        return data
    return b"".join([data[:_TIME_AT], _TIME.pack(time), memoryview(data)[_HEAD.size :]])


def is_envelope(data: bytes) -> bool:
    """Whether `data` begins like an entry that a server makes, or made."""
    if len(data) < 2:
        return False
    kind = data[1]
    if data[0] == VERSION:
        return len(data) >= _HEAD.size and kind in (_OPEN, _REQUESTS, _CLOCK)
    return data[0] == OLD_VERSION and kind in (_OPEN, _REQUESTS)


def _body(data: bytes) -> int:
    """Where what follows the head begins."""
    return _HEAD.size if data[0] == VERSION else _TIME_AT


def peek(data: bytes) -> tuple[int, int]:
    """The session and the sequence number of requests; zeros for anything else."""
    if not is_envelope(data) or data[1] != _REQUESTS or len(data) < _body(data) + _HEADER.size:
        return 0, 0
    session, sequence = _PEEK.unpack_from(data, _body(data))
    return session, sequence


def _take(data: bytes, pos: int, size: int) -> bytes:
    taken = data[pos : pos + size]
    if len(taken) != size:
        raise WireError(f"an entry ends {size - len(taken)} bytes early")
    return taken


def _member(data: bytes, pos: int) -> tuple[Command, int]:
    """The change of the member table at `pos`, and where it ends."""
    node, incarnation, size = _MEMBER_HEAD.unpack_from(data, pos)
    if size > MAX_ADDRESS or node > MAX_TIME:
        raise WireError(f"no member: node {node}, an address of {size} bytes")
    pos += _MEMBER_HEAD.size
    try:
        address = _take(data, pos, size).decode()
    except UnicodeDecodeError:
        raise WireError("an address that is not UTF-8") from None
    return Command(None, None, 0, (node, Member(address, incarnation))), pos + size


def _commands(data: bytes, pos: int, count: int) -> list[Command]:
    commands: list[Command] = []
    try:
        for _ in range(count):
            kind = data[pos]
            if kind == _COMMAND:
                (size,) = _LENGTH.unpack_from(data, pos + 1)
                commands.append(Command(_take(data, pos + 5, size)))
                pos += 5 + size
            elif kind == _BARRIER:
                commands.append(Command(None))
                pos += 1
            elif kind == _KEYED:
                (size,) = _LENGTH.unpack_from(data, pos + 1)
                key = _take(data, pos + 5, size)
                pos += 5 + size
                since, size = _SINCE.unpack_from(data, pos)
                pos += _SINCE.size
                commands.append(Command(_take(data, pos, size), key, since))
                pos += size
            elif kind == _MEMBER and data[0] == VERSION:
                command, pos = _member(data, pos + 1)
                commands.append(command)
            else:
                raise WireError(f"a request of unknown kind {kind}")
    except (IndexError, struct.error):
        raise WireError("an entry ends early") from None
    if pos != len(data):
        raise WireError(f"{len(data) - pos} bytes too many in an entry")
    return commands


def decode(data: bytes) -> Open | Requests | Clock:
    """What an entry holds. Raises `WireError` for bytes that no server makes."""
    if not is_envelope(data):
        raise WireError("no entry of a server")
    time: int = _TIME.unpack_from(data, _TIME_AT)[0] if data[0] == VERSION else 0
    if time > MAX_TIME:
        raise WireError(f"a time of {time} ms")
    start = _body(data)
    kind = data[1]
    if kind == _CLOCK:
        if len(data) != start:
            raise WireError("a clock entry of the wrong length")
        return Clock(time)
    if kind == _OPEN:
        if len(data) != start + NONCE_BYTES:
            raise WireError("an opening entry of the wrong length")
        return Open(data[start:], time)
    if len(data) < start + _HEADER.size:
        raise WireError("an entry ends early")
    session, sequence, floor, count = _HEADER.unpack_from(data, start)
    if count > len(data):
        raise WireError(f"{count} requests do not fit in {len(data)} bytes")
    return Requests(session, sequence, floor, _commands(data, start + _HEADER.size, count), time)
