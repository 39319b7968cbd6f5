"""The codec: round trips, one encoding a message, hostile bytes, and a format that does not change."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.samples import FROZEN, KINDS, entries, hostile, messages
from tests.support import LATER, MESSAGES, TOP

import raft_io
from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    EntryKind,
    LogEntry,
    Message,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    WireError,
    _plain,
    wire,
)

pytestmark = pytest.mark.core


def decode_or_none(data: bytes) -> Message | None:
    """The message in `data`, `None` if it is none; any exception but `WireError` is a failure."""
    try:
        return wire.decode(data)
    except WireError:
        return None


# Round trips.


@given(messages)
def test_every_message_comes_back(message: Message) -> None:
    again = wire.decode(wire.encode(message))
    assert again == message
    assert type(again) is type(message)


@pytest.mark.parametrize("kind", list(EntryKind))
def test_every_kind_of_entry_comes_back(kind: EntryKind) -> None:
    message = AppendEntries(1, 2, 0, 0, [LogEntry(1, 1, b"x", kind)], 0)
    decoded = wire.decode(wire.encode(message))
    assert isinstance(decoded, AppendEntries)
    assert decoded.entries[0].kind is kind


def test_a_message_of_many_megabytes_comes_back() -> None:
    message = AppendEntries(1, 2, 0, 0, [LogEntry(1, 1, bytes(8 << 20)), LogEntry(1, 2, b"x")], 0)
    assert wire.decode(wire.encode(message)) == message


@given(st.lists(entries, max_size=8))
def test_entries_alone_come_back(several: list[LogEntry]) -> None:
    data = wire.encode_entries(several)
    assert wire.decode_entries(data) == several
    assert wire.decode_entries(b"head" + data + b"tail", 4, 4 + len(data)) == several


def test_entries_are_the_same_bytes_alone_and_in_a_message() -> None:
    several = [LogEntry(4, 8, b"put k v"), LogEntry(5, 9, b"", EntryKind.NOOP)]
    assert wire.encode(AppendEntries(5, 2, 7, 4, several, 6)).endswith(wire.encode_entries(several))


# The format.


@pytest.mark.parametrize(("message", "frozen"), FROZEN, ids=lambda value: type(value).__name__)
def test_the_format_does_not_change(message: Message, frozen: str) -> None:
    assert wire.encode(message).hex() == frozen
    assert wire.decode(bytes.fromhex(frozen)) == message


def test_there_is_a_frozen_sample_of_every_message() -> None:
    assert {type(message) for message, _ in FROZEN} == set(Message.__args__)  # type: ignore[attr-defined]
    assert sorted(KINDS.values()) == list(range(1, 12))


# One encoding for each message.


@given(hostile)
@example(b"\x01\x02" + bytes(17))
@example(b"\x02\x05" + bytes(32))
def test_what_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    message = decode_or_none(data)
    if message is not None:
        assert wire.encode(message) == data


@given(messages, st.data())
def test_a_changed_byte_is_refused_or_is_another_message(message: Message, data: st.DataObject) -> None:
    good = wire.encode(message)
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    decoded = decode_or_none(bytes(bad))
    if decoded is not None:
        assert decoded != message
        assert wire.encode(decoded) == bytes(bad)


@pytest.mark.parametrize("message", [*MESSAGES, *LATER], ids=lambda message: type(message).__name__)
def test_every_single_bit_flipped(message: Message) -> None:
    good = wire.encode(message)
    for place in range(len(good) * 8):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        decoded = decode_or_none(bytes(bad))
        if decoded is not None:
            assert decoded != message
            assert wire.encode(decoded) == bytes(bad)


# Bytes that are no message.


@pytest.mark.parametrize("message", [*MESSAGES, *LATER], ids=lambda message: type(message).__name__)
def test_every_truncation_is_refused(message: Message) -> None:
    good = wire.encode(message)
    for length in range(len(good)):
        with pytest.raises(WireError, match="malformed message: "):
            wire.decode(good[:length])


@given(messages, st.binary(min_size=1, max_size=30))
def test_trailing_bytes_are_refused(message: Message, tail: bytes) -> None:
    with pytest.raises(WireError, match=f"{len(tail)} bytes too many"):
        wire.decode(wire.encode(message) + tail)


@pytest.mark.parametrize("flag", [2, 127, 128, 255])
def test_a_flag_is_0_or_1(flag: int) -> None:
    for message in (
        RequestVoteReply(5, True, 2),
        AppendEntriesReply(5, True, 2, 0),
        AppendEntriesReply(5, True, 2, 0, 0, 0, 3),
        PreVoteReply(5, True, 2),
    ):
        data = bytearray(wire.encode(message))
        data[10] = flag
        with pytest.raises(WireError, match=f"a flag must be 0 or 1, not {flag}"):
            wire.decode(bytes(data))


def test_numbers_over_the_range_are_refused() -> None:
    data = bytearray(wire.encode(RequestVote(5, 2, 7, 4)))
    for place in (9, 17, 25, 33):
        bad = bytearray(data)
        bad[place] = 0x80
        with pytest.raises(WireError, match=f"a number at byte {place - 7} is over"):
            wire.decode(bytes(bad))


COUNT = 42
"""Where the number of entries stands in an `AppendEntries`."""


def crafted(count: bytes, tail: bytes = b"") -> bytes:
    return wire.encode(AppendEntries(1, 2, 0, 0, (), 0))[:COUNT] + count + tail


def test_lengths_over_the_range_are_refused() -> None:
    with pytest.raises(WireError, match="a length at byte 42 is over"):
        wire.decode(crafted(b"\xff\xff\xff\xff"))
    with pytest.raises(WireError, match="a length at byte 46 is over"):
        wire.decode(crafted(b"\x01\0\0\0", b"\0\0\0\x80" + bytes(17)))


def test_more_entries_than_fit_are_refused_before_any_is_read() -> None:
    with pytest.raises(WireError, match="2 entries do not fit in 41 bytes"):
        wire.decode(crafted(b"\x02\0\0\0", bytes(41)))
    with pytest.raises(WireError, match="entries do not fit"):
        wire.decode(crafted(b"\xff\xff\xff\x7f"))


def test_a_command_longer_than_the_message_is_refused() -> None:
    with pytest.raises(WireError, match="2147483647 bytes expected at byte 67, 0 left"):
        wire.decode(crafted(b"\x01\0\0\0", b"\xff\xff\xff\x7f" + bytes(17)))


def test_an_entry_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(WireError, match="an entry of unknown kind 3"):
        wire.decode(crafted(b"\x01\0\0\0", b"\0\0\0\0\x03" + bytes(16)))


@given(hostile, st.integers(1, 2), st.integers(0, 12))
def test_garbage_is_refused(data: bytes, version: int, kind: int) -> None:
    decode_or_none(data)
    decode_or_none(bytes([version, kind]) + data)
    with contextlib.suppress(WireError):
        wire.decode_entries(data)


def peak_of(data: bytes) -> int:
    tracemalloc.start()
    try:
        decode_or_none(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        crafted(b"\xff\xff\xff\x7f"),
        crafted(b"\xff\xff\xff\x7f", bytes(21)),
        crafted(b"\x01\0\0\0", b"\xff\xff\xff\x7f" + bytes(17)),
        crafted(b"\x01\0\0\0", b"\0\0\0\x40" + bytes(17)),
    ],
)
def test_a_small_message_that_claims_to_be_huge_allocates_little(data: bytes) -> None:
    assert peak_of(data) < 20_000


@pytest.mark.parametrize("count", [0, 1, 1000, 20_000])
def test_what_is_allocated_stays_in_proportion_to_the_input(count: int) -> None:
    data = crafted(count.to_bytes(4, "little"), bytes(21) * count)
    assert peak_of(data) < 20_000 + 15 * len(data)


@pytest.mark.parametrize("bad", [None, 5, "x", bytearray(b"x"), memoryview(b"x"), [1]])
def test_only_bytes_are_decoded(bad: Any) -> None:
    with pytest.raises(TypeError):
        wire.decode(bad)


@pytest.mark.parametrize("bad", [None, 5, b"x", LogEntry(1, 1)])
def test_only_messages_are_encoded(bad: Any) -> None:
    with pytest.raises(TypeError):
        wire.encode(bad)


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (0, 3), (3, 3), (3, -1)])
def test_entries_are_read_within_the_bytes_given(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="lies outside of 2 bytes"):
        wire.decode_entries(b"ab", first, last)


# The plain path, where there is no build of librt.


@given(
    st.binary(max_size=20), st.integers(0, 255), st.integers(-(2**31), 2**31 - 1), st.integers(-TOP - 1, TOP)
)
def test_the_plain_buffer_writes_and_reads_as_librt_does(data: bytes, byte: int, i32: int, i64: int) -> None:
    from librt import strings

    results = []
    for module in (_plain, strings):
        out = module.BytesWriter()
        out.append(byte)
        module.write_i32_le(out, i32)
        out.write(data)
        module.write_i64_le(out, i64)
        written = out.getvalue()
        assert module.read_i32_le(written, 1) == i32
        assert module.read_i64_le(written, len(written) - 8) == i64
        results.append(written)
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    """The codec's own source, run where librt cannot be imported."""
    path = Path(raft_io.__file__).parent / "wire.py"
    spec = importlib.util.spec_from_file_location("plain_wire", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "librt.strings", None)
        spec.loader.exec_module(module)
    assert module.BytesWriter is _plain.BytesWriter
    return module


def outcome(codec: ModuleType, data: bytes) -> object:
    try:
        return codec.decode(data)
    except WireError as error:
        return str(error)


@given(messages)
def test_without_librt_messages_are_the_same_bytes(plain: ModuleType, message: Message) -> None:
    data = wire.encode(message)
    assert plain.encode(message) == data
    assert plain.decode(data) == message


@given(hostile, st.integers(1, 2), st.integers(0, 12))
def test_without_librt_garbage_is_refused_alike(
    plain: ModuleType, tail: bytes, version: int, kind: int
) -> None:
    for data in (tail, bytes([version, kind]) + tail):
        assert outcome(plain, data) == outcome(wire, data)


@pytest.mark.parametrize("message", [*MESSAGES, *LATER], ids=lambda message: type(message).__name__)
def test_without_librt_truncations_are_refused_alike(plain: ModuleType, message: Message) -> None:
    data = wire.encode(message)
    for length in range(len(data)):
        assert outcome(plain, data[:length]) == outcome(wire, data[:length])
