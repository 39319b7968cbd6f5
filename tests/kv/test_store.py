"""The key-value state machine: batches in, replies out, and its state saved and restored."""

from __future__ import annotations

import io
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io.errors import CommandError, StorageError
from raft_io.kv.batch import encode_batch
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


@pytest.mark.parametrize("command", [b"", b"\x00", b"\x01\x02\x01", b"*1\r\n$4\r\nPING\r\n"])
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


@pytest.mark.parametrize("command", [b"SET a 1", b"PING", b"FOO", b"GET", b"EXPIRE a 1"])
def test_a_query_only_reads(command: bytes) -> None:
    store = filled(b"SET b 1")
    with pytest.raises(ValueError, match="only reads"):
        store.query([[b"GET", b"b"], command.split()], 2)
    assert store.query([[b"DBSIZE"]], 2) == b":1\r\n"


STATE = saved(filled(b"MSET a 1 b 22 c 333"))


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


HEAD = b"raft-kv\n\x01\x00\x00\x00"
ENTRY = b"\x01\x00\x00\x00\x02\x00\x00\x00avv"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (sealed(b"raft-kw\n" + bytes(12)), "not a saved key-value store"),
        (sealed(b"raft-kv\n\x02" + bytes(11)), "version 2"),
        (sealed(HEAD + b"\x02" + bytes(7) + ENTRY + ENTRY), "twice"),
        (sealed(HEAD + b"\x01" + bytes(7) + ENTRY) + b"x", "behind the end"),
        (sealed(HEAD + b"\xff" * 8 + ENTRY), "early"),
        (sealed(HEAD + b"\x01" + bytes(7) + b"\x01\x00\x00\x00\xff\xff\xff\xff" + b"avv"), "4294967295"),
        (sealed(HEAD + b"\x01" + bytes(7) + b"\x01\x00\x00\x00\x00\x00\x00\x04" + b"avv"), "early"),
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
    stream = Measured(sealed(HEAD + b"\x01" + bytes(7) + b"\x01\x00\x00\x00\x00\x00\x00\x20" + b"avv"))
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
    assert saved(filled(b"SET a vv")) == sealed(HEAD + b"\x01" + bytes(7) + ENTRY)


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


KEY = st.sampled_from([b"a", b"b", b"c", b"dd", b""])
VALUE = st.one_of(st.binary(max_size=4), st.integers(-5, 5).map(lambda number: b"%d" % number))
COMMAND = st.one_of(
    st.tuples(st.just(b"SET"), KEY, VALUE),
    st.tuples(st.just(b"SET"), KEY, VALUE, st.sampled_from([b"NX", b"XX", b"GET"])),
    st.tuples(st.sampled_from([b"GET", b"GETDEL", b"DEL", b"INCR", b"DECR", b"EXISTS", b"KEYS"]), KEY),
    st.tuples(st.sampled_from([b"APPEND", b"INCRBY", b"SETNX"]), KEY, VALUE),
    st.tuples(st.just(b"MSETNX"), KEY, VALUE, KEY, VALUE),
    st.sampled_from(
        [(b"FLUSHDB",), (b"KEYS", b"*"), (b"SCAN", b"0", b"COUNT", b"2"), (b"DBSIZE",), (b"FOO",)]
    ),
).map(list)
BATCH = st.builds(encode_batch, st.lists(COMMAND, max_size=5), st.sampled_from([2, 3]))


@given(st.lists(BATCH, max_size=12), st.integers(0, 12))
def test_replicas_agree_also_when_one_begins_with_a_snapshot(batches: list[bytes], point: int) -> None:
    leader = KeyValueStore()
    follower = KeyValueStore()
    for number, batch in enumerate(batches):
        if number == point:
            follower = restored(saved(follower))
        assert leader.apply(batch) == follower.apply(batch)
    assert saved(leader) == saved(follower)


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_whatever_bytes_are_committed_they_are_answered_or_refused(commands: list[bytes]) -> None:
    store = KeyValueStore()
    for command in commands:
        try:
            store.apply(b"\x01\x02" + command)
        except CommandError:
            continue
