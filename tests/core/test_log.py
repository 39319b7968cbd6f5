"""The contract of a `RaftLog`, run on every backend, and what `RaftLog` offers those who write one.

To put another backend under the contract, add a factory to `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import TOP, entries_of

from raft_io import EntryKind, HardState, LogEntry, MemoryLog, RaftLog, StorageError
from raft_io.core.log import check_contiguous, check_truncation

pytestmark = pytest.mark.core


class ScannedLog(RaftLog):
    """A backend with nothing but the required methods, on a dict: `entries` is the default's."""

    def __init__(self) -> None:
        self._held: dict[int, LogEntry] = {}
        self._state = HardState()

    def last_index(self) -> int:
        return len(self._held)

    def last_term(self) -> int:
        last = self._held.get(len(self._held))
        return last.term if last else 0

    def term_at(self, index: int) -> int | None:
        if index == 0:
            return 0
        held = self._held.get(index)
        return held.term if held else None

    def entry(self, index: int) -> LogEntry | None:
        return self._held.get(index)

    def append(self, entries: Sequence[LogEntry]) -> None:
        check_contiguous(entries, len(self._held))
        for entry in entries:
            self._held[entry.index] = entry

    def truncate(self, first: int) -> None:
        check_truncation(first)
        for index in range(first, len(self._held) + 1):
            del self._held[index]

    def hard_state(self) -> HardState:
        return self._state

    def set_hard_state(self, state: HardState) -> None:
        self._state = state

    def sync(self) -> None:
        pass


BACKENDS: list[Callable[[], RaftLog]] = [MemoryLog, ScannedLog]


@pytest.fixture(params=BACKENDS, ids=lambda factory: factory.__name__)
def log(request: pytest.FixtureRequest) -> RaftLog:
    made: RaftLog = request.param()
    return made


def test_an_empty_log(log: RaftLog) -> None:
    assert (log.last_index(), log.last_term()) == (0, 0)
    assert log.hard_state() == HardState()
    assert log.entry(1) is None
    assert list(log.entries(1, 10)) == []


def test_index_0_is_the_sentinel_of_term_0(log: RaftLog) -> None:
    assert log.term_at(0) == 0
    assert log.entry(0) is None
    log.append(entries_of([3]))
    assert log.term_at(0) == 0
    assert log.entry(0) is None


def test_what_is_appended_can_be_read(log: RaftLog) -> None:
    made = [*entries_of([1, 1, 2]), LogEntry(2, 4, b"", EntryKind.NOOP)]
    log.append(made[:1])
    log.append(made[1:])
    assert (log.last_index(), log.last_term()) == (4, 2)
    assert [log.term_at(index) for index in range(5)] == [0, 1, 1, 2, 2]
    assert [log.entry(index) for index in range(1, 5)] == made
    assert list(log.entries(1, 4)) == made


def test_outside_the_log_there_is_nothing(log: RaftLog) -> None:
    log.append(entries_of([1, 2]))
    for index in (3, 4, 1000, TOP, -1, -TOP):
        assert log.term_at(index) is None
        assert log.entry(index) is None


@given(first=st.integers(-3, 8), last=st.integers(-3, 8))
@pytest.mark.parametrize("make", BACKENDS)
def test_entries_include_both_ends_as_far_as_they_exist(
    make: Callable[[], RaftLog], first: int, last: int
) -> None:
    log = make()
    log.append(entries_of([1, 1, 2, 2, 3]))
    assert [entry.index for entry in log.entries(first, last)] == [
        index for index in range(1, 6) if first <= index <= last
    ]


@pytest.mark.parametrize(
    "wrong", [[2], [0], [1, 3], [1, 1], [1, 2, 4], [3, 4], [2, 1]], ids=lambda wrong: f"{wrong}"
)
def test_an_append_that_is_not_contiguous_changes_nothing(log: RaftLog, wrong: list[int]) -> None:
    log.append(entries_of([1, 1]))
    with pytest.raises(StorageError, match="appending entries"):
        log.append([LogEntry(2, 2 + index) for index in wrong])
    assert list(log.entries(1, 10)) == entries_of([1, 1])
    log.append(entries_of([2], first=3))
    assert log.last_index() == 3


def test_append_takes_lists_and_tuples_and_nothing(log: RaftLog) -> None:
    log.append([])
    log.append(())
    log.append(tuple(entries_of([1])))
    log.append(entries_of([1], first=2))
    assert log.last_index() == 2


def test_a_log_does_not_follow_the_list_that_was_appended(log: RaftLog) -> None:
    entries = entries_of([1, 1])
    log.append(entries)
    entries.clear()
    assert log.last_index() == 2


def test_truncate_removes_the_entry_and_all_after_it(log: RaftLog) -> None:
    log.append(entries_of([1, 2, 3]))
    log.truncate(2)
    assert (log.last_index(), log.last_term()) == (1, 1)
    assert log.entry(2) is None and log.term_at(2) is None
    assert list(log.entries(1, 5)) == entries_of([1])


def test_a_log_goes_on_after_a_truncation(log: RaftLog) -> None:
    log.append(entries_of([1, 1, 1]))
    log.truncate(2)
    log.append(entries_of([4, 4], first=2))
    assert [log.term_at(index) for index in (1, 2, 3)] == [1, 4, 4]
    assert log.last_term() == 4


def test_truncate_can_empty_the_log(log: RaftLog) -> None:
    log.append(entries_of([1, 2]))
    log.truncate(1)
    assert (log.last_index(), log.last_term()) == (0, 0)


def test_truncate_behind_the_end_removes_nothing(log: RaftLog) -> None:
    log.append(entries_of([1, 2]))
    log.truncate(3)
    log.truncate(TOP)
    assert log.last_index() == 2


@pytest.mark.parametrize("first", [0, -1])
def test_truncate_starts_at_1_at_the_least(log: RaftLog, first: int) -> None:
    log.append(entries_of([1]))
    with pytest.raises(StorageError, match="truncating the log"):
        log.truncate(first)
    assert log.last_index() == 1


def test_the_hard_state_is_the_one_set_last_and_no_truncation_touches_it(log: RaftLog) -> None:
    log.set_hard_state(HardState(1, 2))
    log.set_hard_state(HardState(3, None))
    assert log.hard_state() == HardState(3, None)
    log.append(entries_of([3]))
    log.truncate(1)
    log.sync()
    assert log.hard_state() == HardState(3, None)


def test_sync_and_close_leave_everything_in_place(log: RaftLog) -> None:
    log.append(entries_of([1]))
    log.sync()
    log.sync()
    assert log.last_index() == 1
    log.close()


def test_memory_log_tells_its_length() -> None:
    log = MemoryLog()
    assert len(log) == 0 and log.is_empty
    log.append(entries_of([1, 1]))
    assert len(log) == 2 and not log.is_empty
    log.truncate(1)
    assert len(log) == 0 and log.is_empty


def test_the_checks_that_backends_share() -> None:
    check_contiguous((), 5)
    check_contiguous(entries_of([1, 1], first=6), 5)
    check_contiguous(tuple(entries_of([1, 1], first=6)), 5)
    with pytest.raises(StorageError, match="expected index 7, got 6"):
        check_contiguous(entries_of([1], first=6), 6)
    check_truncation(1)
    with pytest.raises(StorageError, match="must be >= 1, not 0"):
        check_truncation(0)
