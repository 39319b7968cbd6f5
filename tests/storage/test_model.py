"""`WalLog` does what `MemoryLog` does, and forgets on a crash just what was not synced."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raft_io.core.log import MemoryLog, RaftLog
from raft_io.core.types import EntryKind, HardState, LogEntry
from raft_io.storage import MemoryFileSystem, WalLog

PATH = "/log"

commands = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda size, tail: bytes(size) + tail, st.integers(0, 1500), st.binary(max_size=2)),
)


def copied(log: RaftLog) -> MemoryLog:
    other = MemoryLog()
    other.append(list(log.entries(1, log.last_index())))
    other.set_hard_state(log.hard_state())
    return other


class WalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.fs = MemoryFileSystem()
        self.model = MemoryLog()
        self.synced = MemoryLog()
        self.segment_size = 1024
        self.cache_bytes = 0
        self.log = self.opened()

    @initialize(
        segment_size=st.sampled_from([1024, 1536, 4096]), cache_bytes=st.sampled_from([0, 1000, 1 << 20])
    )
    def options(self, segment_size: int, cache_bytes: int) -> None:
        self.log.close()
        self.fs = MemoryFileSystem()
        self.segment_size = segment_size
        self.cache_bytes = cache_bytes
        self.log = self.opened()

    def opened(self) -> WalLog:
        return WalLog.open(PATH, fs=self.fs, segment_size=self.segment_size, cache_bytes=self.cache_bytes)

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

    @rule(back=st.integers(-2, 12))
    def truncate(self, back: int) -> None:
        first = max(1, self.model.last_index() + 1 - back)
        self.log.truncate(first)
        self.model.truncate(first)

    @rule(term=st.integers(0, 2**63 - 1), vote=st.none() | st.integers(0, 2**63 - 1))
    def set_hard_state(self, term: int, vote: int | None) -> None:
        self.log.set_hard_state(HardState(term, vote))
        self.model.set_hard_state(HardState(term, vote))

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
        assert list(self.log.entries(first, last)) == list(self.model.entries(first, last))

    @invariant()
    def agrees(self) -> None:
        assert self.log.last_index() == self.model.last_index()
        assert self.log.last_term() == self.model.last_term()
        assert self.log.hard_state() == self.model.hard_state()
        for index in range(-1, self.model.last_index() + 2):
            assert self.log.term_at(index) == self.model.term_at(index)
            assert self.log.entry(index) == self.model.entry(index)


TestWal = WalMachine.TestCase
TestWal.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
