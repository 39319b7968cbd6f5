"""A simulated disk with faults that are armed: it fails, fills up, hangs, loses power between two steps,
rots."""

from __future__ import annotations

import errno
import os
import random
from typing import Final, final

from raft_io.storage.inspect import walk
from raft_io.storage.items import RecordInfo, SnapshotInfo
from raft_io.storage.memfs import MemoryFileSystem

__all__ = ["Disk", "SuddenEndError"]

WRITES: Final = frozenset({"pwrite", "sync", "sync_dir", "allocate", "rename", "unlink", "mkdir"})
"""Operations that change something: those that fail, and between which the power does."""


class SuddenEndError(BaseException):
    """The power fails in the middle of what a node does, or (`power` is false) its process is killed. No
    handler of errors may stop it."""

    def __init__(self, *, power: bool) -> None:
        super().__init__(power)
        self.power = power


@final
class Disk:
    """The disk of one node. `fs` is what the node sees of it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.fs = MemoryFileSystem(coin=self._coin, fault=self._fault)
        self.fails: int = 0
        """The `errno` with which every write fails; `0`: none."""
        self._left: int = -1
        """Writes that are still carried out before the end; negative: it does not come."""
        self._power = True
        """Whether it is the power that fails then."""
        self._next: int = -1
        """Writes that the next process carries out before the power fails; negative: it does not."""
        self.delay: float = 0.0
        """Seconds by which a sync takes longer than usual; infinite: it hangs."""
        self._keeps = 0.5

    def _coin(self) -> bool:
        return self._rng.random() < self._keeps

    def _fault(self, operation: str, path: str) -> None:
        if operation not in WRITES:
            return
        if self._left >= 0:
            if self._left == 0:
                raise SuddenEndError(power=self._power)
            self._left -= 1
        # A full disk still makes durable what is on it, and gives room back.
        if self.fails and (self.fails != errno.ENOSPC or operation in ("pwrite", "allocate", "mkdir")):
            raise OSError(self.fails, os.strerror(self.fails), path)

    def lose_power_after(self, writes: int) -> None:
        """Let the power fail when so many more writes were carried out."""
        self._left, self._power, self._next = writes, True, -1

    def kill_after(self, writes: int, then: int) -> None:
        """Let the process be killed when so many more writes were carried out, and the power fail after
        `then` writes of the next one: what the first wrote and did not sync is there in between."""
        self._left, self._power, self._next = writes, False, then

    def calm(self) -> None:
        """No fault is armed any more."""
        self.fails = 0
        self._left = self._next = -1
        self.delay = 0.0

    def lose_power(self) -> None:
        """What was not synced is lost, torn, or there after all, sector by sector."""
        self._left = self._next = -1
        # All of it, none of it and a bit of everything are all likely: each finds other bugs.
        self._keeps = self._rng.choice((0.0, 0.5, 0.5, 0.9, 1.0))
        self.fs.crash()

    def end_process(self) -> None:
        """The process is killed; what it wrote is still there."""
        self._left, self._power, self._next = self._next, True, -1
        self.fs.end_process()

    def wipe(self) -> None:
        """Everything is gone: the disk was replaced."""
        self.fs = MemoryFileSystem(coin=self._coin, fault=self._fault)

    def rot(self, path: str, offset: int) -> None:
        """Turn one bit of a file that is there, as it is read from now on and as it is durable."""
        self.fs.rot(path, offset, self._rng.randrange(8))

    def old_places(self, log: str) -> list[tuple[str, int, int]]:
        """Where damage must be found: the snapshots, and all records but the last one, which may look torn.
        Path, offset and size."""
        found: list[tuple[str, int, int]] = []
        records: list[tuple[str, int, int]] = []
        for item in walk(log, self.fs):
            if isinstance(item, SnapshotInfo):
                found.append((item.path, 0, item.size))
            elif isinstance(item, RecordInfo):
                records.append((item.path, item.offset, item.size))
        return found + records[:-1]
