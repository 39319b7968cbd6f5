"""The file system as the log sees it, and the real one.

The log is handed a `FileSystem`, so that a simulated disk can stand in (`raft_io.storage.memfs`). Whatever
fails raises `OSError`. Paths are strings.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final, Protocol, final

__all__ = ["File", "FileSystem", "Lock", "OsFileSystem"]


class File(Protocol):
    """An open file, read and written at given places."""

    def pread(self, size: int, offset: int, /) -> bytes:
        """Up to `size` bytes from `offset` on; fewer where the file ends, or where the disk felt like it."""

    def pwrite(self, data: bytes | memoryview, offset: int, /) -> int:
        """Write `data` at `offset`; returns how many bytes were taken."""

    def write_back(self, offset: int, size: int, /) -> None:
        """A hint: begin to bring these bytes to the disk, without waiting for it, so that `sync` will not
        have to wait long. Nothing is promised."""

    def sync(self) -> None:
        """Make the contents and the size durable."""

    def size(self) -> int:
        """The length in bytes."""

    def allocate(self, size: int, /) -> None:
        """Grow the file to `size` bytes of zeros with space reserved for them. `OSError` with `EOPNOTSUPP`
        where the file system cannot: the caller writes the zeros itself."""

    def close(self) -> None:
        """Release the handle. Not durable by itself."""


class Lock(Protocol):
    """An exclusive lock; it goes with the process at the latest."""

    def close(self) -> None:
        """Let go."""


class FileSystem(Protocol):
    """What the log needs of a file system."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        """Open for reading and writing, or for reading only; `create` makes an empty file, whatever was
        there."""

    def listdir(self, path: str, /) -> list[str]:
        """The names in a directory, in any order."""

    def mkdir(self, path: str, /) -> None:
        """Make one directory; its parent must exist."""

    def rename(self, source: str, target: str, /) -> None:
        """Give a file another name, replacing what had it."""

    def unlink(self, path: str, /) -> None:
        """Remove a file."""

    def sync_dir(self, path: str, /) -> None:
        """Make the names in a directory durable."""

    def lock(self, path: str, /) -> Lock:
        """Take the exclusive lock on the file `path`, made if need be; `BlockingIOError` if it is taken."""

    def is_locked(self, path: str, /) -> bool:
        """Whether somebody holds that lock; makes nothing."""


_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: its `fsync` leaves data in the drive's cache; this does not."""

_CANNOT_ALLOCATE: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENODEV)


@final
class OsFile:
    """A file of the operating system."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pread(self, size: int, offset: int, /) -> bytes:
        return os.pread(self._fd, size, offset)

    def pwrite(self, data: bytes | memoryview, offset: int, /) -> int:
        return os.pwrite(self._fd, data, offset)

    def write_back(self, offset: int, size: int, /) -> None:
        # Linux begins to write what is dirty, and then forgets what is clean: what a snapshot that was just
        # written leaves in the cache is of no use to anybody.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, offset, size, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        if _FULL_SYNC is not None:
            fcntl.fcntl(self._fd, _FULL_SYNC)
        else:
            os.fdatasync(self._fd)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def allocate(self, size: int, /) -> None:
        if not hasattr(os, "posix_fallocate"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            if error.errno in _CANNOT_ALLOCATE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)) from error
            raise

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@final
class OsFileSystem:
    """The operating system's files (POSIX)."""

    __slots__ = ()

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        flags = os.O_RDONLY if read_only else os.O_RDWR
        return OsFile(os.open(path, flags | (os.O_CREAT | os.O_TRUNC if create else 0), 0o644))

    def listdir(self, path: str, /) -> list[str]:
        return os.listdir(path)

    def mkdir(self, path: str, /) -> None:
        os.mkdir(path)

    def rename(self, source: str, target: str, /) -> None:
        os.replace(source, target)

    def unlink(self, path: str, /) -> None:
        os.unlink(path)

    def sync_dir(self, path: str, /) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str, /) -> Lock:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return OsFile(fd)

    def is_locked(self, path: str, /) -> bool:
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
