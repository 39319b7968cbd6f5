"""The format of a snapshot's file, and reading one. docs/log-format.md describes it byte by byte.

A header of one sector, the contents, and behind them a checksum for each block of 64 KiB and the membership.
So any part of the contents is verified as it is read, and damage has a place.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Final, final

from google_crc32c import extend, value

from raft_io.core.members import decode_membership
from raft_io.core.types import Index, Snapshot, SnapshotData, Term
from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage.disk import read_up_to
from raft_io.storage.fs import File, FileSystem
from raft_io.storage.names import snapshot_name

__all__ = ["BLOCK", "HEADER", "TAG", "FileData", "encode_header", "load_snapshot"]

VERSION: Final = 1
MAGIC: Final = b"raftiosn"
HEADER: Final = 512

BLOCK: Final = 1 << 16
"""Bytes of contents that share a checksum."""

TAG: Final = 1 << 40
"""In a snapshot's checksum: the lower 32 bits are the CRC32C of its contents."""

_HEADER: Final = struct.Struct("<8sIIqqqIIII")


def damaged(detail: str, path: str, offset: int) -> CorruptLogError:
    """The error for damage at `offset` of the snapshot at `path`."""
    return CorruptLogError("reading the snapshot", detail, path, offset)


@final
class FileData(SnapshotData):
    """The contents of a snapshot, in a file. Readable until it is closed or dropped, even when the file has
    been replaced by that of a later snapshot meanwhile; from any thread.

    Equal to another with the same size and checksum.
    """

    def __init__(self, file: File, path: str, size: int, crc: int, blocks: bytes, block: int) -> None:
        """`blocks`: the checksums of the blocks of `block` bytes each, four bytes a piece."""
        self.path = path
        self.size = size
        self.checksum = TAG | crc
        self.blocks = blocks
        self.file: File | None = file
        self.block = block
        self.abandoned: list[str] | None = None
        """Where to leave the path if nobody wants the file: it is temporary. `None` once it has its name."""

    def read(self, offset: int, size: int, /) -> bytes:
        """The `size` bytes from `offset` on, fewer only at the end; verified. Raises `StorageError`, and
        `CorruptLogError` where the file is damaged."""
        if offset < 0 or size < 0:
            raise ValueError(f"no such part: {size} bytes from {offset} on")
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        start = offset // self.block * self.block
        parts = [self._verified(at, end) for at in range(start, end, self.block)]
        if len(parts) == 1:
            return parts[0][offset - start : end - start]
        parts[0] = parts[0][offset - start :]
        return b"".join(parts)

    def _verified(self, start: int, end: int) -> bytes:
        """The block at `start`, up to `end`."""
        file = self.file
        if file is None:
            raise StorageError(f"reading {self.path}", "the snapshot is closed")
        size = min(self.block, self.size - start)
        try:
            data = read_up_to(file, size, HEADER + start)
        except OSError as error:
            raise StorageError.wrap(f"reading {self.path}", error) from error
        number = start // self.block
        if len(data) < size:
            raise damaged("the snapshot is cut off", self.path, HEADER + start + len(data))
        if value(data).to_bytes(4, "little") != self.blocks[4 * number : 4 * number + 4]:
            raise damaged("the checksum of a block does not match", self.path, HEADER + start)
        return data[: end - start]

    def verify(self) -> None:
        """Read all of it. Raises as `read` does."""
        crc = 0
        for start in range(0, self.size, self.block):
            crc = extend(crc, self._verified(start, self.size))
        if TAG | crc != self.checksum:
            raise damaged("the checksum of the contents does not match", self.path, HEADER)

    def close(self) -> None:
        """Release the file. What has not got its name will not."""
        file, self.file = self.file, None
        abandoned, self.abandoned = self.abandoned, None
        if abandoned is not None:
            abandoned.append(self.path)
        if file is not None:
            file.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.close()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileData):
            return NotImplemented
        return self.size == other.size and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash((self.size, self.checksum))

    def __repr__(self) -> str:
        return f"<FileData {self.path!r}: {self.size} bytes, checksum {self.checksum:#x}>"


