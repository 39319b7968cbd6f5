"""Commands of a client as one command of the log."""

from __future__ import annotations

import importlib.util
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raft_io.kv
from raft_io.errors import CommandError
from raft_io.kv.batch import (
    HEADER,
    TRANSACTION_HEADER,
    VERSION,
    Batch,
    decode_batch,
    encode_batch,
    encode_batches,
    encode_transaction,
)

COMMANDS = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=8)

WATCHED = st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 2**63 - 1)), max_size=4)


def encoded(batch: Batch) -> bytes:
    """The bytes that a batch of today's version was decoded from."""
    assert batch.version == VERSION
    if batch.watched is None:
        return encode_batch(batch.commands, batch.protocol)
    return encode_transaction(batch.commands, batch.watched, batch.protocol)


# Of version 1, whose header had 2 bytes.
HOSTILE = [
    b"",
    b"\x01",
    b"\x00\x02",
    b"\x04\x02\x00",
    b"\x03",
    b"\x03\x02",
    b"\x03\x04\x00",
    b"\x03\x02\x02",
    b"\x02",
    b"\x02\x02",
    b"\x02\x04\x00",
    b"\x02\x02\x02",
    b"\x02\x02\x00\x01",
    b"\x02\x02\x01\x00\x00\x00",
    b"\x02\x02\x01\xff\xff\xff\xff",
    b"\x02\x02\x01\xff\xff\xff\x7f",
    b"\x02\x02\x01\x01\x00\x00\x00" + bytes(11),
    b"\x02\x02\x01\x01\x00\x00\x00" + b"\x01" + bytes(11),
    b"\x02\x02\x01\x01\x00\x00\x00" + b"\xff\xff\xff\xff" + bytes(11),
    b"\x02\x02\x01\x02\x00\x00\x00" + b"\x0e\x00\x00\x00" + bytes(22),
    b"\x01\x00",
    b"\x01\x04",
    b"\x01\x02\x01\x00\x00",
    b"\x01\x02\x00\x00\x00\x00",
    b"\x01\x02\xff\xff\xff\xff",
    b"\x01\x02\xff\xff\xff\x7f",
    b"\x01\x02\x01\x00\x00\x00",
    b"\x01\x02\x01\x00\x00\x00\x02\x00\x00\x00a",
    b"\x01\x02\x01\x00\x00\x00\xff\xff\xff\xff",
    b"\x01\x02\x01\x00\x00\x00\xff\xff\xff\x7f",
    b"\x01\x02\x02\x00\x00\x00\x05\x00\x00\x00abcdea",
    b"\x01\x02\x01\x00\x00\x00\x01\x00\x00\x00a\x00",
]


@pytest.mark.parametrize("data", HOSTILE)
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(CommandError):
        decode_batch(data)


@given(COMMANDS, st.sampled_from([2, 3]))
def test_every_cut_of_a_batch_is_refused_or_ends_between_commands(
    commands: list[list[bytes]], protocol: int
) -> None:
    data = encode_batch(commands, protocol)
    ends = {len(encode_batch(commands[:count], protocol)) for count in range(len(commands) + 1)}
    for size in range(len(data)):
        if size in ends:
            assert encoded(decode_batch(data[:size])) == data[:size]
        else:
            with pytest.raises(CommandError):
                decode_batch(data[:size])


@given(COMMANDS, WATCHED, st.sampled_from([2, 3]))
def test_a_transaction_that_is_cut_within_what_it_watches_is_refused(
    commands: list[list[bytes]], watched: list[tuple[bytes, int]], protocol: int
) -> None:
    data = encode_transaction(commands, watched, protocol)
    for size in range(len(encode_transaction([], watched, protocol))):
        with pytest.raises(CommandError):
            decode_batch(data[:size])


HEADS = st.sampled_from(
    [b"", b"\x01\x02", b"\x02\x02\x00", b"\x02\x02\x01", b"\x02\x03\x01\x01\x00\x00\x00", b"\x03\x02\x01"]
)


