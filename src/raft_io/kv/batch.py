"""The commands of a client that arrived together, or its transaction, as one command of the replicated log.

    byte 0      version of the format, 3
    byte 1      RESP version of the replies, 2 or 3
    byte 2      0: commands; 1: a transaction
    of a transaction: 4 bytes number of keys, then each watched key:
        4 bytes     length, and the key
        8 bytes     the revision of the store when it was watched
    then, until the end, each command:
        4 bytes     number of arguments, at least 1
        for each argument: 4 bytes length, and the argument

Numbers are little-endian. Canonical: what decodes re-encodes to the same bytes. Read but no longer written:
version 2, of the same form, whose transactions left out the commands beyond the limit on replies; version 1,
which had no byte 2 and no transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from mypy_extensions import i64

from raft_io.errors import CommandError

try:
    from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i32_le, write_i64_le
except ImportError:  # no build of librt for this platform
    from raft_io._plain import (  # type: ignore[assignment]
        BytesWriter,
        read_i32_le,
        read_i64_le,
        write_i32_le,
        write_i64_le,
    )

__all__ = [
    "HEADER",
    "TRANSACTION_HEADER",
    "VERSION",
    "Batch",
    "decode_batch",
    "encode_batch",
    "encode_batches",
    "encode_transaction",
]

VERSION: Final = 3
"""The version of the format and of what the commands mean: a log may be replayed by a later release, which
must then do what this one did. A change of either takes a new number."""

FIRST_VERSION: Final = 1

WHOLE_VERSION: Final = 3
"""From this one on a transaction is carried out as a whole or not at all, also where it is too much."""

HEADER: Final = 3
"""Bytes of a batch before its commands."""

TRANSACTION_HEADER: Final = 7
"""The same of a transaction that watches nothing."""

_COMMANDS: Final = 0
_TRANSACTION: Final = 1


@final
class Batch:
    """What a batch holds: commands, to be answered in RESP version `protocol`. `watched`: that of a
    transaction, keys and revisions; `None` if it is none."""

    __slots__ = ("commands", "protocol", "version", "watched")

    def __init__(
        self,
        version: int,
        protocol: int,
        commands: list[list[bytes]],
        watched: list[tuple[bytes, int]] | None,
    ) -> None:
        self.version = version
        self.protocol = protocol
        self.commands = commands
        self.watched = watched


def _encode_commands(out: BytesWriter, commands: Sequence[Sequence[bytes]]) -> bytes:
    for args in commands:
        write_i32_le(out, len(args))
        for arg in args:
            write_i32_le(out, len(arg))
            out.write(arg)
    return out.getvalue()


def encode_batch(commands: Sequence[Sequence[bytes]], protocol: int) -> bytes:
    """The batch of `commands`, each its name and arguments, to be answered in RESP version `protocol`."""
    out = BytesWriter()
    out.append(VERSION)
    out.append(protocol)
    out.append(_COMMANDS)
    return _encode_commands(out, commands)


def encode_transaction(
    commands: Sequence[Sequence[bytes]], watched: Sequence[tuple[bytes, int]], protocol: int
) -> bytes:
    """The batch that carries out `commands` unless one of the keys in `watched` has changed since the
    revision beside it."""
    out = BytesWriter()
    out.append(VERSION)
    out.append(protocol)
    out.append(_TRANSACTION)
    write_i32_le(out, len(watched))
    for key, revision in watched:
        write_i32_le(out, len(key))
        out.write(key)
        write_i64_le(out, revision)
    return _encode_commands(out, commands)


def encode_batches(commands: Sequence[Sequence[bytes]], protocol: int, max_bytes: int) -> list[bytes]:
    """One batch, or as many as it takes for none to be longer than `max_bytes`.

    A single command that is longer makes a longer batch; a `Parser` with a `max_command` of
    `max_bytes - HEADER` lets none through.
    """
    data = encode_batch(commands, protocol)
    if len(data) <= max_bytes or len(commands) <= 1:
        return [data]
    half = len(commands) // 2
    return encode_batches(commands[:half], protocol, max_bytes) + encode_batches(
        commands[half:], protocol, max_bytes
    )


def decode_batch(data: bytes) -> Batch:
    """What a batch holds. Raises `CommandError` for anything that no release made."""
    if len(data) < 2 or not FIRST_VERSION <= data[0] <= VERSION:
        raise CommandError("a batch of commands begins with an unknown version")
    version = data[0]
    protocol = data[1]
    if protocol != 2 and protocol != 3:
        raise CommandError(f"a batch of commands asks for RESP version {protocol}")
    if version == FIRST_VERSION:
        return Batch(version, protocol, _decode_commands(data, 2), None)
    if len(data) < HEADER:
        raise CommandError("a batch of commands is cut off")
    if data[2] == _COMMANDS:
        return Batch(version, protocol, _decode_commands(data, HEADER), None)
    if data[2] != _TRANSACTION:
        raise CommandError(f"a batch of commands of unknown kind {data[2]}")
    watched: list[tuple[bytes, int]] = []
    pos = _decode_watched(data, watched)
    return Batch(version, protocol, _decode_commands(data, pos), watched)


def _decode_watched(data: bytes, watched: list[tuple[bytes, int]]) -> i64:
    """Append the watched keys; return where they end."""
    end: i64 = len(data)
    pos: i64 = HEADER
    if end - pos < 4:
        raise CommandError("a batch of commands is cut off")
    count: i64 = i64(read_i32_le(data, pos))
    pos += 4
    if count < 0 or count > (end - pos) // 12:
        raise CommandError(f"a batch of commands watches {count} keys")
    while count > 0:
        if end - pos < 4:
            raise CommandError("a batch of commands is cut off")
        size: i64 = i64(read_i32_le(data, pos))
        pos += 4
        if size < 0 or size > end - pos - 8:
            raise CommandError(f"a batch of commands watches a key of {size} bytes")
        watched.append((data[pos : pos + size], read_i64_le(data, pos + size)))
        pos += size + 8
        count -= 1
    return pos


def _decode_commands(data: bytes, pos: i64) -> list[list[bytes]]:
    end: i64 = len(data)
    commands: list[list[bytes]] = []
    while pos < end:
        if end - pos < 4:
            raise CommandError("a batch of commands is cut off")
        count: i64 = i64(read_i32_le(data, pos))
        pos += 4
        if count < 1 or count > (end - pos) // 4:
            raise CommandError(f"a batch of commands holds one of {count} arguments")
        args: list[bytes] = []
        while count > 0:
            if end - pos < 4:
                raise CommandError("a batch of commands is cut off")
            size: i64 = i64(read_i32_le(data, pos))
            pos += 4
            if size < 0 or size > end - pos:
                raise CommandError(f"a batch of commands holds an argument of {size} bytes")
            args.append(data[pos : pos + size])
            pos += size
            count -= 1
        commands.append(args)
    return commands