def encode_header(snapshot: Snapshot, data: FileData, membership: int, trailer: int) -> bytes:
    """The first sector of the file. `membership`: bytes of it; `trailer`: the checksum of what follows the
    contents."""
    fields = _HEADER.pack(
        MAGIC,
        0,
        VERSION,
        snapshot.index,
        snapshot.term,
        data.size,
        data.checksum & 0xFFFF_FFFF,
        BLOCK,
        membership,
        trailer,
    )
    sector = fields + bytes(HEADER - len(fields))
    checksum: int = value(sector[:8] + sector[12:])
    return sector[:8] + checksum.to_bytes(4, "little") + sector[12:]


@final
class SnapshotHeader:
    """What the first sector of a snapshot says."""

    __slots__ = ("block", "crc", "index", "membership_size", "size", "term", "trailer_crc")

    def __init__(self, fields: tuple[int, ...]) -> None:
        self.index: Index = fields[0]
        self.term: Term = fields[1]
        self.size = fields[2]
        self.crc = fields[3]
        self.block = fields[4]
        self.membership_size = fields[5]
        self.trailer_crc = fields[6]

    @property
    def blocks_size(self) -> int:
        """Bytes of the blocks' checksums."""
        return (self.size + self.block - 1) // self.block * 4

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return HEADER + self.size + self.blocks_size + self.membership_size


def decode_header(sector: bytes, path: str) -> SnapshotHeader:
    """The header in the first sector of the file at `path`. Raises `CorruptLogError`, or `StorageError` for a
    version that is newer than this code."""
    if len(sector) < HEADER:
        raise damaged("the snapshot's header is cut off", path, len(sector))
    if sector[:8] != MAGIC:
        raise damaged("this is no snapshot of a raft-io log", path, 0)
    if value(sector[:8] + sector[12:]) != int.from_bytes(sector[8:12], "little"):
        raise damaged("the checksum of the snapshot's header does not match", path, 8)
    version = int.from_bytes(sector[12:16], "little")
    if version > VERSION:
        detail = (
            f"the snapshot has format version {version}; this version of raft-io knows them up to {VERSION}"
        )
        raise StorageError(f"opening {path}", detail)
    header = SnapshotHeader(_HEADER.unpack_from(sector)[3:])
    if version < 1 or min(header.index - 1, header.term, header.size, header.block - 1) < 0:
        raise damaged("the snapshot's header makes no sense", path, 12)
    return header


def load_snapshot(fs: FileSystem, path: str) -> Snapshot:
    """The snapshot at `path`, all of it verified but its contents. Raises `OSError`, `CorruptLogError`,
    `StorageError`."""
    file = fs.open(path, read_only=True)
    try:
        return read_snapshot(file, path)
    except BaseException:
        file.close()
        raise


def read_snapshot(file: File, path: str) -> Snapshot:
    """The snapshot in `file`, which stays open for its contents."""
    header = decode_header(read_up_to(file, HEADER, 0), path)
    if snapshot_name(header.index) != os.path.basename(path):
        raise damaged(f"this is the snapshot at {header.index}", path, 16)
    size = file.size()
    if size != header.file_size:
        detail = f"{header.file_size} bytes expected, {size} found"
        raise damaged(detail, path, min(size, header.file_size))
    start = HEADER + header.size
    trailer = read_up_to(file, header.file_size - start, start)
    if value(trailer) != header.trailer_crc:
        raise damaged("the checksum of what follows the contents does not match", path, start)
    blocks = trailer[: header.blocks_size]
    try:
        membership = decode_membership(trailer[header.blocks_size :])
    except ValueError as error:
        raise damaged(str(error), path, start + header.blocks_size) from error
    data = FileData(file, path, header.size, header.crc, blocks, header.block)
    return Snapshot(header.index, header.term, membership, data)
