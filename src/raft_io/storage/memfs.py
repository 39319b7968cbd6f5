"""A simulated disk: what is not synced may be lost, and any operation may fail.

It keeps two versions of everything, what a process sees and what is on the disk. `crash` leaves the second,
with as much of the unsynced rest as the coin grants: a disk writes sectors in any order, each whole or not
at all, and the names in a directory in the order in which they changed.

>>> fs = MemoryFileSystem()
>>> file = fs.open("/a", create=True)
>>> file.pwrite(b"unsynced", 0)
8
>>> fs.crash()
>>> fs.listdir("/")
[]
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Final, final

__all__ = ["MemoryFile", "MemoryFileSystem"]

SECTOR: Final = 512


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


@lru_cache(maxsize=4096)
def _split(path: str) -> tuple[str, str]:
    return os.path.split(path)


@lru_cache(maxsize=4096)
def _parts(path: str) -> tuple[str, ...]:
    return tuple([part for part in path.split("/") if part])


def _never() -> bool:
    return False


def _no_fault(operation: str, path: str) -> None:
    pass


@final
class _Data:
    """The contents of a file: as seen, as durable, and what happened in between, in order: a new size, or
    (sector, its new contents)."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.durable = bytearray()
        self.pending: list[int | tuple[int, bytes]] = []

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.seen):
            self.resize(end)
        self.seen[offset:end] = data
        for sector in range(offset // SECTOR, (end + SECTOR - 1) // SECTOR):
            self.pending.append((sector, bytes(self.seen[sector * SECTOR : (sector + 1) * SECTOR])))

    def resize(self, size: int) -> None:
        _resize(self.seen, size)
        self.pending.append(size)

    def settle(self, coin: Callable[[], object] | None) -> None:
        """Carry out what is pending: all of it, or what the coin grants; of the sizes, a first part."""
        sizes = True
        for change in self.pending:
            if isinstance(change, int):
                sizes = sizes and (coin is None or bool(coin()))
                if sizes:
                    _resize(self.durable, change)
            elif coin is None or bool(coin()):
                start = change[0] * SECTOR
                if start + len(change[1]) > len(self.durable):
                    _resize(self.durable, start + len(change[1]))
                self.durable[start : start + len(change[1])] = change[1]
        self.pending.clear()


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


@final
class _Names:
    """A directory: as seen, as durable, and the changes in between, each a set of names to give or take."""

    def __init__(self) -> None:
        self.seen: dict[str, _Data | _Names] = {}
        self.durable: dict[str, _Data | _Names] = {}
        self.pending: list[dict[str, _Data | _Names | None]] = []

    def change(self, names: dict[str, _Data | _Names | None]) -> None:
        _change(self.seen, names)
        self.pending.append(names)

    def settle(self, coin: Callable[[], object] | None) -> None:
        for names in self.pending:
            if coin is not None and not coin():
                break
            _change(self.durable, names)
        self.pending.clear()


def _change(target: dict[str, _Data | _Names], names: dict[str, _Data | _Names | None]) -> None:
    for name, node in names.items():
        if node is None:
            target.pop(name, None)
        else:
            target[name] = node


@final
class MemoryFile:
    """An open file of a `MemoryFileSystem`, dead once that has crashed."""

    def __init__(self, fs: MemoryFileSystem, path: str, data: _Data, read_only: bool) -> None:
        self._fs = fs
        self._path = path
        self._data = data
        self._read_only = read_only
        self._life = fs.life

    def _begin(self, operation: str) -> None:
        if self._life != self._fs.life:
            raise _error(errno.EBADF, self._path)
        self._fs.fault(operation, self._path)

    def _check_writable(self) -> None:
        if self._read_only:
            raise _error(errno.EBADF, self._path)

    def pread(self, size: int, offset: int, /) -> bytes:
        self._begin("pread")
        return bytes(self._data.seen[offset : offset + min(size, self._fs.max_transfer)])

    def pwrite(self, data: bytes | memoryview, offset: int, /) -> int:
        self._begin("pwrite")
        self._check_writable()
        taken = bytes(data[: self._fs.max_transfer])
        self._data.write(taken, offset)
        return len(taken)

    def write_back(self, offset: int, size: int, /) -> None:
        self._begin("write_back")

    def sync(self) -> None:
        try:
            self._begin("sync")
        except OSError:
            # As on Linux: what could not be written counts as clean, and the next sync leaves it out.
            self._data.settle(self._fs.coin)
            raise
        self._data.settle(None)

    def size(self) -> int:
        self._begin("size")
        return len(self._data.seen)

    def allocate(self, size: int, /) -> None:
        self._begin("allocate")
        self._check_writable()
        if size > len(self._data.seen):
            self._data.resize(size)

    def close(self) -> None:
        self._life = -1


@final
class _Lock:
    def __init__(self, fs: MemoryFileSystem, path: str) -> None:
        self._fs = fs
        self._path = path
        self._life = fs.life

    def close(self) -> None:
        if self._life == self._fs.life:
            self._fs.locks.discard(self._path)
        self._life = -1


@final
class MemoryFileSystem:
    """A file system in memory; paths are absolute.

    `coin` decides, change by change, what of the unsynced survives a crash or a sync that failed (the
    default: nothing). `fault(operation, path)` is called before each operation and may raise: an `OSError`,
    or an exception of the test's own that stands for the end of the process. The operations are the names
    of the methods of `File` and `FileSystem`. `max_transfer` is the most that one read or write moves.
    """

    def __init__(
        self,
        coin: Callable[[], object] = _never,
        fault: Callable[[str, str], None] = _no_fault,
        max_transfer: int = 1 << 62,
    ) -> None:
        self.coin = coin
        self.fault = fault
        self.max_transfer = max_transfer
        self.life = 0
        self.locks: set[str] = set()
        self._root = _Names()

    def crash(self) -> None:
        """The power fails: what was synced is left, and what the coin grants of the rest. Every open file
        and lock is gone."""
        self.end_process()
        done: set[int] = set()
        todo: list[_Data | _Names] = [self._root]
        while todo:
            node = todo.pop()
            if id(node) in done:
                continue
            done.add(id(node))
            node.settle(self.coin)
            if isinstance(node, _Names):
                node.seen = dict(node.durable)
                todo.extend(node.durable.values())
            else:
                node.seen = bytearray(node.durable)

    def end_process(self) -> None:
        """The process dies: open files and locks are gone, what it wrote is still there."""
        self.life += 1
        self.locks.clear()

    def copy(self) -> MemoryFileSystem:
        """Another disk with the same contents, all of it synced; nothing is open there."""
        other = MemoryFileSystem(self.coin, self.fault, self.max_transfer)
        other._root = _copy_names(self._root)
        return other

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> MemoryFile:
        self.fault("open", path)
        names, name = self._parent(path)
        node = names.seen.get(name)
        if isinstance(node, _Names):
            raise _error(errno.EISDIR, path)
        if node is None:
            if not create:
                raise _error(errno.ENOENT, path)
            node = _Data()
            names.change({name: node})
        elif create:
            node.resize(0)
        return MemoryFile(self, path, node, read_only)

    def listdir(self, path: str, /) -> list[str]:
        self.fault("listdir", path)
        return list(self._directory(path).seen)

    def mkdir(self, path: str, /) -> None:
        self.fault("mkdir", path)
        names, name = self._parent(path)
        if name == "" or name in names.seen:
            raise _error(errno.EEXIST, path)
        names.change({name: _Names()})

    def rename(self, source: str, target: str, /) -> None:
        self.fault("rename", target)
        names, name = self._parent(source)
        if name not in names.seen or os.path.dirname(source) != os.path.dirname(target):
            raise _error(errno.ENOENT, source)
        names.change({name: None, os.path.basename(target): names.seen[name]})

    def unlink(self, path: str, /) -> None:
        self.fault("unlink", path)
        names, name = self._parent(path)
        if name not in names.seen:
            raise _error(errno.ENOENT, path)
        names.change({name: None})

    def sync_dir(self, path: str, /) -> None:
        self.fault("sync_dir", path)
        self._directory(path).settle(None)

    def lock(self, path: str, /) -> _Lock:
        self.fault("lock", path)
        if path in self.locks:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
        names, name = self._parent(path)
        if name not in names.seen:
            names.change({name: _Data()})
        self.locks.add(path)
        return _Lock(self, path)

    def is_locked(self, path: str, /) -> bool:
        self.fault("is_locked", path)
        return path in self.locks

    def rot(self, path: str, offset: int, bit: int) -> None:
        """Turn a bit of a file, as it is seen and as it is durable. Raises `OSError` if there is no such
        file, `ValueError` if it is shorter."""
        names, name = self._parent(path)
        node = names.seen.get(name)
        if not isinstance(node, _Data):
            raise _error(errno.ENOENT, path)
        if not 0 <= offset < len(node.seen):
            raise ValueError(f"{path} has {len(node.seen)} bytes, none at {offset}")
        node.seen[offset] ^= 1 << bit
        if offset < len(node.durable):
            node.durable[offset] ^= 1 << bit

    def _directory(self, path: str) -> _Names:
        node: _Data | _Names | None = self._root
        for name in _parts(path):
            if not isinstance(node, _Names):
                raise _error(errno.ENOTDIR, path)
            node = node.seen.get(name)
            if node is None:
                raise _error(errno.ENOENT, path)
        if not isinstance(node, _Names):
            raise _error(errno.ENOTDIR, path)
        return node

    def _parent(self, path: str) -> tuple[_Names, str]:
        parent, name = _split(path)
        return self._directory(parent), name


def _copy_names(names: _Names) -> _Names:
    other = _Names()
    for name, node in names.seen.items():
        if isinstance(node, _Names):
            other.durable[name] = _copy_names(node)
        else:
            data = _Data()
            data.seen = bytearray(node.seen)
            data.durable = bytearray(node.seen)
            other.durable[name] = data
    other.seen = dict(other.durable)
    return other
