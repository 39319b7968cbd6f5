"""The first start of a node, cut short at every step: the next one begins again, or goes on."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raft_io import IdentityError, LogEntry, RaftConfig, StorageError
from raft_io.server.recovery import Recovered, recover
from raft_io.storage import MemoryFileSystem

DATA = Path("/srv/data")


def start(fs: MemoryFileSystem) -> Recovered:
    return recover(fs, DATA, "red", RaftConfig(1, [2, 3]))


class Crash(BaseException):
    """The power fails."""


@pytest.mark.parametrize("keep", [False, True], ids=["lost", "kept"])
def test_after_a_crash_at_any_step_the_node_starts(keep: bool) -> None:
    step = 0
    whole = False
    while not whole:
        left = step

        def fault(operation: str, path: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash

        fs = MemoryFileSystem(coin=lambda: keep, fault=fault)
        try:
            start(fs)
            whole = True
        except Crash:
            step += 1
        fs.crash()
        fs.fault = lambda operation, path: None
        found = start(fs)
        found.log.append([LogEntry(1, 1, b"x")])
        found.log.sync()
        found.log.close()
        assert start(fs).identity == found.identity
    assert step > 10


@pytest.mark.parametrize("operation", ["allocate", "pwrite", "sync", "rename"])
@pytest.mark.parametrize("what", [".wal", "identity"])
def test_a_node_that_could_not_write_at_first_starts_later(operation: str, what: str) -> None:
    def fault(seen: str, path: str) -> None:
        if seen == operation and what in path:
            raise OSError(errno.ENOSPC, "No space left on device")

    fs = MemoryFileSystem(fault=fault)
    if (operation, what) != ("allocate", "identity"):
        with pytest.raises(StorageError, match="No space left"):
            start(fs)
        assert "identity.json" not in fs.listdir(str(DATA))
    fs.fault = lambda operation, path: None
    assert start(fs).log.last_index() == 0


def test_a_log_that_was_written_is_missed_whatever_is_left_of_it() -> None:
    fs = MemoryFileSystem()
    start(fs).log.close()
    fs.unlink(f"{DATA}/log/0000000000000001.wal")
    with pytest.raises(IdentityError, match=r"has an identity\.json but no log"):
        start(fs)
