"""What a server puts into the log: the requests that arrived together at one node, as one entry.

    open      version, 1, nonce (16)
    requests  version, 2, session, sequence, floor, count, then each request:
              kind 0 (command):  length, command
              kind 1 (barrier):  nothing; a read waits for this place in the log
              kind 2 (keyed):    key length, key, since, length, command

Integers are little-endian: version, kinds 1 byte; lengths and count 4; the rest 8. docs/sessions.md says what
the fields are for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from raft_io.errors import WireError

__all__ = [
    "NONCE_BYTES",
    "Command",
    "Open",
    "Requests",
    "decode",
    "encode_open",
    "encode_requests",
    "is_envelope",
    "peek",
]

VERSION = 1
NONCE_BYTES = 16

_OPEN = 1
_REQUESTS = 2

_COMMAND = 0
_BARRIER = 1
_KEYED = 2

_HEADER = struct.Struct("<BBQQQI")
_PEEK = struct.Struct("<QQ")
_LENGTH = struct.Struct("<I")
_COMMAND_HEAD = struct.Struct("<BI")
_SINCE = struct.Struct("<QI")


@dataclass(frozen=True, slots=True)
class Command:
    """One request. `data` is `None` for a barrier. `key` is the caller's, `None` without one; `since` is what
    its node had applied when it was first tried."""

    data: bytes | None
    key: bytes | None = None
    since: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """A node opens a session; the entry's index becomes the session's id, so that no id is used twice."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests number `sequence` of `session`. Everything below `floor` has been answered, or given up."""

    session: int
    sequence: int
    floor: int
    commands: list[Command]


def encode_open(nonce: bytes) -> bytes:
    """The entry that opens a session. `nonce`, 16 random bytes, tells its node which entry is its own."""
    assert len(nonce) == NONCE_BYTES
    return bytes((VERSION, _OPEN)) + nonce


def encode_requests(session: int, sequence: int, floor: int, commands: Sequence[Command]) -> bytes:
    """The entry that holds `commands`."""
    parts = [_HEADER.pack(VERSION, _REQUESTS, session, sequence, floor, len(commands))]
    for command in commands:
        data = command.data
        if data is None:
            parts.append(b"\x01")
        elif command.key is None:
            parts.append(_COMMAND_HEAD.pack(_COMMAND, len(data)))
            parts.append(data)
        else:
            parts.append(_COMMAND_HEAD.pack(_KEYED, len(command.key)))
            parts.append(command.key)
            parts.append(_SINCE.pack(command.since, len(data)))
            parts.append(data)
    return b"".join(parts)


def is_envelope(data: bytes) -> bool:
    """Whether `data` begins like an entry that a server of this version makes."""
    return len(data) >= 2 and data[0] == VERSION and data[1] in (_OPEN, _REQUESTS)


def peek(data: bytes) -> tuple[int, int]:
    """The session and the sequence number of requests; zeros for anything else."""
    if len(data) < _HEADER.size or data[0] != VERSION or data[1] != _REQUESTS:
        return 0, 0
    session, sequence = _PEEK.unpack_from(data, 2)
    return session, sequence


def _take(data: bytes, pos: int, size: int) -> bytes:
    taken = data[pos : pos + size]
    if len(taken) != size:
        raise WireError(f"an entry ends {size - len(taken)} bytes early")
    return taken


def _commands(data: bytes, count: int) -> list[Command]:
    commands: list[Command] = []
    pos = _HEADER.size
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
            else:
                raise WireError(f"a request of unknown kind {kind}")
    except (IndexError, struct.error):
        raise WireError("an entry ends early") from None
    if pos != len(data):
        raise WireError(f"{len(data) - pos} bytes too many in an entry")
    return commands


def decode(data: bytes) -> Open | Requests:
    """What an entry holds. Raises `WireError` for bytes that no server makes."""
    if not is_envelope(data):
        raise WireError("no entry of a server")
    if data[1] == _OPEN:
        if len(data) != 2 + NONCE_BYTES:
            raise WireError("an opening entry of the wrong length")
        return Open(data[2:])
    if len(data) < _HEADER.size:
        raise WireError("an entry ends early")
    _, _, session, sequence, floor, count = _HEADER.unpack_from(data)
    if count > len(data):
        raise WireError(f"{count} requests do not fit in {len(data)} bytes")
    return Requests(session, sequence, floor, _commands(data, count))
