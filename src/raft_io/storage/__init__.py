"""The durable log, the identity of its directory, and the file systems they stand on."""

from raft_io.storage.fs import File, FileSystem, Lock, OsFileSystem
from raft_io.storage.identity import Identity, check_log, check_voters, has_identity, open_identity
from raft_io.storage.memfs import MemoryFileSystem
from raft_io.storage.peers import PeerFile, Peers
from raft_io.storage.snapshot_file import FileData
from raft_io.storage.snapshots import SnapshotWriter
from raft_io.storage.wal import WalLog

__all__ = [
    "File",
    "FileData",
    "FileSystem",
    "Identity",
    "Lock",
    "MemoryFileSystem",
    "OsFileSystem",
    "PeerFile",
    "Peers",
    "SnapshotWriter",
    "WalLog",
    "check_log",
    "check_voters",
    "has_identity",
    "open_identity",
]
