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
from raft_io.kv.batch import HEADER, decode_batch, encode_batch, encode_batches

COMMANDS = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=8)

HOSTILE = [
    b"",
    b"\x01",
    b"\x00\x02",
    b"\x02\x02",
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
            assert encode_batch(*decode_batch(data[:size])) == data[:size]
        else:
            with pytest.raises(CommandError):
                decode_batch(data[:size])


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda data: b"\x01\x02" + data)))
def test_garbage_is_refused_or_canonical(data: bytes) -> None:
    try:
        commands, protocol = decode_batch(data)
    except CommandError:
        return
    assert encode_batch(commands, protocol) == data


def test_a_large_count_allocates_nothing() -> None:
    data = b"\x01\x02\xff\xff\xff\x7f" + bytes(1000)
    tracemalloc.start()
    try:
        with pytest.raises(CommandError):
            decode_batch(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


@given(COMMANDS, st.sampled_from([2, 3]))
def test_round_trip(commands: list[list[bytes]], protocol: int) -> None:
    assert decode_batch(encode_batch(commands, protocol)) == (commands, protocol)


def test_the_bytes_of_a_batch() -> None:
    assert encode_batch([[b"GET", b"a"], [b"X"]], 3) == (
        b"\x01\x03\x02\x00\x00\x00\x03\x00\x00\x00GET\x01\x00\x00\x00a\x01\x00\x00\x00\x01\x00\x00\x00X"
    )


@given(COMMANDS, st.integers(0, 200))
def test_a_batch_that_is_too_long_is_split_between_commands(
    commands: list[list[bytes]], max_bytes: int
) -> None:
    batches = encode_batches(commands, 2, max_bytes)
    parts = [decode_batch(data)[0] for data in batches]
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
    assert plain.decode_batch(data) == (commands, 3)
    with pytest.raises(CommandError):
        plain.decode_batch(data[:-1])
