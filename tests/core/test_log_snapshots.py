"""The contract of a `RaftLog` about snapshots, run on every backend that keeps some, and what one without
them answers.

To put another backend under the contract, add a factory to `BACKENDS`. How long a tail stays readable behind
a snapshot is the backend's choice: nothing here looks at it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import MEMBERSHIP, TracingLog, entries_of

from raft_io import (
    HardState,
    LogEntry,
    Membership,
    MemoryLog,
    RaftLog,
    Snapshot,
    SnapshotMeta,
    StorageError,
    encode_membership,
)
from raft_io.core.log import check_piece

pytestmark = pytest.mark.core

BACKENDS: list[Callable[[], RaftLog]] = [MemoryLog]

MEMBERS = Membership([1, 2, 3])


@pytest.fixture(params=BACKENDS, ids=lambda factory: factory.__name__)
def log(request: pytest.FixtureRequest) -> RaftLog:
    made: RaftLog = request.param()
    made.append(entries_of([1, 1, 2, 2, 3]))
    made.set_hard_state(HardState(3, 2))
    return made


def snapshot(index: int, term: int, data: bytes = b"state") -> Snapshot:
    return Snapshot(index, term, MEMBERS, data)


def meta(size: int, index: int = 9) -> SnapshotMeta:
    return SnapshotMeta(index, 3, MEMBERS, size, 77)


# Saving one.


def test_there_is_none_at_first(log: RaftLog) -> None:
    assert log.snapshot() is None


def test_the_last_one_is_kept(log: RaftLog) -> None:
    log.save_snapshot(snapshot(2, 1))
    log.save_snapshot(snapshot(4, 2, b"later"))
    log.sync()
    assert log.snapshot() == snapshot(4, 2, b"later")


def test_entries_behind_it_stay(log: RaftLog) -> None:
    log.save_snapshot(snapshot(3, 2))
    assert (log.last_index(), log.last_term()) == (5, 3)
    assert list(log.entries(4, 9)) == entries_of([2, 3], first=4)
    assert [log.term_at(index) for index in (3, 4, 5, 6)] == [2, 2, 3, None]
    assert log.entry(4) == entries_of([2], first=4)[0]


def test_one_at_the_end_leaves_no_entry_behind_it(log: RaftLog) -> None:
    log.save_snapshot(snapshot(5, 3))
    assert (log.last_index(), log.last_term(), log.term_at(5)) == (5, 3, 3)
    assert list(log.entries(6, 9)) == []
    log.append(entries_of([3], first=6))
    assert (log.last_index(), log.term_at(5)) == (6, 3)


@pytest.mark.parametrize("index", [6, 100])
def test_one_beyond_the_last_entry_replaces_the_whole_log(log: RaftLog, index: int) -> None:
    log.save_snapshot(snapshot(index, 4))
    assert (log.last_index(), log.last_term(), log.term_at(index)) == (index, 4, 4)
    for gone in (*range(1, 6), index - 1, index + 1):
        assert log.term_at(gone) is None and log.entry(gone) is None
    assert log.term_at(0) is None
    assert list(log.entries(1, index + 9)) == []


@pytest.mark.parametrize(("index", "term"), [(3, 1), (3, 3), (5, 4), (1, 2)])
def test_one_that_disagrees_with_the_entry_at_its_index_replaces_the_whole_log(
    log: RaftLog, index: int, term: int
) -> None:
    log.save_snapshot(snapshot(index, term))
    assert (log.last_index(), log.last_term(), log.term_at(index)) == (index, term, term)
    assert list(log.entries(1, 9)) == []
    assert log.snapshot() == snapshot(index, term)


def test_the_log_goes_on_behind_it(log: RaftLog) -> None:
    log.save_snapshot(snapshot(20, 4))
    for wrong in (1, 6, 20, 22):
        with pytest.raises(StorageError, match="appending entries"):
            log.append(entries_of([4], first=wrong))
    log.append(entries_of([4, 5], first=21))
    assert (log.last_index(), log.last_term()) == (22, 5)
    assert [log.term_at(index) for index in (19, 20, 21, 22, 23)] == [None, 4, 4, 5, None]
    assert list(log.entries(1, 99)) == entries_of([4, 5], first=21)


@pytest.mark.parametrize("index", [1, 2, 3])
def test_one_that_is_no_later_than_the_last_is_ignored(log: RaftLog, index: int) -> None:
    log.save_snapshot(snapshot(3, 2))
    log.save_snapshot(snapshot(index, 7, b"older"))
    assert log.snapshot() == snapshot(3, 2)
    assert log.last_index() == 5


def test_the_hard_state_is_not_touched(log: RaftLog) -> None:
    log.save_snapshot(snapshot(3, 2))
    log.save_snapshot(snapshot(30, 9))
    assert log.hard_state() == HardState(3, 2)


def test_what_a_snapshot_stands_for_cannot_be_truncated(log: RaftLog) -> None:
    log.save_snapshot(snapshot(3, 2))
    for first in (0, 1, 3):
        with pytest.raises(StorageError, match="truncating the log"):
            log.truncate(first)
    assert log.last_index() == 5
    log.truncate(4)
    assert (log.last_index(), log.last_term()) == (3, 2)
    log.append(entries_of([9], first=4))
    assert log.term_at(4) == 9


# Receiving one.


def test_the_pieces_make_the_whole(log: RaftLog) -> None:
    assert log.receive_snapshot(meta(5), 0, b"st") is None
    assert log.receive_snapshot(meta(5), 2, b"at") is None
    whole = log.receive_snapshot(meta(5), 4, b"e")
    assert whole is not None
    contents = whole if isinstance(whole, bytes) else whole.read(0, 99)
    assert contents == b"state"
    assert log.snapshot() is None, "it is published by save_snapshot"
    log.save_snapshot(Snapshot(9, 3, MEMBERS, whole))
    assert log.last_index() == 9


@pytest.mark.parametrize("data", [b"", b"all of it"])
def test_one_piece_may_be_all_of_it(log: RaftLog, data: bytes) -> None:
    whole = log.receive_snapshot(meta(len(data)), 0, data)
    assert whole is not None
    assert (whole if isinstance(whole, bytes) else whole.read(0, 99)) == data


def test_byte_0_drops_what_was_staged_before(log: RaftLog) -> None:
    log.receive_snapshot(meta(5), 0, b"old")
    assert log.receive_snapshot(meta(4), 0, b"ne") is None
    whole = log.receive_snapshot(meta(4), 2, b"w!")
    assert whole is not None
    assert (whole if isinstance(whole, bytes) else whole.read(0, 99)) == b"new!"


@pytest.mark.parametrize("offset", [1, 3, 4])
def test_pieces_come_in_order(log: RaftLog, offset: int) -> None:
    log.receive_snapshot(meta(9), 0, b"st")
    with pytest.raises(StorageError, match=f"byte 2 expected, got byte {offset}"):
        log.receive_snapshot(meta(9), offset, b"x")


def test_after_the_whole_nothing_is_staged(log: RaftLog) -> None:
    log.receive_snapshot(meta(2), 0, b"ab")
    with pytest.raises(StorageError, match="byte 0 expected, got byte 2"):
        log.receive_snapshot(meta(4), 2, b"cd")


def test_staging_one_changes_nothing_else(log: RaftLog) -> None:
    log.receive_snapshot(meta(9), 0, b"st")
    assert (log.last_index(), log.last_term(), log.hard_state()) == (5, 3, HardState(3, 2))
    log.append(entries_of([3], first=6))
    log.sync()
    assert log.last_index() == 6


@given(st.binary(max_size=60), st.integers(1, 20))
@pytest.mark.parametrize("make", BACKENDS)
def test_pieces_of_any_size_make_the_whole(make: Callable[[], RaftLog], data: bytes, size: int) -> None:
    log = make()
    whole = log.receive_snapshot(meta(len(data)), 0, data[:size])
    for offset in range(size, len(data), size):
        assert whole is None
        whole = log.receive_snapshot(meta(len(data)), offset, data[offset : offset + size])
    assert whole is not None
    assert (whole if isinstance(whole, bytes) else whole.read(0, 99)) == data


# Memberships in the log.


def membership_entry(index: int, *voters: int) -> LogEntry:
    return LogEntry(3, index, encode_membership(Membership(voters)), MEMBERSHIP)


def test_membership_entries_are_those_behind_the_snapshot(log: RaftLog) -> None:
    assert list(log.membership_entries()) == []
    first, second = membership_entry(6, 1, 2), membership_entry(8, 1)
    log.append([first, *entries_of([3], first=7), second])
    assert list(log.membership_entries()) == [first, second]
    log.save_snapshot(snapshot(6, 3))
    assert list(log.membership_entries()) == [second]
    log.truncate(8)
    assert list(log.membership_entries()) == []


def test_the_default_looks_at_every_entry_page_by_page() -> None:
    log = TracingLog([1] * 2500)
    places = (1, 1024, 1025, 2048, 2049, 2500)
    for place in places:
        log.held[place - 1] = membership_entry(place, 1)
    assert [entry.index for entry in log.membership_entries()] == list(places)


# A backend that keeps none.


def test_a_backend_without_snapshots_has_none_and_says_so() -> None:
    log = TracingLog([1, 1])
    assert log.snapshot() is None
    with pytest.raises(StorageError, match="while saving a snapshot: TracingLog keeps no snapshots"):
        log.save_snapshot(snapshot(1, 1))
    with pytest.raises(StorageError, match="while receiving a snapshot: TracingLog keeps no snapshots"):
        log.receive_snapshot(meta(1), 0, b"x")


def test_the_check_that_backends_share() -> None:
    check_piece(0, 0)
    check_piece(7, 7)
    with pytest.raises(StorageError, match="while receiving a snapshot: byte 7 expected, got byte 6"):
        check_piece(6, 7)


# MemoryLog.


def test_memory_log_keeps_no_tail() -> None:
    log = MemoryLog()
    log.append(entries_of([1, 1, 2, 2]))
    log.save_snapshot(snapshot(2, 1))
    assert (len(log), log.is_empty) == (2, False)
    assert log.term_at(0) is None and log.term_at(1) is None
    assert log.entry(2) is None
    log.save_snapshot(snapshot(4, 2))
    assert (len(log), log.is_empty) == (0, True)


@given(first=st.integers(-3, 12), last=st.integers(-3, 12))
def test_memory_log_reads_behind_its_snapshot(first: int, last: int) -> None:
    log = MemoryLog()
    log.append(entries_of([1] * 8))
    log.save_snapshot(snapshot(3, 1))
    assert [entry.index for entry in log.entries(first, last)] == [
        index for index in range(4, 9) if first <= index <= last
    ]
