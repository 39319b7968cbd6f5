"""The key-value state machine: batches in, replies out, and its state saved and restored."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast
from unittest import mock
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io.errors import CommandError, StorageError
from raft_io.kv import keyspace
from raft_io.kv.batch import encode_batch, encode_transaction
from raft_io.kv.store import KeyValueStore
from raft_io.server.machine import StateMachine


def do(store: KeyValueStore, *commands: bytes, protocol: int = 2) -> bytes:
    return store.apply(encode_batch([command.split() for command in commands], protocol))


def filled(*commands: bytes) -> KeyValueStore:
    store = KeyValueStore()
    do(store, *commands)
    return store


def saved(store: KeyValueStore) -> bytes:
    stream = io.BytesIO()
    store.capture()(stream)
    return stream.getvalue()


def restored(data: bytes) -> KeyValueStore:
    store = KeyValueStore()
    store.restore(io.BytesIO(data))
    return store


# Refusals


@pytest.mark.parametrize(
    "command", [b"", b"\x00", b"\x01\x02\x01", b"\x02\x02", b"\x04\x02\x00", b"*1\r\n$4\r\nPING\r\n"]
)
def test_what_is_no_batch_is_refused_and_changes_nothing(command: bytes) -> None:
    store = filled(b"SET a 1")
    before = saved(store)
    with pytest.raises(CommandError):
        store.apply(command)
    assert saved(store) == before


def test_a_batch_that_is_damaged_at_its_end_runs_none_of_its_commands() -> None:
    store = KeyValueStore()
    with pytest.raises(CommandError):
        store.apply(encode_batch([[b"SET", b"a", b"1"], [b"SET", b"b", b"2"]], 2)[:-1])
    assert len(store) == 0


@pytest.mark.parametrize("command", [b"SET a 1", b"PING", b"FOO", b"GET", b"EXPIRE a 1", b"MULTI", b"EXEC"])
def test_a_query_only_reads(command: bytes) -> None:
    store = filled(b"SET b 1")
    with pytest.raises(ValueError, match="only reads"):
        store.query([[b"GET", b"b"], command.split()], 2)
    assert store.query([[b"DBSIZE"]], 2) == b":1\r\n"


STATE = saved(filled(b"MSET a 1 b 22 c 333", b"SET d 4 EX 9", b"DEL c"))


@pytest.mark.parametrize("size", range(len(STATE)))
def test_every_cut_of_a_saved_state_is_refused(size: int) -> None:
    store = filled(b"SET old 1")
    with pytest.raises(StorageError):
        store.restore(io.BytesIO(STATE[:size]))
    assert store.query([[b"KEYS", b"*"]], 2) == b"*1\r\n$3\r\nold\r\n"


@pytest.mark.parametrize("place", range(len(STATE)))
@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_every_flipped_bit_in_a_saved_state_is_refused(place: int, bit: int) -> None:
    damaged = bytearray(STATE)
    damaged[place] ^= bit
    store = filled(b"SET old 1")
    with pytest.raises(StorageError):
        store.restore(io.BytesIO(damaged))
    assert store.query([[b"KEYS", b"*"]], 2) == b"*1\r\n$3\r\nold\r\n"


def sealed(body: bytes) -> bytes:
    return body + crc32(body).to_bytes(4, "little")


def head(count: int, version: int = 2, now: int = 0, revision: int = 1) -> bytes:
    return b"raft-kv\n" + struct.pack("<IQQQQ", version, count, now, revision, 0)


def removed(*keys: bytes, length: int | None = None, revision: int = 1) -> bytes:
    entries = [struct.pack("<IQ", len(key) if length is None else length, revision) + key for key in keys]
    return len(keys).to_bytes(4, "little") + b"".join(entries)


def entry(key: bytes, value: bytes, size: int | None = None, revision: int = 1, when: int = 0) -> bytes:
    length = len(value) if size is None else size
    return struct.pack("<IIQQ", len(key), length, revision, when) + key + value


NONE = bytes(12)
FIRST = b"raft-kv\n\x01\x00\x00\x00"
FIRST_ENTRY = b"\x01\x00\x00\x00\x02\x00\x00\x00avv"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (sealed(b"raft-kw\n" + bytes(12)), "not a saved key-value store"),
        (sealed(b"raft-kv\n\x03" + bytes(11)), "version 3"),
        (sealed(b"raft-kv\n\x00" + bytes(11)), "version 0"),
        (sealed(FIRST + b"\x02" + bytes(7) + FIRST_ENTRY + FIRST_ENTRY), "twice"),
        (sealed(FIRST + b"\x01" + bytes(7) + FIRST_ENTRY) + b"x", "behind the end"),
        (sealed(FIRST + b"\xff" * 8 + FIRST_ENTRY), "early"),
        (sealed(FIRST + b"\x01" + bytes(7) + b"\x01\x00\x00\x00\xff\xff\xff\xff" + b"avv"), "4294967295"),
        (sealed(head(2) + NONE + entry(b"a", b"v") + entry(b"a", b"v")), "twice"),
        (sealed(head(2) + NONE + entry(b"a", b"v") + entry(b"d", b"v")), "out of order"),
        (sealed(head(1) + NONE + entry(b"a", b"v")) + b"x", "behind the end"),
        (sealed(head(1) + NONE + entry(b"a", b"v")) + bytes(1 << 20), "behind the end"),
        (sealed(head(2) + NONE + entry(b"a", b"v")), "early"),
        (sealed(head(1) + NONE + entry(b"a", b"v", 0xFFFFFFFF)), "4294967295"),
        (sealed(head(1) + NONE + entry(b"a", b"v", 0x04000000)), "early"),
        (sealed(head(1) + NONE + entry(b"a", b"v", revision=2)), "revision 2"),
        (sealed(head(1) + NONE + entry(b"a", b"v", when=1 << 63)), "expires at"),
        (sealed(head(0, revision=1 << 62) + NONE), "revision"),
        (sealed(head(0, now=1 << 63) + NONE), "time"),
        (sealed(head(0) + removed(b"a", length=0xFFFFFFFF)), "4294967295"),
        (
            sealed(head(0) + removed() + removed() + b"\x01\x00\x00\x00\x00\x40\x00\x00" + bytes(8)),
            "no slot 16384",
        ),
        (sealed(head(0) + NONE)[:-1] + b"\xff", "checksum"),
    ],
)
def test_what_no_store_saved_is_named(data: bytes, says: str) -> None:
    with pytest.raises(StorageError, match=says):
        restored(data)


class Measured(io.BytesIO):
    """Notes the largest read that was asked for."""

    largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.largest = max(self.largest, size or 0)
        return super().read(size)


def test_a_large_length_is_not_believed() -> None:
    stream = Measured(sealed(head(1) + NONE + entry(b"a", b"v", 0x03000000)))
    with pytest.raises(StorageError):
        KeyValueStore().restore(stream)
    assert stream.largest <= 1024 * 1024


# Applying


def test_the_store_is_a_state_machine() -> None:
    assert isinstance(KeyValueStore(), StateMachine)


def test_a_batch_answers_all_its_commands_in_order() -> None:
    store = KeyValueStore()
    assert do(store, b"SET a 1", b"INCR a", b"FOO", b"GET a") == (
        b"+OK\r\n:2\r\n-ERR unknown command 'FOO', with args beginning with: \r\n$1\r\n2\r\n"
    )
    assert do(store) == b""
    assert len(store) == 1


def test_replies_are_in_the_version_the_batch_asks_for() -> None:
    store = KeyValueStore()
    assert do(store, b"GET a", protocol=2) == b"$-1\r\n"
    assert do(store, b"GET a", protocol=3) == b"_\r\n"
    assert store.query([[b"GET", b"a"]], 3) == b"_\r\n"


def test_a_query_answers_all_its_commands_in_order() -> None:
    store = filled(b"MSET a 1 b 2")
    assert store.query([[b"GET", b"a"], [b"get", b"x"], [b"DBSIZE"]], 2) == b"$1\r\n1\r\n$-1\r\n:2\r\n"


# Saving


def test_the_bytes_of_a_saved_state() -> None:
    assert saved(filled(b"SET a vv")) == sealed(head(1) + NONE + entry(b"a", b"vv"))
    store = KeyValueStore()
    store.advance(5)
    do(store, b"SET d 1", b"SET a vv PX 7", b"DEL d")
    keys = entry(b"a", b"vv", revision=2, when=12)
    gone = removed(b"d", revision=3) + removed() + bytes(4)
    assert saved(store) == sealed(head(1, now=5, revision=3) + gone + keys)


def test_an_empty_store_is_saved_and_restored() -> None:
    store = filled(b"SET old 1")
    store.restore(io.BytesIO(saved(KeyValueStore())))
    assert len(store) == 0


def test_what_is_applied_after_the_capture_is_not_in_it() -> None:
    store = filled(b"MSET a 1 b 2")
    write = store.capture()
    do(store, b"SET a 9", b"DEL b", b"SET c 3")
    stream = io.BytesIO()
    write(stream)
    assert stream.getvalue() == saved(filled(b"MSET a 1 b 2"))


def test_a_failing_stream_leaves_the_store_alone() -> None:
    store = filled(b"SET a 1")
    before = saved(store)
    stream = io.BytesIO()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        store.capture()(stream)
    assert saved(store) == before


def test_long_values_pass_in_pieces() -> None:
    store = KeyValueStore()
    value = bytes(range(256)) * 12_000
    store.apply(encode_batch([[b"SET", b"a", value], [b"SET", b"b", b""], [b"SET", b"c", value]], 2))
    again = restored(saved(store))
    assert again.query([[b"GET", b"c"]], 2) == b"$3072000\r\n%b\r\n" % value
    assert saved(again) == saved(store)


def test_a_restored_store_can_be_scanned_and_changed() -> None:
    store = restored(saved(filled(b"MSET a 1 b 2")))
    assert do(store, b"DEL a", b"SCAN 0", b"SET a 3", b"GET a") == (
        b":1\r\n*2\r\n$1\r\n0\r\n*1\r\n$1\r\nb\r\n+OK\r\n$1\r\n3\r\n"
    )


def test_a_writer_that_is_never_called_keeps_nothing() -> None:
    store = filled(b"SET a 1")
    write = store.capture()
    do(store, b"SET a 2")
    del write
    do(store, b"SET a 3")
    assert store._keys._captures == []


def test_what_was_captured_is_written_once() -> None:
    store = filled(b"SET a 1")
    write = store.capture()
    write(io.BytesIO())
    with pytest.raises(AssertionError):
        write(io.BytesIO())


def test_two_captures_at_once_are_each_of_their_time() -> None:
    store = filled(b"MSET a 1 b 1")
    first, states = store.capture(), [saved(store)]
    do(store, b"SET a 2", b"DEL b", b"SET c 2")
    second = store.capture()
    states.append(saved(store))
    do(store, b"SET a 3", b"SET b 3", b"DEL c")
    for write, state in zip((first, second), states, strict=True):
        stream = io.BytesIO()
        write(stream)
        assert stream.getvalue() == state


class Changing(io.BytesIO):
    """Does something at each write."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__()
        self._change = change

    def write(self, data: Any, /) -> int:
        self._change()
        return super().write(data)


