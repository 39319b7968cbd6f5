"""The durable log and what it stands on."""

from raft_io.storage.fs import File, FileSystem, Lock, OsFileSystem
from raft_io.storage.wal import WalLog

__all__ = ["File", "FileSystem", "Lock", "OsFileSystem", "WalLog"]
