"""A transaction that is too much at a time is not carried out at all, and the keys are as they were."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io.kv import records
from raft_io.kv.batch import encode_transaction
from raft_io.kv.commands import transact
from raft_io.kv.keyspace import Keyspace
from raft_io.kv.store import KeyValueStore
from raft_io.kv.strings import MAX_REPLY

TOO_MUCH = (
    b"-EXECABORT Transaction discarded because its replies and its work are more than 64 MiB; "
    b"nothing was done\r\n"
)
MEBIBYTE = 1024 * 1024
CLEARED = [[b"FLUSHDB"]] * 2 + [[b"SET", b"filler", b""], [b"FLUSHDB"]] * 2 + [[b"FLUSHDB"]] * 70
"""More work than a batch may be."""

NAMES = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
COMMANDS = st.one_of(
    st.tuples(st.just(b"SET"), NAMES, st.binary(max_size=3)),
    st.tuples(st.just(b"SET"), NAMES, st.just(b"x"), st.just(b"PX"), st.sampled_from([b"1", b"50", b"90"])),
    st.tuples(st.just(b"PEXPIRE"), NAMES, st.sampled_from([b"0", b"30", b"70"])),
    st.tuples(st.just(b"PERSIST"), NAMES),
    st.tuples(st.just(b"DEL"), NAMES),
    st.tuples(st.just(b"INCR"), NAMES),
    st.tuples(st.just(b"FLUSHDB")),
).map(list)


def state(space: Keyspace) -> list[object]:
    """All that can be seen of the keys, and what is kept beside them."""
    kept = sorted([item for slot in space._slots for item in slot.items()])
    timers = [space.expiring(), space.next_expiry(), space.past()]
    return [kept, timers, space.count, len(space), space.behind, len(space._garbage)]


def test_a_transaction_with_too_long_replies_leaves_no_write_behind() -> None:
    store = KeyValueStore()
    space = store._keys
    space.put(b"from", b"100")
    space.put(b"big", b"x" * 1_000_000)
    transfer = [[b"DECRBY", b"from", b"100"], *[[b"GET", b"big"]] * 70, [b"INCRBY", b"to", b"100"]]
    assert store.apply(encode_transaction(transfer, [], 2)) == TOO_MUCH
    assert store.query([[b"GET", b"from"], [b"EXISTS", b"to"]], 2) == b"$3\r\n100\r\n:0\r\n"


def test_a_transaction_that_just_fits_is_carried_out() -> None:
    space = Keyspace()
    space.put(b"big", b"x" * (MAX_REPLY // 2))
    reply = transact(space, [[b"SET", b"a", b"1"], [b"GET", b"big"], [b"SET", b"b", b"1"]], [], 2)
    assert reply.startswith(b"*3\r\n+OK\r\n$")
    assert reply.endswith(b"\r\n+OK\r\n")
    assert (space.get(b"a"), space.get(b"b")) == (b"1", b"1")


def test_work_that_replies_do_not_show_counts_too() -> None:
    space = Keyspace()
    space.put(b"a", b"x" * MEBIBYTE)
    assert transact(space, [[b"APPEND", b"a", b"z"]] * 100, [], 2) == TOO_MUCH
    assert space.get(b"a") == b"x" * MEBIBYTE


@given(st.lists(COMMANDS, max_size=12), st.lists(COMMANDS, max_size=12), st.sampled_from([0, 60]))
def test_everything_is_as_it_was(before: list[list[bytes]], inside: list[list[bytes]], passed: int) -> None:
    space = Keyspace()
    space.advance(1000)
    transact(space, before, [], 2)
    space.now += passed  # without removing what is past its time
    expected = state(space)
    assert transact(space, [*inside, *CLEARED, *inside], [], 2) == TOO_MUCH
    assert state(space) == expected
    space.advance(2000)
    assert all(record is not None for record in [space.find(key) for key in space.names()])


@pytest.mark.parametrize("cleared", [False, True])
def test_a_snapshot_that_is_being_written_meanwhile_holds_what_was_there(cleared: bool) -> None:
    space = Keyspace()
    for number in range(100):
        space.put(b"%d" % number, b"old", 5000 if number % 2 else 0)
    capture = space.capture()
    taken = capture.take()
    half = list(islice(taken, 50))
    commands = [[b"SET", b"%d" % number, b"new"] for number in range(0, 200, 3)]
    commands += (
        CLEARED if cleared else [[b"SET", b"big", b"x" * MEBIBYTE], *[[b"APPEND", b"big", b"y"]] * 100]
    )
    assert transact(space, commands, [], 2) == TOO_MUCH
    # What is changed after the transaction was taken back is not in the snapshot either.
    for number in range(200):
        space.put(b"%d" % number, b"newer")
    found = dict([item for slot in (*half, *taken) for item in slot])
    assert sorted(found) == sorted([b"%d" % number for number in range(100)])
    assert {records.value(record) for record in found.values()} == {b"old"}


def test_a_watched_key_is_never_taken_for_unchanged_after_it_was() -> None:
    space = Keyspace()
    space.put(b"a", b"1")
    since = space.revision
    assert transact(space, [[b"DEL", b"a"], *CLEARED], [], 2) == TOO_MUCH
    assert not space.changed(b"a", since)
    space.put(b"a", b"2")
    assert space.changed(b"a", since)
    space.remove(b"a")
    assert space.changed(b"a", since)
