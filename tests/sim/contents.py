"""What is in a snapshot: the commands that were applied, as bytes that tell one history from another."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Protocol

from raft_io import SnapshotData, StorageError

_PRIME = 2**63 - 25


def encode(commands: Sequence[bytes], nonce: int) -> bytes:
    """The state machine's state. `nonce` shapes it: nodes may well write the same state differently, so that
    pieces of two of their snapshots do not fit together."""
    nonce %= 256
    if not commands and nonce % 2 == 0:
        return b""
    salt = bytes([nonce])
    digest = hashlib.blake2b(digest_size=2 + nonce % 7, key=salt)
    for command in commands:
        digest.update(b"%d:" % len(command) + command)
    return salt + digest.digest() * (1 + nonce % 3)


def tells(data: bytes, commands: Sequence[bytes]) -> bool:
    """Whether `data` is the state after `commands`."""
    return data == encode(commands, data[0] if data else 0)


def fingerprint(data: bytes) -> int:
    """The checksum of a snapshot that is held as `bytes`."""
    return int.from_bytes(data, "little") % _PRIME


class Disk(Protocol):
    broken: bool


class Contents(SnapshotData):
    """A `SnapshotData`: contents that need not be in memory, on a disk that may break."""

    def __init__(self, data: bytes, disk: Disk | None = None) -> None:
        self.data = data
        self.disk = disk
        self.size = len(data)
        self.checksum = 1 << 41 | zlib.crc32(data)

    def read(self, offset: int, size: int, /) -> bytes:
        assert 0 <= offset <= self.size and size > 0, f"read {size} from {offset} of {self.size}"
        if self.disk is not None and self.disk.broken:
            raise StorageError("read a snapshot", "Input/output error")
        return self.data[offset : offset + size]


def whole(data: object) -> bytes:
    """All bytes of a snapshot's contents."""
    if isinstance(data, bytes):
        return data
    assert isinstance(data, Contents)
    return data.data
