"""A backup: one snapshot of a cluster's state in a file of its own, from which a new cluster can begin.

    magic (8), version (2), header length (4), header (JSON), CRC32C of all before (4),
    the snapshot's contents (`size` of the header), CRC32C of the contents (4)

Integers are little-endian. Neither side ever holds the contents in memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from google_crc32c import extend, value

from raft_io.core.types import (
    Index,
    Membership,
    NodeId,
    Snapshot,
    SnapshotData,
    Term,
    checked,
    data_size,
    read_data,
)
from raft_io.errors import CorruptLogError, StorageError

__all__ = ["BLOCK", "Backup", "BackupFile", "blocks"]

VERSION: Final = 1
BLOCK: Final = 256 * 1024
MAX_HEADER: Final = 1024 * 1024

_MAGIC: Final = b"RAFTBKUP"
_HEAD: Final = struct.Struct("<8sHI")
_CHECK: Final = struct.Struct("<I")

_CRC32C: Final = 1 << 40
"""In a snapshot's checksum: the lower 32 bits are the CRC32C of its contents."""


@dataclass(frozen=True)
class Backup:
    """What a backup is of: the state at `index`, as node `node` of `cluster_id` had it at `created` (seconds
    since the epoch, by its clock), when these were the members."""

    cluster_id: str
    node: NodeId
    index: Index
    term: Term
    membership: Membership
    size: int
    created: int

    def encode(self) -> bytes:
        """The file up to the contents."""
        fields = {
            "cluster_id": self.cluster_id,
            "node": self.node,
            "index": self.index,
            "term": self.term,
            "voters": sorted(self.membership.voters),
            "learners": sorted(self.membership.learners),
            "outgoing": sorted(self.membership.outgoing),
            "size": self.size,
            "created": self.created,
        }
        text = json.dumps(fields).encode()
        head = _HEAD.pack(_MAGIC, VERSION, len(text)) + text
        return head + _CHECK.pack(value(head))

    @property
    def total(self) -> int:
        """Bytes of the whole file."""
        return len(self.encode()) + self.size + _CHECK.size

    @classmethod
    def of(cls, snapshot: Snapshot, cluster_id: str, node: NodeId, now: float) -> Backup:
        """A backup of `snapshot`."""
        size = data_size(snapshot.data)
        return cls(
            cluster_id, node, snapshot.index, snapshot.term, snapshot.membership, int(size), max(0, int(now))
        )


async def blocks(backup: Backup, snapshot: Snapshot) -> AsyncGenerator[bytes, None]:
    """The file in pieces, read in another thread. Raises `StorageError` where the snapshot cannot be read, or
    is not what it was when it was taken: then the end of the file, which vouches for the rest, is missing."""
    yield backup.encode()
    crc = 0
    offset = 0
    while offset < backup.size:
        block = await asyncio.to_thread(read_data, snapshot.data, offset, min(BLOCK, backup.size - offset))
        if not block:
            raise StorageError("reading the snapshot", f"it ends at byte {offset} of {backup.size}")
        crc = extend(crc, block)
        offset += len(block)
        yield block
    data = snapshot.data
    if not isinstance(data, bytes) and data.checksum & _CRC32C and data.checksum != _CRC32C | crc:
        raise StorageError("reading the snapshot", "its contents are damaged")
    yield _CHECK.pack(crc)


class BackupFile(SnapshotData):
    """A backup that was opened for reading; its contents can be read as those of a snapshot. Raises
    `CorruptLogError` naming `path` for one that is damaged, `StorageError` for one of a newer version,
    `OSError` if the disk fails. Only `verify` looks at all of the contents."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path
        self.backup = self._read_head()
        self._start = file.tell()
        self.size = self.backup.size
        self.checksum = 0
        expected = self._start + self.size + _CHECK.size
        found = os.fstat(file.fileno()).st_size
        if found != expected:
            raise self._damaged(f"it has {found} bytes and should have {expected}", min(found, expected))

    def read(self, offset: int, size: int, /) -> bytes:
        """Bytes of the contents, fewer only at their end."""
        self._file.seek(self._start + offset)
        return self._file.read(max(0, min(size, self.size - offset)))

    def verify(self) -> None:
        """Raise `CorruptLogError` unless the contents are what was backed up."""
        crc = 0
        for offset in range(0, self.size, BLOCK):
            crc = extend(crc, self.read(offset, BLOCK))
        self._file.seek(self._start + self.size)
        if self._file.read(_CHECK.size) != _CHECK.pack(crc):
            raise self._damaged("its contents do not match their checksum", self._start)

    def _read_head(self) -> Backup:
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(_MAGIC):
            raise self._damaged("it is no backup", 0)
        _, version, length = _HEAD.unpack(head)
        if version != VERSION:
            detail = f"it has version {version}; this version of raft-io knows {VERSION}"
            raise StorageError(f"reading {self._path}", detail)
        if length > MAX_HEADER:
            raise self._damaged("its header makes no sense", 0)
        text = self._file.read(length)
        if self._file.read(_CHECK.size) != _CHECK.pack(extend(value(head), text)):
            raise self._damaged("its header is damaged", 0)
        try:
            return _decoded(json.loads(text))
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"its header makes no sense: {error!r}", 0) from error

    def _damaged(self, detail: str, offset: int) -> CorruptLogError:
        return CorruptLogError("reading a backup", detail, self._path, offset)


def _decoded(fields: dict[str, Any]) -> Backup:
    cluster_id = fields["cluster_id"]
    if not isinstance(cluster_id, str):
        raise TypeError("cluster_id")
    membership = Membership(fields["voters"], fields["learners"], fields["outgoing"])
    numbers = [int(checked(fields[name], name)) for name in ("node", "index", "term", "size", "created")]
    node, index, term, size, created = numbers
    return Backup(cluster_id, node, index, term, membership, size, created)
