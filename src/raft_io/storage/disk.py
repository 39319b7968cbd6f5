"""Reading, writing and growing files whole, however little a disk moves at a time. Raises `OSError`."""

from __future__ import annotations

import errno
import os
from typing import Final

from raft_io.storage.fs import File, FileSystem

__all__ = ["allocate", "make_directory", "read_up_to", "write_all", "write_file"]

TEMPORARY: Final = ".tmp"
"""The end of the name of a file that is being made. The next open of the log removes it."""

STEP: Final = 1 << 20


def write_all(file: File, data: bytes, offset: int) -> None:
    """Write all of `data`, however little the disk takes at a time."""
    # A file system of the user's may count in numbers that are no `int`.
    done = int(file.pwrite(data, offset))
    while done < len(data):
        taken = int(file.pwrite(memoryview(data)[done:], offset + done))
        if taken <= 0:
            raise OSError(errno.EIO, "the disk takes no more of a write")
        done += taken


def read_up_to(file: File, size: int, offset: int) -> bytes:
    """`size` bytes from `offset` on, fewer only where the file ends."""
    data = file.pread(size, offset)
    while len(data) < size:
        more = file.pread(size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def allocate(file: File, size: int) -> None:
    """Grow `file` to `size`, all zeros behind what it has, with space reserved."""
    start = file.size()
    try:
        file.allocate(size)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        while start < size:
            step = min(STEP, size - start)
            write_all(file, bytes(step), start)
            start += step


def make_directory(fs: FileSystem, path: str) -> None:
    """Make the directory `path` and its parents, durably, as far as they are missing."""
    parent = os.path.dirname(path)
    try:
        fs.mkdir(path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_directory(fs, parent)
        fs.mkdir(path)
    fs.sync_dir(parent)


def write_file(fs: FileSystem, path: str, data: bytes) -> None:
    """Put `data` into the file at `path`, durably, in place of what it had: all of it or nothing."""
    file = fs.open(path + TEMPORARY, create=True)
    try:
        write_all(file, data, 0)
        file.sync()
    finally:
        file.close()
    fs.rename(path + TEMPORARY, path)
    fs.sync_dir(os.path.dirname(path))
