"""Snapshots taken, received and installed, with a crash or a failing disk at every step."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest
from tests.storage.test_crash import COINS, At, Crash, coin, never

from raft_io.core.types import (
    HardState,
    LogEntry,
    Membership,
    Snapshot,
    SnapshotData,
    SnapshotMeta,
    data_checksum,
    data_size,
    read_data,
)
from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage import MemoryFileSystem, WalLog

PATH = "/data/node-1/log"
SEGMENT = 2048
MEMBERS = Membership([1, 2], [3])

Saved = tuple[int, int, bytes] | None
State = tuple[Saved, list[LogEntry], HardState]


class Ideal:
    """What the log is to hold, and what may be found if it stops in the middle of the next sync.

    `_start` is what the last sync left, `_kept` how many of its entries nobody has cut off since, `_plain`
    what the entries would be without a snapshot since.
    """

    def __init__(self) -> None:
        self.saved: Saved = None
        self.entries: list[LogEntry] = []
        self.hard_state = HardState()
        self.begin()

    def state(self) -> State:
        return self.saved, list(self.entries), self.hard_state

    def begin(self) -> None:
        """A sync takes over what has changed so far."""
        self._start = self.state()
        self._plain: list[LogEntry] | None = list(self.entries)
        self._kept = len(self.entries)

    @property
    def base(self) -> int:
        return self.saved[0] if self.saved else 0

    @property
    def last(self) -> int:
        return self.base + len(self.entries)

    def append(self, entries: list[LogEntry]) -> None:
        self.entries += entries
        if self._plain is not None:
            self._plain += entries

    def truncate(self, first: int) -> None:
        del self.entries[first - self.base - 1 :]
        if self._plain is not None:
            del self._plain[first - (self._start[0][0] if self._start[0] else 0) - 1 :]
            self._kept = min(self._kept, len(self._plain))

    def save(self, index: int, term: int, data: bytes) -> None:
        at = index - self.base - 1
        if at < len(self.entries) and self.entries[at].term == term:
            del self.entries[: at + 1]
        else:
            self.entries.clear()
            self._plain = None
        self.saved = (index, term, data)

    def outcomes(self) -> list[State]:
        saved, entries, _ = self._start
        if self._plain is None:
            between: list[State] = [(saved, entries[: self._kept], self.hard_state)]
            between.append((self.saved, [], self.hard_state))
        else:
            between = [(saved, list(self._plain), self.hard_state)]
        return [self._start, *between, self.state()]


class Workload:
    """Random changes to a log, some of them while it syncs; `allowed` is what may be found if it stops."""

    def __init__(
        self, seed: int, turns: int, fault: Callable[[str, str], None], tail_bytes: int = 3000
    ) -> None:
        self.rng = random.Random(seed)
        self.tail_bytes = tail_bytes
        self.turns = turns
        self.fault = fault
        self.ideal = Ideal()
        self.term = 1
        self.made = 0
        self.allowed: list[State] = [self.ideal.state()]
        self.meanwhile = False

    def run(self, fs: MemoryFileSystem) -> None:
        fs.fault = self.step
        self.log = WalLog.open(PATH, fs=fs, segment_size=SEGMENT, cache_bytes=0, tail_bytes=self.tail_bytes)
        for _ in range(self.turns):
            for _ in range(self.rng.randrange(4)):
                self.change()
            self.sync()
            assert self.log.hard_state() == self.ideal.hard_state
            assert found_in(self.log) == self.ideal.state()
            self.log._index.check()
        self.sync()
        self.log.close()

    def sync(self) -> None:
        self.allowed = self.ideal.outcomes()
        self.ideal.begin()
        self.meanwhile = self.rng.random() < 0.4
        self.log.sync()
        self.meanwhile = False
        del self.allowed[:-1]

    def step(self, operation: str, path: str) -> None:
        """Before each operation on the disk. Some changes come while a sync is under way."""
        if self.meanwhile and self.rng.random() < 0.3:
            self.meanwhile = False
            self.change()
        self.fault(operation, path)

    def change(self) -> None:
        ideal, rng = self.ideal, self.rng
        kind = rng.randrange(9)
        if kind == 0 and ideal.entries:
            first = rng.randrange(max(ideal.base + 1, ideal.last - 8), ideal.last + 2)
            self.log.truncate(first)
            ideal.truncate(first)
        elif kind == 1:
            self.term += 1
            ideal.hard_state = HardState(self.term, rng.choice([None, 1, 2]))
            self.log.set_hard_state(ideal.hard_state)
        elif kind in (2, 3) and ideal.entries:
            entry = rng.choice(ideal.entries)
            self.save(int(entry.index), int(entry.term))
        elif kind == 4:
            self.term += 1
            self.save(max(ideal.base + 1, ideal.last + rng.randrange(-4, 5)), self.term)
        else:
            new = [self.entry(ideal.last + 1 + at) for at in range(rng.randrange(1, 5))]
            self.log.append(new)
            ideal.append(new)

    def entry(self, index: int) -> LogEntry:
        self.made += 1
        size = self.rng.choice([0, 5, 60, 400, 1400])
        fill = self.rng.choice([b"\0", b"a", b"\xff"])
        return LogEntry(self.term, index, b"%d" % self.made + fill * size)

    def save(self, index: int, term: int) -> None:
        self.made += 1
        data = b"%d" % self.made + self.rng.choice([b"\0", b"s"]) * self.rng.choice([0, 300, 2000])
        self.log.save_snapshot(Snapshot(index, term, MEMBERS, self.staged(index, term, data)))
        self.ideal.save(index, term, data)

    def staged(self, index: int, term: int, data: bytes) -> bytes | SnapshotData:
        way = self.rng.randrange(3)
        if way == 0:
            return data
        if way == 1:
            writer = self.log.snapshot_writer()
            writer.write(data[:100])
            writer.flush()
            writer.write(data[100:])
            return writer.finish()
        meta = SnapshotMeta(index, term, MEMBERS, len(data), data_checksum(data))
        first = min(100, len(data) - 1)
        assert self.log.receive_snapshot(meta, 0, data[:first]) is None
        whole: bytes | SnapshotData | None = self.log.receive_snapshot(meta, first, data[first:])
        assert whole is not None
        return whole


def found_in(log: WalLog) -> State:
    """The state of the log; its parts agree with each other."""
    snapshot = log.snapshot()
    saved: Saved = None
    base = 0
    if snapshot is not None:
        base = int(snapshot.index)
        saved = (base, int(snapshot.term), read_data(snapshot.data, 0, data_size(snapshot.data)))
        assert snapshot.membership == MEMBERS
        assert log.term_at(base) == snapshot.term
    tail = list(log.entries(1, base))
    assert [entry.index for entry in tail] == list(range(base + 1 - len(tail), base + 1))
    entries = list(log.entries(base + 1, log.last_index()))
    assert len(entries) == log.last_index() - base
    return saved, entries, log.hard_state()


def reopened(fs: MemoryFileSystem) -> State:
    with WalLog.open(PATH, fs=fs, segment_size=SEGMENT, cache_bytes=0, tail_bytes=3000) as log:
        return found_in(log)


def goes_on(fs: MemoryFileSystem, found: State) -> None:
    """What is appended behind `found` and synced survives the next power failure."""
    fs.coin = never
    fs.crash()
    assert reopened(fs) == found
    saved, entries, hard_state = found
    with WalLog.open(PATH, fs=fs, segment_size=SEGMENT) as log:
        more = [LogEntry(999, log.last_index() + 1 + at, b"more" * 40) for at in range(3)]
        log.append(more)
        log.sync()
    fs.crash()
    assert reopened(fs) == (saved, entries + more, hard_state)
    assert not [name for name in fs.listdir(PATH) if name.endswith(".tmp")]
    assert len([name for name in fs.listdir(PATH) if name.endswith(".snap")]) == (saved is not None)


def steps_of(seed: int, turns: int) -> list[str]:
    count = At(-1, Crash)
    Workload(seed, turns, count).run(MemoryFileSystem())
    return count.seen


def test_the_workload_does_all_that_is_to_be_tested() -> None:
    seen = [step for seed in range(4) for step in steps_of(seed, 14)]
    for operation in ("unlink", "rename", "sync_dir", "pwrite", "sync", "open"):
        assert seen.count(operation) >= 10, operation


@pytest.mark.parametrize("make_coin", COINS)
@pytest.mark.parametrize("seed", range(3))
def test_a_crash_at_every_step_loses_nothing_synced(
    seed: int, make_coin: Callable[[int], Callable[[], bool]]
) -> None:
    for step in range(len(steps_of(seed, 14))):
        fs = MemoryFileSystem(coin=make_coin(seed * 1000 + step))
        work = Workload(seed, 14, At(step, Crash))
        with pytest.raises(Crash):
            work.run(fs)
        fs.crash()
        fs.fault = At(-1, Crash)
        found = reopened(fs)
        assert found in work.allowed
        goes_on(fs, found)


@pytest.mark.parametrize("tail_bytes", [0, 1000])
def test_a_crash_at_some_step_of_many_histories_loses_nothing_synced(tail_bytes: int) -> None:
    rng = random.Random(tail_bytes)
    for seed in range(100, 300):
        make_coin: Callable[[int], Callable[[], bool]] = COINS[seed % len(COINS)]
        fs = MemoryFileSystem(coin=make_coin(seed))
        work = Workload(seed, 25, At(rng.randrange(100, 400), Crash), tail_bytes)
        try:
            work.run(fs)
        except Crash:
            fs.crash()
        else:
            fs.end_process()
        fs.fault = At(-1, Crash)
        found = reopened(fs)
        assert found in work.allowed
        goes_on(fs, found)


@pytest.mark.parametrize("make_coin", COINS)
def test_a_crash_at_every_step_of_the_opening_changes_nothing(
    make_coin: Callable[[int], Callable[[], bool]],
) -> None:
    for step in range(0, len(steps_of(2, 12)), 3):
        fs = MemoryFileSystem(coin=coin(step))
        work = Workload(2, 12, At(step, Crash))
        with pytest.raises(Crash):
            work.run(fs)
        fs.crash()
        fs.fault = At(-1, Crash)
        expected = reopened(fs.copy())
        probe = fs.copy()
        probe.fault = count = At(-1, Crash)
        reopened(probe)
        for again in range(count.count):
            other = fs.copy()
            other.coin = make_coin(step * 100 + again)
            other.fault = At(again, Crash)
            with pytest.raises(Crash):
                reopened(other)
            other.crash()
            other.fault = At(-1, Crash)
            assert reopened(other) == expected
            goes_on(other, expected)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("make_coin", COINS)
def test_a_failing_disk_at_every_step(make_coin: Callable[[int], Callable[[], bool]], number: int) -> None:
    for step in range(len(steps_of(1, 12))):
        fs = MemoryFileSystem(coin=make_coin(step))
        work = Workload(1, 12, At(step, lambda: OSError(number, "injected")))
        with pytest.raises(StorageError, match="injected") as caught:
            work.run(fs)
        assert not isinstance(caught.value, CorruptLogError)
        fs.end_process()
        fs.fault = At(-1, Crash)
        found = reopened(fs)
        assert found in work.allowed
        goes_on(fs, found)
