"""The entries of the log: round trips, and hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io import WireError
from raft_io.server import envelope
from raft_io.server.envelope import (
    Clock,
    Command,
    Member,
    Open,
    Requests,
    decode,
    encode_clock,
    encode_open,
    encode_requests,
    stamp,
)

U64 = st.integers(0, 2**64 - 1)
TIMES = st.integers(0, 2**63 - 1)
PLAIN = st.builds(Command, st.none() | st.binary(max_size=40))
KEYED = st.builds(Command, st.binary(max_size=40), st.binary(max_size=20), U64)
MEMBERS = st.tuples(TIMES, st.builds(Member, st.text(max_size=40), U64))
COMMANDS = st.lists(PLAIN | KEYED | st.builds(Command, st.none(), st.none(), st.just(0), MEMBERS), max_size=8)

# What 0.4 wrote: entries without a time. They are in the logs of clusters that were upgraded.
OLD_OPEN = bytes.fromhex("0101000102030405060708090a0b0c0d0e0f")
OLD_REQUESTS = bytes.fromhex(
    "010207000000000000000300000000000000020000000000000003000000"
    "000500000070757420610102030000006b65790500000000000000050000007075742062"
)
# What is written since.
NEW_OPEN = bytes.fromhex("0201881300000000000000")[:10] + bytes(range(16))
NEW_REQUESTS = bytes.fromhex(
    "0202881300000000000007000000000000000300000000000000020000000000000004000000"
    "000500000070757420610102030000006b65790500000000000000050000007075742062"
    "030900000000000000f50100000000000008000000686f73743a373031"
)
NEW_CLOCK = bytes.fromhex("02038813000000000000")


@given(U64, U64, U64, COMMANDS, TIMES)
def test_requests_come_back_as_they_were(
    session: int, sequence: int, floor: int, commands: list[Command], time: int
) -> None:
    fresh = encode_requests(session, sequence, floor, commands)
    assert decode(fresh) == Requests(session, sequence, floor, commands, 0)
    data = stamp(fresh, time)
    assert envelope.is_envelope(data)
    assert envelope.peek(data) == (session, sequence)
    found = decode(data)
    assert isinstance(found, Requests)
    assert found == Requests(session, sequence, floor, commands, time)
    assert stamp(encode_requests(found.session, found.sequence, found.floor, found.commands), time) == data


@given(st.binary(min_size=16, max_size=16), TIMES)
def test_an_opening_comes_back_as_it_was(nonce: bytes, time: int) -> None:
    data = stamp(encode_open(nonce), time)
    assert envelope.is_envelope(data)
    assert envelope.peek(data) == (0, 0)
    assert decode(data) == Open(nonce, time)


@given(TIMES)
def test_a_clock_comes_back_as_it_was(time: int) -> None:
    data = encode_clock(time)
    assert envelope.is_envelope(data)
    assert envelope.peek(data) == (0, 0)
    assert decode(data) == decode(stamp(encode_clock(0), time)) == Clock(time)


def test_every_version_that_was_ever_written_is_read() -> None:
    commands = [Command(b"put a"), Command(None), Command(b"put b", b"key", 5)]
    assert decode(OLD_OPEN) == Open(bytes(range(16)), 0)
    assert decode(OLD_REQUESTS) == Requests(7, 3, 2, commands, 0)
    assert envelope.peek(OLD_REQUESTS) == (7, 3)
    for old in (OLD_OPEN, OLD_REQUESTS):
        assert stamp(old, 5000) == old, "there is no place for the time"
    assert decode(NEW_OPEN) == Open(bytes(range(16)), 5000)
    assert stamp(encode_open(bytes(range(16))), 5000) == NEW_OPEN
    commands.append(Command(None, None, 0, (9, Member("host:701", 501))))
    assert decode(NEW_REQUESTS) == Requests(7, 3, 2, commands, 5000)
    assert stamp(encode_requests(7, 3, 2, commands), 5000) == NEW_REQUESTS
    assert decode(NEW_CLOCK) == Clock(5000)
    assert encode_clock(5000) == NEW_CLOCK


@pytest.mark.parametrize(
    "data",
    [
        OLD_REQUESTS[:1] + NEW_REQUESTS[1:],
        b"\x01\x03",  # a clock, of a version that had none
        OLD_REQUESTS[:26] + b"\x01\x00\x00\x00" + NEW_REQUESTS[-29:],  # a member likewise
        NEW_CLOCK + b"\x00",
        NEW_OPEN + b"\x00",
        NEW_CLOCK[:-1],
        NEW_REQUESTS[:9] + b"\x80" + NEW_REQUESTS[10:],  # a time that no clock tells
        NEW_REQUESTS[:-1] + b"\xff",  # an address that is no text
        NEW_REQUESTS[:-9] + b"\x00\x00\x01\x00" + NEW_REQUESTS[-8:],
    ],
)
def test_what_no_version_ever_wrote_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode(data)


def test_an_address_longer_than_any_is_refused() -> None:
    data = encode_requests(1, 1, 1, [Command(None, None, 0, (9, Member("x" * 513, 1)))])
    with pytest.raises(WireError, match="513 bytes"):
        decode(data)


HEADS = [b"\x01\x02", b"\x02\x02" + bytes(8), b"\x02\x01", b"\x02\x03"]


@given(st.binary(max_size=80) | st.tuples(st.sampled_from(HEADS), st.binary(max_size=80)).map(b"".join))
def test_hostile_bytes_are_a_wire_error_and_nothing_else(data: bytes) -> None:
    try:
        found = decode(data)
    except WireError:
        return
    assert envelope.is_envelope(data)
    assert isinstance(found, (Clock, Open, Requests))


@given(COMMANDS.filter(bool), st.data())
def test_a_damaged_entry_is_never_half_understood(commands: list[Command], data: st.DataObject) -> None:
    whole = encode_requests(1, 2, 3, commands)
    with pytest.raises(WireError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(WireError):
        decode(whole + b"\x00")


def test_a_count_that_cannot_be_is_refused_before_anything_is_made_of_it() -> None:
    head = bytearray(encode_requests(1, 1, 1, []))
    head[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(WireError, match="do not fit"):
        decode(bytes(head))


def test_an_unknown_kind_or_version_is_refused() -> None:
    data = bytearray(encode_requests(1, 1, 1, [Command(None)]))
    data[-1] = 9
    with pytest.raises(WireError, match="unknown kind 9"):
        decode(bytes(data))
    data[0] = 3
    assert not envelope.is_envelope(bytes(data))
    with pytest.raises(WireError, match="no entry of a server"):
        decode(bytes(data))