def test_changes_between_the_blocks_of_a_state_are_not_in_it() -> None:
    store = KeyValueStore()
    for number in range(300):
        do(store, b"SET k%d %b PX 5" % (number, b"v" * 2000))
    before = saved(store)
    numbers = iter(range(10**6))

    def change() -> None:
        number = next(numbers)
        do(store, *[b"DEL k%d" % each for each in range(number, 300, 7)])
        do(store, *[b"SET k%d new" % each for each in range(number, 300, 11)])
        do(store, b"SET new%d 1" % number, b"PEXPIRE k%d 9" % number)
        if number == 5:
            store.advance(10)
        if number == 7:
            do(store, b"FLUSHALL")

    stream = Changing(change)
    store.capture()(stream)
    assert next(numbers) > 8
    assert stream.getvalue() == before


class Nowhere(io.RawIOBase):
    """Takes everything and keeps nothing."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.size += len(data)
        return len(data)


def filled_with(count: int, size: int) -> KeyValueStore:
    store = KeyValueStore()
    for number in range(count):
        store.apply(encode_batch([[b"SET", b"k%d" % number, b"%d" % number * (size // 5), b"EX", b"100"]], 2))
    return store


def test_taking_and_restoring_a_state_need_little_memory(tmp_path: Path) -> None:
    """Though the state is 16 MiB, and the store that restores it holds another one of that size."""
    path = tmp_path / "state"
    tracemalloc.start(1)
    try:
        store = filled_with(16_000, 1000)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        store.capture()(cast(BinaryIO, Nowhere()))
        assert tracemalloc.get_traced_memory()[1] - before < 2 * 1024 * 1024
        with path.open("wb") as sink:
            store.capture()(sink)
        assert path.stat().st_size > 12 * 1024 * 1024
        tracemalloc.reset_peak()
        with path.open("rb") as source:
            store.restore(source)
        assert tracemalloc.get_traced_memory()[1] - before < 3 * 1024 * 1024
        assert len(store) == 16_000
    finally:
        tracemalloc.stop()


def test_what_changes_while_a_state_is_written_costs_memory_and_nothing_else_does() -> None:
    tracemalloc.start(1)
    try:
        store = filled_with(16_000, 1000)
        before, _ = tracemalloc.get_traced_memory()
        write = store.capture()
        for number in range(1000):
            do(store, b"SET k%d %b" % (number, b"%d" % number * 200))
        extra = tracemalloc.get_traced_memory()[0] - before
        assert extra < 4 * 1024 * 1024
        stream = Nowhere()
        write(cast(BinaryIO, stream))
        assert stream.size > 12 * 1024 * 1024
        del write
        do(store, b"SET k0 1")
        assert tracemalloc.get_traced_memory()[0] - before < 1024 * 1024
    finally:
        tracemalloc.stop()


class OneWay(io.BytesIO):
    """Cannot go back."""

    def seekable(self) -> bool:
        return False


def test_a_stream_that_cannot_go_back_is_restored_and_refused_alike() -> None:
    store = filled(b"SET old 1")
    with pytest.raises(StorageError):
        store.restore(OneWay(STATE[:-1]))
    assert store.query([[b"KEYS", b"*"]], 2) == b"*1\r\n$3\r\nold\r\n"
    store.restore(OneWay(STATE))
    assert saved(store) == STATE


def test_a_state_is_read_from_where_the_stream_stands() -> None:
    stream = io.BytesIO(b"before" + STATE)
    stream.seek(6)
    store = KeyValueStore()
    store.restore(stream)
    assert saved(store) == STATE


KEY = st.sampled_from([b"a", b"b", b"c", b"dd", b""])
VALUE = st.one_of(st.binary(max_size=4), st.integers(-5, 5).map(lambda number: b"%d" % number))
TIME = st.integers(-5, 30).map(lambda number: b"%d" % number)
COMMAND = st.one_of(
    st.tuples(st.just(b"SET"), KEY, VALUE),
    st.tuples(st.just(b"SET"), KEY, VALUE, st.sampled_from([b"NX", b"XX", b"GET", b"KEEPTTL"])),
    st.tuples(st.just(b"SET"), KEY, VALUE, st.sampled_from([b"PX", b"PXAT"]), TIME),
    st.tuples(st.sampled_from([b"GET", b"GETDEL", b"DEL", b"INCR", b"DECR", b"EXISTS", b"KEYS"]), KEY),
    st.tuples(st.sampled_from([b"PTTL", b"PERSIST", b"PEXPIRETIME", b"GETEX"]), KEY),
    st.tuples(st.sampled_from([b"APPEND", b"INCRBY", b"SETNX", b"GETSET"]), KEY, VALUE),
    st.tuples(st.sampled_from([b"PEXPIRE", b"PEXPIREAT"]), KEY, TIME),
    st.tuples(st.just(b"PEXPIRE"), KEY, TIME, st.sampled_from([b"NX", b"XX", b"GT", b"LT"])),
    st.tuples(st.just(b"MSETNX"), KEY, VALUE, KEY, VALUE),
    st.sampled_from(
        [(b"FLUSHDB",), (b"KEYS", b"*"), (b"SCAN", b"0", b"COUNT", b"2"), (b"DBSIZE",), (b"FOO",)]
    ),
).map(list)
BATCH = st.builds(encode_batch, st.lists(COMMAND, max_size=5), st.sampled_from([2, 3]))
WATCHED = st.lists(st.tuples(KEY, st.integers(0, 20)), max_size=3)
TRANSACTION = st.builds(encode_transaction, st.lists(COMMAND, max_size=5), WATCHED, st.sampled_from([2, 3]))
ENTRY = st.tuples(st.integers(0, 4), st.one_of(BATCH, TRANSACTION))


@given(st.lists(ENTRY, max_size=14), st.integers(0, 14), st.integers(0, 14))
def test_replicas_agree_also_when_one_begins_with_a_snapshot(
    entries: list[tuple[int, bytes]], captured: int, restored_at: int
) -> None:
    leader = KeyValueStore()
    follower = KeyValueStore()
    write, state = leader.capture(), saved(leader)
    now = 0
    for number, (passed, batch) in enumerate(entries):
        if number == captured:
            write, state = leader.capture(), saved(leader)
        if number == restored_at:
            follower = restored(saved(follower))
        now += passed
        if passed:
            leader.advance(now)
            follower.advance(now)
        assert leader.apply(batch) == follower.apply(batch)
        assert leader._keys.next_expiry() == follower._keys.next_expiry()
    assert saved(leader) == saved(follower)
    stream = io.BytesIO()
    write(stream)
    assert stream.getvalue() == state


@given(st.lists(ENTRY, max_size=14))
def test_no_key_outlives_its_time_swept_or_not(entries: list[tuple[int, bytes]]) -> None:
    """The same store, once with what is past its time removed, and once with the removal left undone."""
    swept, lazy = KeyValueStore(), KeyValueStore()
    now = 0
    for passed, batch in entries:
        now += passed
        swept.advance(now)
        with mock.patch.object(keyspace, "SWEEP", 0):
            lazy.advance(now)
        if batch[2] == 0:  # what a transaction watches may count as changed a little early
            assert swept.apply(batch) == lazy.apply(batch)
        reads = [[b"MGET", b"a", b"b", b"c", b"dd", b""], [b"KEYS", b"*"], [b"SCAN", b"0"], [b"DBSIZE"]]
        assert swept.query(reads, 2) == lazy.query(reads, 2)
        assert len(swept) == len(lazy)


@given(
    st.sampled_from([b"\x01\x02", b"\x02\x03\x00", b"\x02\x02\x01"]),
    st.lists(st.binary(max_size=40), max_size=5),
)
def test_whatever_bytes_are_committed_they_are_answered_or_refused(
    head: bytes, commands: list[bytes]
) -> None:
    store = KeyValueStore()
    for command in commands:
        try:
            store.apply(head + command)
        except CommandError:
            continue
