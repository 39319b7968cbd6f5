"""The entries of the log: round trips, and hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io import WireError
from raft_io.server import envelope
from raft_io.server.envelope import Command, Open, Requests, decode, encode_open, encode_requests

U64 = st.integers(0, 2**64 - 1)
PLAIN = st.builds(Command, st.none() | st.binary(max_size=40))
KEYED = st.builds(Command, st.binary(max_size=40), st.binary(max_size=20), U64)
COMMANDS = st.lists(PLAIN | KEYED, max_size=8)


@given(U64, U64, U64, COMMANDS)
def test_requests_come_back_as_they_were(
    session: int, sequence: int, floor: int, commands: list[Command]
) -> None:
    data = encode_requests(session, sequence, floor, commands)
    assert envelope.is_envelope(data)
    assert envelope.peek(data) == (session, sequence)
    found = decode(data)
    assert found == Requests(session, sequence, floor, commands)
    assert encode_requests(found.session, found.sequence, found.floor, found.commands) == data


@given(st.binary(min_size=16, max_size=16))
def test_an_opening_comes_back_as_it_was(nonce: bytes) -> None:
    data = encode_open(nonce)
    assert envelope.is_envelope(data)
    assert envelope.peek(data) == (0, 0)
    assert decode(data) == Open(nonce)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"\x01\x02" + tail))
def test_hostile_bytes_are_a_wire_error_and_nothing_else(data: bytes) -> None:
    try:
        found = decode(data)
    except WireError:
        return
    assert envelope.is_envelope(data)
    assert isinstance(found, (Open, Requests))


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
    data[0] = 2
    assert not envelope.is_envelope(bytes(data))
    with pytest.raises(WireError, match="no entry of a server"):
        decode(bytes(data))
