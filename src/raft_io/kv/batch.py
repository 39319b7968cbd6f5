"""The commands of a client that arrived together, as one command of the replicated log.

    byte 0      version of the format, 1
    byte 1      RESP version of the replies, 2 or 3
    then, until the end, each command:
        4 bytes     number of arguments, at least 1, little-endian
        for each argument: 4 bytes length, little-endian, and the argument

Canonical: what decodes re-encodes to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mypy_extensions import i64

from raft_io.errors import CommandError

try:
    from librt.strings import BytesWriter, read_i32_le, write_i32_le
except ImportError:  # no build of librt for this platform
    from raft_io._plain import BytesWriter, read_i32_le, write_i32_le  # type: ignore[assignment]

__all__ = ["HEADER", "VERSION", "decode_batch", "encode_batch", "encode_batches"]

VERSION: Final = 1
"""The version of the format and of what the commands mean: a log may be replayed by a later release, which
must then do what this one did. A change of either takes a new number."""

HEADER: Final = 2
"""Bytes of a batch before its commands."""


def encode_batch(commands: Sequence[Sequence[bytes]], protocol: int) -> bytes:
    """The batch of `commands`, each its name and arguments, to be answered in RESP version `protocol`."""
    out = BytesWriter()
    out.append(VERSION)
    out.append(protocol)
    for args in commands:
        write_i32_le(out, len(args))
        for arg in args:
            write_i32_le(out, len(arg))
            out.write(arg)
    return out.getvalue()


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


def decode_batch(data: bytes) -> tuple[list[list[bytes]], int]:
    """The commands and the RESP version. Raises `CommandError` for anything `encode_batch` does not make."""
    end: i64 = len(data)
    if end < HEADER or data[0] != VERSION:
        raise CommandError("a batch of commands begins with an unknown version")
    protocol = data[1]
    if protocol != 2 and protocol != 3:
        raise CommandError(f"a batch of commands asks for RESP version {protocol}")
    commands: list[list[bytes]] = []
    pos: i64 = HEADER
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
    return commands, protocol