@given(HEADS, st.binary(max_size=60))
def test_garbage_is_refused_or_canonical(head: bytes, garbage: bytes) -> None:
    data = head + garbage
    try:
        batch = decode_batch(data)
    except CommandError:
        return
    if batch.version == 1:
        data = data[:2] + b"\x00" + data[2:]
    if batch.version < VERSION:  # what is read of an earlier version is written in this one
        data = bytes([VERSION]) + data[1:]
        batch.version = VERSION
    assert encoded(batch) == data


@pytest.mark.parametrize("head", [b"\x01\x02", b"\x02\x02\x00", b"\x02\x02\x01"])
def test_a_large_count_allocates_nothing(head: bytes) -> None:
    data = head + b"\xff\xff\xff\x7f" + bytes(1000)
    tracemalloc.start()
    try:
        with pytest.raises(CommandError):
            decode_batch(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


@given(COMMANDS, st.sampled_from([2, 3]))
def test_round_trip(commands: list[list[bytes]], protocol: int) -> None:
    batch = decode_batch(encode_batch(commands, protocol))
    assert (batch.version, batch.protocol, batch.commands, batch.watched) == (
        VERSION,
        protocol,
        commands,
        None,
    )


@given(COMMANDS, WATCHED, st.sampled_from([2, 3]))
def test_round_trip_of_a_transaction(
    commands: list[list[bytes]], watched: list[tuple[bytes, int]], protocol: int
) -> None:
    batch = decode_batch(encode_transaction(commands, watched, protocol))
    assert (batch.version, batch.protocol, batch.commands, batch.watched) == (
        VERSION,
        protocol,
        commands,
        watched,
    )


BYTES = b"\x02\x00\x00\x00\x03\x00\x00\x00GET\x01\x00\x00\x00a\x01\x00\x00\x00\x01\x00\x00\x00X"


def test_the_bytes_of_a_batch() -> None:
    assert encode_batch([[b"GET", b"a"], [b"X"]], 3) == b"\x03\x03\x00" + BYTES
    assert encode_batch([], 2) == b"\x03\x02\x00"


def test_the_bytes_of_a_transaction() -> None:
    watched = b"\x01\x00\x00\x00\x02\x00\x00\x00kk\x07\x01\x00\x00\x00\x00\x00\x00"
    assert (
        encode_transaction([[b"GET", b"a"], [b"X"]], [(b"kk", 263)], 2) == b"\x03\x02\x01" + watched + BYTES
    )
    assert len(encode_transaction([], [], 2)) == TRANSACTION_HEADER


def test_a_batch_of_version_1_is_read() -> None:
    batch = decode_batch(b"\x01\x03" + BYTES)
    assert (batch.version, batch.protocol, batch.watched) == (1, 3, None)
    assert batch.commands == [[b"GET", b"a"], [b"X"]]


@given(COMMANDS, st.integers(0, 200))
def test_a_batch_that_is_too_long_is_split_between_commands(
    commands: list[list[bytes]], max_bytes: int
) -> None:
    batches = encode_batches(commands, 2, max_bytes)
    parts = [decode_batch(data).commands for data in batches]
    assert [args for part in parts for args in part] == commands
    for data, part in zip(batches, parts, strict=True):
        assert len(data) <= max_bytes or len(part) <= 1


def test_what_fits_is_one_batch() -> None:
    commands = [[b"abc"], [b"d"]]
    size = HEADER + (4 + 4 + 3) + (4 + 4 + 1)
    assert len(encode_batches(commands, 2, size)) == 1
    assert len(encode_batches(commands, 2, size - 1)) == 2


def test_the_bytes_are_the_same_without_librt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librt.strings", None)
    source = Path(raft_io.kv.__path__[0]) / "batch.py"
    spec = importlib.util.spec_from_file_location("plain_batch", source)
    assert spec is not None and spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    commands = [[b"SET", b"a", b"x" * 300], [b""]]
    data = encode_batch(commands, 3)
    assert plain.encode_batch(commands, 3) == data
    assert plain.decode_batch(data).commands == commands
    transaction = encode_transaction(commands, [(b"k", 7)], 3)
    assert plain.encode_transaction(commands, [(b"k", 7)], 3) == transaction
    assert plain.decode_batch(transaction).watched == [(b"k", 7)]
    with pytest.raises(CommandError):
        plain.decode_batch(data[:-1])
