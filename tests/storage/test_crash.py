"""Crashes and failing disks at every step, on a simulated disk."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from raft_io.core.types import HardState, LogEntry
from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage import MemoryFileSystem, WalLog

PATH = "/data/node-1/log"
SEGMENT = 2048

State = tuple[list[LogEntry], HardState]


class Crash(BaseException):
    """The process ends here."""


class At:
    """Raises at the operation with a given number, counted from zero."""

    def __init__(self, step: int, error: Callable[[], BaseException]) -> None:
        self.step = step
        self.error = error
        self.seen: list[str] = []

    @property
    def count(self) -> int:
        return len(self.seen)

    def __call__(self, operation: str, path: str) -> None:
        self.seen.append(operation)
        if len(self.seen) == self.step + 1:
            raise self.error()


def never() -> bool:
    return False


def always() -> bool:
    return True


def coin(seed: int) -> Callable[[], bool]:
    rng = random.Random(seed)
    return lambda: rng.random() < 0.6


COINS = [lambda seed: never, lambda seed: always, coin, lambda seed: coin(seed + 10_000)]


class Workload:
    """Random changes to a log, and what the log may hold if it stops: `allowed`."""

    def __init__(self, seed: int, turns: int) -> None:
        self.rng = random.Random(seed)
        self.turns = turns
        self.entries: list[LogEntry] = []
        self.hard_state = HardState()
        self.allowed: list[State] = [([], HardState())]

    def now(self) -> State:
        return list(self.entries), self.hard_state

    def run(self, fs: MemoryFileSystem) -> None:
        log = WalLog.open(PATH, fs=fs, segment_size=SEGMENT, cache_bytes=0)
        for _ in range(self.turns):
            for _ in range(self.rng.randrange(4)):
                self.change(log)
            self.allowed.append(self.now())
            log.sync()
            del self.allowed[:-1]
            assert list(log.entries(1, log.last_index())) == self.entries
        log.close()

    def change(self, log: WalLog) -> None:
        kind = self.rng.randrange(6)
        if kind == 0 and self.entries:
            first = self.rng.randrange(max(1, len(self.entries) - 8), len(self.entries) + 2)
            log.truncate(first)
            del self.entries[first - 1 :]
        elif kind == 1:
            self.hard_state = HardState(self.hard_state.term + 1, self.rng.choice([None, 1, 2]))
            log.set_hard_state(self.hard_state)
        else:
            new = [self.entry(len(self.entries) + 1 + at) for at in range(self.rng.randrange(1, 5))]
            log.append(new)
            self.entries += new

    def entry(self, index: int) -> LogEntry:
        size = self.rng.choice([0, 5, 60, 400, 1400])
        fill = self.rng.choice([b"\0", b"a", b"\xff"])
        return LogEntry(int(self.hard_state.term), index, fill * size)


def reopened(fs: MemoryFileSystem) -> State:
    with WalLog.open(PATH, fs=fs, segment_size=SEGMENT, cache_bytes=0) as log:
        return list(log.entries(1, log.last_index())), log.hard_state()


def steps_of(seed: int, turns: int) -> int:
    count = At(-1, Crash)
    Workload(seed, turns).run(MemoryFileSystem(fault=count))
    return count.count


@pytest.mark.parametrize("make_coin", COINS)
@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_every_step_loses_nothing_synced(
    seed: int, make_coin: Callable[[int], Callable[[], bool]]
) -> None:
    steps = steps_of(seed, 14)
    for step in range(steps):
        fs = MemoryFileSystem(coin=make_coin(seed * 1000 + step), fault=At(step, Crash))
        work = Workload(seed, 14)
        with pytest.raises(Crash):
            work.run(fs)
        fs.crash()
        fs.fault = At(-1, Crash)
        found = reopened(fs)
        assert found in work.allowed
        fs.coin = never
        fs.crash()
        assert reopened(fs) == found


@pytest.mark.parametrize("make_coin", COINS)
def test_a_crash_at_every_step_of_the_repair_changes_nothing(
    make_coin: Callable[[int], Callable[[], bool]],
) -> None:
    torn = 0
    for step in range(steps_of(3, 7)):
        fs = MemoryFileSystem(coin=coin(step), fault=At(step, Crash))
        work = Workload(3, 7)
        with pytest.raises(Crash):
            work.run(fs)
        fs.crash()
        fs.fault = At(-1, Crash)
        expected = reopened(fs.copy())
        count = At(-1, Crash)
        probe = fs.copy()
        probe.fault = count
        reopened(probe)
        torn += count.seen.count("sync") == 2
        for again in range(count.count):
            other = fs.copy()
            other.coin = make_coin(step * 100 + again)
            other.fault = At(again, Crash)
            with pytest.raises(Crash):
                reopened(other)
            other.crash()
            other.fault = At(-1, Crash)
            assert reopened(other) == expected
            with WalLog.open(PATH, fs=other, segment_size=SEGMENT) as log:
                more = [LogEntry(77, log.last_index() + 1, b"more" * 40)]
                log.append(more)
                log.sync()
            other.coin = never
            other.crash()
            assert reopened(other) == (expected[0] + more, expected[1])
    assert torn >= 2


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("make_coin", COINS)
@pytest.mark.parametrize("seed", range(2))
def test_a_failing_disk_at_every_step(
    seed: int, make_coin: Callable[[int], Callable[[], bool]], number: int
) -> None:
    for step in range(steps_of(seed, 12)):
        fs = MemoryFileSystem(coin=make_coin(step), fault=At(step, lambda: OSError(number, "injected")))
        work = Workload(seed, 12)
        with pytest.raises(StorageError, match="injected") as caught:
            work.run(fs)
        assert not isinstance(caught.value, CorruptLogError)
        fs.end_process()
        found = reopened(fs)
        assert found in work.allowed
        fs.coin = never
        fs.crash()
        assert reopened(fs) == found


def test_a_segment_whose_name_was_not_yet_durable_is_once_it_is_used() -> None:
    fs = MemoryFileSystem()
    log = WalLog.open(PATH, fs=fs, segment_size=1024)
    log.append([LogEntry(1, 1, b"x" * 400)])
    log.sync()

    def fault(operation: str, path: str) -> None:
        if operation == "sync_dir":
            raise Crash

    fs.fault = fault
    log.append([LogEntry(1, 2, b"y" * 400)])
    with pytest.raises(Crash):
        log.sync()
    fs.fault = At(-1, Crash)
    fs.end_process()
    with WalLog.open(PATH, fs=fs, segment_size=1024) as log:
        assert log.last_index() == 1
        log.append([LogEntry(1, 2, b"z" * 400)])
        log.sync()
    fs.crash()
    assert [entry.command[:1] for entry in reopened(fs)[0]] == [b"x", b"z"]


def test_what_a_failed_sync_left_in_memory_is_durable_once_reported() -> None:
    """A system that takes pages for written after a failed sync leaves them out of the next one."""
    fs = MemoryFileSystem()
    log = WalLog.open(PATH, fs=fs)
    log.append([LogEntry(1, 1, b"x" * 2000)])

    def fault(operation: str, path: str) -> None:
        if operation == "sync":
            raise OSError(errno.EIO, "injected")

    fs.fault = fault
    with pytest.raises(StorageError, match="injected"):
        log.sync()
    fs.fault = lambda operation, path: None
    fs.end_process()
    found = reopened(fs)
    assert len(found[0]) == 1
    fs.crash()
    assert reopened(fs) == found


def test_the_directory_itself_is_durable_once_open_returns() -> None:
    fs = MemoryFileSystem()
    WalLog.open(PATH, fs=fs)
    fs.crash()
    assert [name for name in fs.listdir(PATH) if name.endswith(".wal")] == ["0000000000000001.wal"]


def test_without_preallocation_zeros_are_written() -> None:
    def fault(operation: str, path: str) -> None:
        if operation == "allocate":
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    fs = MemoryFileSystem(fault=fault)
    log = WalLog.open(PATH, fs=fs, segment_size=SEGMENT)
    assert fs.open(f"{PATH}/0000000000000001.wal").size() == SEGMENT
    log.append([LogEntry(1, 1, b"x")])
    log.sync()
    fs.crash()
    assert reopened(fs) == ([LogEntry(1, 1, b"x")], HardState())
