"""Logs to try things on: damaged at will, and compared."""

from __future__ import annotations

from raft_io.core.members import encode_membership
from raft_io.core.types import EntryKind, HardState, LogEntry, Membership, Snapshot
from raft_io.storage import MemoryFileSystem, WalLog

DATA = "/data/node-1"
PATH = f"{DATA}/log"
SEGMENT = 2048


def segment(number: int) -> str:
    """The path of a segment."""
    return f"{PATH}/{number:016d}.wal"


def snapshot_at(index: int) -> str:
    """The path of a snapshot."""
    return f"{PATH}/{index:019d}.snap"


def entries(first: int, last: int, term: int = 1, size: int = 50) -> list[LogEntry]:
    """Entries from `first` to `last`."""
    return [LogEntry(term, index, (b"%d." % index) * size) for index in range(first, last + 1)]


def opened(fs: MemoryFileSystem, tail_bytes: int = 0) -> WalLog:
    """The log, with small segments."""
    return WalLog.open(PATH, fs=fs, segment_size=SEGMENT, cache_bytes=0, tail_bytes=tail_bytes)


def filled(snapshot: int = 0, last: int = 40, data: bytes = b"state" * 30_000) -> MemoryFileSystem:
    """A disk with a log of entries 1 to `last` in many segments; compacted at `snapshot` if that is not 0."""
    fs = MemoryFileSystem()
    with opened(fs) as log:
        log.set_hard_state(HardState(1, 1))
        for index in range(1, last + 1):
            log.append(entries(index, index))
            if index == 5:
                log.append([LogEntry(1, 6, encode_membership(Membership([1, 2, 3])), EntryKind.MEMBERSHIP)])
                log.truncate(6)
            log.sync()
            if index == snapshot:
                log.save_snapshot(Snapshot(index, 1, Membership([1, 2, 3], [4]), data))
                log.sync()
    return fs


def names(fs: MemoryFileSystem, end: str = "", path: str = PATH) -> list[str]:
    """The names in the log's directory that end so, in order."""
    return sorted([name for name in fs.listdir(path) if name.endswith(end)])


def contents(fs: MemoryFileSystem, path: str) -> bytes:
    """What is in a file."""
    file = fs.open(path)
    return file.pread(file.size(), 0)


def replaced(fs: MemoryFileSystem, path: str, data: bytes) -> MemoryFileSystem:
    """A copy of the disk with other contents of one file."""
    other = fs.copy()
    other.open(path, create=True).pwrite(data, 0)
    return other.copy()


def flipped(fs: MemoryFileSystem, path: str, offset: int, by: int = 0xFF) -> MemoryFileSystem:
    """A copy of the disk in which one byte is another."""
    data = bytearray(contents(fs, path))
    data[offset] ^= by
    return replaced(fs, path, bytes(data))


def everything(fs: MemoryFileSystem) -> dict[str, bytes]:
    """Every file of the log and what is in it."""
    return {name: contents(fs, f"{PATH}/{name}") for name in names(fs)}
