"""The keys, and the order in which SCAN visits them."""

from __future__ import annotations

from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from raft_io.kv import records
from raft_io.kv.keyspace import Keyspace

KEYS = st.sets(st.binary(max_size=4), max_size=60)

# Two strings with the same CRC-32.
COLLIDING = [b"plumless", b"buckeroo"]


def scanned(keys: Keyspace, count: int) -> list[list[bytes]]:
    """What each call of a whole iteration returns."""
    calls: list[list[bytes]] = []
    cursor = 0
    while True:
        cursor, found = keys.scan(cursor, count)
        calls.append(found)
        if cursor == 0:
            return calls


def filled(keys: set[bytes]) -> Keyspace:
    space = Keyspace()
    for key in keys:
        space.put(key, b"")
    return space


def test_an_empty_keyspace_is_scanned_in_one_call() -> None:
    assert scanned(Keyspace(), 10) == [[]]


def test_a_cursor_beyond_the_end_finds_nothing() -> None:
    space = filled({b"a"})
    assert space.scan(1 << 32, 10) == (0, [])
    assert space.scan(10**20, 10) == (0, [])


@given(KEYS, st.integers(1, 70))
def test_a_scan_returns_every_key_once_in_calls_of_the_size_asked_for(keys: set[bytes], count: int) -> None:
    calls = scanned(filled(keys), count)
    flat = [key for call in calls for key in call]
    assert sorted(flat) == sorted(keys)
    assert [crc32(key) for key in flat] == sorted([crc32(key) for key in flat])
    assert all(len(call) == count for call in calls[:-1])


def test_keys_that_share_a_place_are_returned_together() -> None:
    assert crc32(COLLIDING[0]) == crc32(COLLIDING[1])
    space = filled({*COLLIDING, b"a", b"b"})
    assert sorted([len(call) for call in scanned(space, 1)]) == [1, 1, 2]


def test_a_cursor_in_the_middle_of_a_slot() -> None:
    slots: dict[int, list[bytes]] = {}
    for number in range(5000):
        key = b"%d" % number
        slots.setdefault(crc32(key) >> 18, []).append(key)
    keys = max(slots.values(), key=len)
    assert len(keys) > 2
    assert scanned(filled(set(keys)), 1) == [[key] for key in sorted(keys, key=crc32)]


@given(KEYS, st.lists(st.tuples(st.booleans(), st.binary(max_size=4)), max_size=60), st.integers(1, 7))
def test_a_key_that_stays_is_returned_whatever_comes_and_goes(
    keys: set[bytes], changes: list[tuple[bool, bytes]], count: int
) -> None:
    space = filled(keys)
    staying = {key for key in keys if len(key) < 3}
    seen: list[bytes] = []
    cursor = 0
    while True:
        cursor, found = space.scan(cursor, count)
        seen += found
        if cursor == 0:
            break
        for _ in range(min(3, len(changes))):
            adding, key = changes.pop()
            if adding:
                space.put(key, b"")
            elif key not in staying:
                space.remove(key)
    assert staying <= set(seen)
    for key in staying:
        assert seen.count(key) == 1


@given(KEYS, st.integers(1, 7))
def test_a_cursor_holds_at_another_node_whatever_the_order_of_insertion(keys: set[bytes], count: int) -> None:
    one = filled(keys)
    other = Keyspace()
    for key in sorted(keys, reverse=True):
        other.put(key, b"")
    assert scanned(one, count) == scanned(other, count)


def removed(space: Keyspace, key: bytes) -> bytes:
    record = space.remove(key)
    assert record is not None
    return records.value(record)


def test_put_remove_clear() -> None:
    space = Keyspace()
    space.put(b"a", b"1")
    space.put(b"a", b"2")
    assert space.get(b"a") == b"2" and len(space) == 1
    assert scanned(space, 10) == [[b"a"]]
    assert space.remove(b"b") is None
    assert removed(space, b"a") == b"2"
    assert space.remove(b"a") is None
    assert scanned(space, 10) == [[]]
    space.put(b"a", b"")
    assert removed(space, b"a") == b""
    space.put(b"a", b"1")
    space.clear()
    assert len(space) == 0
    assert scanned(space, 10) == [[]]
