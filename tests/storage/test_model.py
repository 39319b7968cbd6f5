"""`WalLog` does what `MemoryLog` does, and forgets on a crash just what was not synced."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raft_io.core.log import MemoryLog, RaftLog
from raft_io.core.types import (
    EntryKind,
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
from raft_io.storage import MemoryFileSystem, WalLog

PATH = "/log"

commands = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda size, tail: bytes(size) + tail, st.integers(0, 1500), st.binary(max_size=2)),
)
contents = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda size, byte: bytes([byte]) * size, st.integers(0, 150_000), st.integers(0, 255)),
)
ways = st.sampled_from(["bytes", "written", "received"])


def copied(log: RaftLog) -> MemoryLog:
    other = MemoryLog()
    snapshot = log.snapshot()
    if snapshot is not None:
        other.save_snapshot(snapshot)
    other.append(list(log.entries(other.last_index() + 1, log.last_index())))
    other.set_hard_state(log.hard_state())
    return other


def described(snapshot: Snapshot | None) -> tuple[int, int, Membership, bytes] | None:
    if snapshot is None:
        return None
    data = read_data(snapshot.data, 0, data_size(snapshot.data))
    return snapshot.index, snapshot.term, snapshot.membership, data


class WalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.fs = MemoryFileSystem()
        self.model = MemoryLog()
        self.synced = MemoryLog()
        self.history: dict[int, LogEntry] = {}
        self.segment_size = 1024
        self.cache_bytes = 0
        self.tail_bytes = 0
        self.log = self.opened()

    @initialize(
        segment_size=st.sampled_from([1024, 1536, 4096]),
        cache_bytes=st.sampled_from([0, 1000, 1 << 20]),
        tail_bytes=st.sampled_from([0, 2000, 1 << 20]),
    )
    def options(self, segment_size: int, cache_bytes: int, tail_bytes: int) -> None:
        self.log.close()
        self.fs = MemoryFileSystem()
        self.segment_size = segment_size
        self.cache_bytes = cache_bytes
        self.tail_bytes = tail_bytes
        self.log = self.opened()

    def opened(self) -> WalLog:
        return WalLog.open(
            PATH,
            fs=self.fs,
            segment_size=self.segment_size,
            cache_bytes=self.cache_bytes,
            tail_bytes=self.tail_bytes,
        )

    def base(self) -> int:
        snapshot = self.model.snapshot()
        return 0 if snapshot is None else int(snapshot.index)

    @rule(
        new=st.lists(
            st.tuples(st.integers(0, 3), commands, st.sampled_from(list(EntryKind))), min_size=0, max_size=6
        )
    )
    def append(self, new: list[tuple[int, bytes, EntryKind]]) -> None:
        first = self.model.last_index() + 1
        entries = [
            LogEntry(self.model.last_term() + by, first + at, command, kind)
            for at, (by, command, kind) in enumerate(new)
        ]
        self.log.append(entries)
        self.model.append(entries)
        self.history.update({int(entry.index): entry for entry in entries})

    @rule(back=st.integers(-2, 12))
    def truncate(self, back: int) -> None:
        first = max(self.base() + 1, self.model.last_index() + 1 - back)
        self.log.truncate(first)
        self.model.truncate(first)

    @rule(term=st.integers(0, 2**63 - 1), vote=st.none() | st.integers(0, 2**63 - 1))
    def set_hard_state(self, term: int, vote: int | None) -> None:
        self.log.set_hard_state(HardState(term, vote))
        self.model.set_hard_state(HardState(term, vote))

    @precondition(lambda self: self.model.last_index() > self.base())
    @rule(back=st.integers(0, 12), voters=st.sets(st.integers(1, 5), min_size=1), data=contents, way=ways)
    def compact(self, back: int, voters: set[int], data: bytes, way: str) -> None:
        index = max(self.base() + 1, self.model.last_index() - back)
        term = self.model.term_at(index)
        assert term is not None
        self.save(index, term, Membership(voters), data, way)

    @rule(ahead=st.integers(-6, 6), by=st.integers(1, 3), data=contents, way=ways)
    def replace(self, ahead: int, by: int, data: bytes, way: str) -> None:
        """A snapshot beyond the last entry, or of another term than the entry there."""
        index = max(self.base() + 1, self.model.last_index() + ahead)
        self.save(index, self.model.last_term() + by, Membership([1, 2], [3]), data, way)

    @rule(back=st.integers(0, 5), data=contents, way=ways)
    def stale(self, back: int, data: bytes, way: str) -> None:
        """One that is no later than the last is ignored."""
        if self.base():
            self.save(max(1, self.base() - back), 1, Membership([9]), data, way)

    def save(self, index: int, term: int, membership: Membership, data: bytes, way: str) -> None:
        self.log.save_snapshot(
            Snapshot(index, term, membership, self.staged(index, term, membership, data, way))
        )
        self.model.save_snapshot(Snapshot(index, term, membership, data))
        assert described(self.log.snapshot()) == described(self.model.snapshot())

    def staged(
        self, index: int, term: int, membership: Membership, data: bytes, way: str
    ) -> bytes | SnapshotData:
        if way == "bytes":
            return data
        if way == "written":
            with self.log.snapshot_writer() as writer:
                for at in range(0, len(data), 50_000):
                    writer.write(data[at : at + 50_000])
                return writer.finish()
        meta = SnapshotMeta(index, term, membership, len(data), data_checksum(data))
        half = len(data) // 2
        if half:
            assert self.log.receive_snapshot(meta, 0, b"?") is None
            assert self.log.receive_snapshot(meta, 0, data[:half]) is None
        whole: bytes | SnapshotData | None = self.log.receive_snapshot(meta, half, data[half:])
        assert whole is not None
        return whole

    @rule()
    def sync(self) -> None:
        self.log.sync()
        self.synced = copied(self.model)

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        if power:
            self.fs.crash()
        else:
            self.fs.end_process()
        self.log = self.opened()
        self.model = copied(self.synced)

    @rule(first=st.integers(-1, 30), count=st.integers(0, 10))
    def read(self, first: int, count: int) -> None:
        last = first + count
        found = [entry for entry in self.log.entries(first, last) if entry.index > self.base()]
        assert found == list(self.model.entries(first, last))

    @invariant()
    def agrees(self) -> None:
        self.log._index.check()
        assert self.log.last_index() == self.model.last_index()
        assert self.log.last_term() == self.model.last_term()
        assert self.log.hard_state() == self.model.hard_state()
        assert described(self.log.snapshot()) == described(self.model.snapshot())
        assert list(self.log.membership_entries()) == list(self.model.membership_entries())
        base = self.base()
        for index in [-1, *range(base, self.model.last_index() + 2)]:
            assert self.log.term_at(index) == self.model.term_at(index)
        for index in [-1, 0, *range(base + 1, self.model.last_index() + 2)]:
            assert self.log.entry(index) == self.model.entry(index)

    @invariant()
    def has_a_readable_tail_without_a_gap(self) -> None:
        tail = list(self.log.entries(0, self.base()))
        if tail:
            assert [entry.index for entry in tail] == list(range(int(tail[0].index), self.base() + 1))
            assert [self.log.term_at(entry.index) for entry in tail] == [entry.term for entry in tail]


TestWal = WalMachine.TestCase
TestWal.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
