"""When absent keys were removed: never missed, and rarely taken for another's removal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raft_io.kv.removals import MAX_BYTES, MAX_KEYS, Removals


def filled(count: int) -> Removals:
    removals = Removals()
    for revision in range(1, count + 1):
        removals.note(b"%d" % revision, revision)
    return removals


def test_no_removal_is_missed_however_long_ago() -> None:
    count = 5 * MAX_KEYS
    removals = filled(count)
    for revision in range(1, count + 1, 97):
        assert removals.last(b"%d" % revision) >= revision


def test_of_recent_removals_the_key_is_known() -> None:
    removals = filled(MAX_KEYS + 10)
    assert removals.last(b"none") == 0
    for revision in range(12, MAX_KEYS + 10, 97):
        assert removals.last(b"%d" % revision) == revision


def test_older_removals_are_known_by_slot() -> None:
    removals = filled(4 * MAX_KEYS)
    known = sum(removals.last(b"other%d" % number) > 0 for number in range(1000))
    assert 0 < known < 900
    assert len(removals.young) + len(removals.old) <= 2 * MAX_KEYS


def test_memory_is_bounded_in_bytes_too() -> None:
    removals = Removals()
    for revision in range(1, 100):
        removals.note(b"%d" % revision + bytes(MAX_BYTES // 3), revision)
        kept = sum(len(key) for key in (*removals.young, *removals.old))
        assert kept <= 3 * MAX_BYTES
    for revision in range(100, 10_000):
        removals.note(b"same" * 1000, revision)
    assert removals.last(b"same" * 1000) == 9999


def test_when_everything_went_every_key_did() -> None:
    removals = filled(3)
    removals.clear(7)
    assert removals.last(b"1") == removals.last(b"none") == 7
    removals.note(b"1", 8)
    assert (removals.last(b"1"), removals.last(b"none")) == (8, 7)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_a_copy_goes_its_own_way(numbers: list[int]) -> None:
    one = filled(3)
    other = one.copy()
    for revision, number in enumerate(numbers, 10):
        one.note(b"%d" % number, revision)
    assert [other.last(b"%d" % number) for number in range(5)] == [0, 1, 2, 3, 0]
