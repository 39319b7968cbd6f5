"""The codec's versions: what stays in the first, what came with the second; a later one is refused."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.samples import KINDS, VERSION_1, VERSION_2, crafted, ids, messages, numbers
from tests.support import LATER, MESSAGES, TOP

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    LogEntry,
    Membership,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    WireError,
    wire,
)

pytestmark = pytest.mark.core

OLD = (RequestVote, RequestVoteReply, AppendEntries, AppendEntriesReply)
"""The messages that version 1 had."""


def says_more(message: Message) -> bool:
    """Whether version 1 could not say this."""
    if isinstance(message, RequestVote):
        return message.force
    if isinstance(message, (AppendEntries, AppendEntriesReply)):
        return message.round != 0
    return not isinstance(message, OLD)


# Versions.


def test_this_side_speaks_two_versions() -> None:
    assert wire.VERSION == 2
    assert all(hexes.startswith("01") for _, hexes in VERSION_1)
    assert all(hexes.startswith("02") for _, hexes in VERSION_2)


@given(messages)
def test_the_version_is_the_first_byte_and_the_lowest_that_can_say_it(message: Message) -> None:
    assert wire.encode(message)[0] == (2 if says_more(message) else 1)
    assert wire.encode(message)[1] == KINDS[type(message)]


@pytest.mark.parametrize("version", [0, 3, 4, 127, 128, 255])
@pytest.mark.parametrize("message", [*MESSAGES, *LATER], ids=lambda message: type(message).__name__)
def test_a_version_that_is_not_spoken_is_refused_by_name(message: Message, version: int) -> None:
    data = bytes([version]) + wire.encode(message)[1:]
    with pytest.raises(WireError, match=f"version {version} is unknown; this side speaks 1 to 2"):
        wire.decode(data)


@pytest.mark.parametrize("kind", [0, *range(5, 12), 12, 99, 255])
def test_a_type_that_version_1_did_not_have_is_refused_there(kind: int) -> None:
    with pytest.raises(WireError, match=f"a message of unknown type {kind}"):
        wire.decode(bytes([1, kind]) + bytes(80))


@pytest.mark.parametrize("kind", [0, 12, 13, 99, 255])
def test_an_unknown_type_is_refused(kind: int) -> None:
    with pytest.raises(WireError, match=f"a message of unknown type {kind}"):
        wire.decode(bytes([2, kind]) + bytes(80))


@pytest.mark.parametrize(("message", "frozen"), VERSION_2[3:], ids=lambda value: type(value).__name__)
def test_a_new_message_said_in_version_1_is_refused(message: Message, frozen: str) -> None:
    assert wire.decode(bytes.fromhex(frozen)) == message
    with pytest.raises(WireError):
        wire.decode(bytes.fromhex("01" + frozen[2:]))


# A message of version 2 that says nothing new has another encoding already.


@pytest.mark.parametrize(
    "message",
    [AppendEntries(5, 2, 7, 4, [LogEntry(4, 8, b"x")], 6, 3), AppendEntriesReply(5, True, 2, 8, 0, 0, 3)],
)
def test_a_round_of_0_in_version_2_is_refused(message: Message) -> None:
    data = wire.encode(message)
    place = data.rindex(b"\x03" + bytes(7))
    changed = data[:place] + bytes(8) + data[place + 8 :]
    with pytest.raises(WireError, match="a message of version 2 that says nothing version 1 could not"):
        wire.decode(changed)


def test_a_vote_in_version_2_is_forced() -> None:
    plain, forced = RequestVote(5, 2, 7, 4), RequestVote(5, 2, 7, 4, force=True)
    assert wire.encode(plain)[1:] == wire.encode(forced)[1:]
    assert wire.decode(b"\x02" + wire.encode(plain)[1:]) == forced
    assert wire.decode(b"\x01" + wire.encode(forced)[1:]) == plain


def test_a_reply_to_a_vote_has_no_version_2() -> None:
    with pytest.raises(WireError, match="a message of unknown type 2"):
        wire.decode(b"\x02" + wire.encode(RequestVoteReply(5, True, 2))[1:])


@given(messages)
def test_no_message_has_two_encodings(message: Message) -> None:
    data = wire.encode(message)
    other = bytes([3 - data[0]]) + data[1:]
    with contextlib.suppress(WireError):
        assert wire.decode(other) != message


# The new messages, field by field.


def test_a_flag_of_a_snapshot_is_0_or_1() -> None:
    data = bytearray(wire.encode(InstallSnapshot(5, 2, 9, 4, Membership([1]), 0, b"abc", True)))
    place = len(data) - 3 - 4 - 1
    assert data[place] == 1
    data[place] = 0
    decoded = wire.decode(bytes(data))
    assert isinstance(decoded, InstallSnapshot) and decoded.done is False
    for flag in (2, 128, 255):
        data[place] = flag
        with pytest.raises(WireError, match=f"a flag must be 0 or 1, not {flag}"):
            wire.decode(bytes(data))


@pytest.mark.parametrize(
    ("message", "places"),
    [
        (PreVote(5, 2, 7, 4), (2, 10, 18, 26)),
        (PreVoteReply(5, True, 2), (2, 11)),
        (TimeoutNow(5, 2, 8), (2, 10, 18)),
        (ReadIndexRequest(5, 2, b"read"), (2, 10)),
        (ReadIndexReply(5, b"read", 7), (2, 18)),
        (InstallSnapshot(5, 2, 9, 4, Membership([1]), 0, b"", True), (2, 10, 18, 26, 59, 67, 75)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_over_the_range_are_refused(message: Message, places: tuple[int, ...]) -> None:
    good = wire.encode(message)
    for place in places:
        bad = bytearray(good)
        bad[place + 7] |= 0x80
        with pytest.raises(WireError, match=f"a number at byte {place} is over"):
            wire.decode(bytes(bad))


def install(membership: bytes, data: bytes = b"") -> bytes:
    """An `InstallSnapshot` with these bytes where its membership stands."""
    head = b"\x02\x07" + b"".join(number.to_bytes(8, "little") for number in (5, 2, 9, 4))
    tail = bytes(24) + b"\x01" + len(data).to_bytes(4, "little") + data
    return head + len(membership).to_bytes(4, "little") + membership + tail


@pytest.mark.parametrize(
    "membership",
    [
        b"",
        b"\0" + bytes(12),
        b"\x02" + bytes(12),
        b"\x01" + bytes(11),
        b"\x01" + bytes(13),
        b"\x01\x01\0\0\0" + bytes(8),
        b"\x01\x02\0\0\0" + b"\x01" + bytes(7) + b"\x01" + bytes(7) + bytes(8),
        b"\x01\x02\0\0\0" + b"\x02" + bytes(7) + b"\x01" + bytes(7) + bytes(8),
        b"\x01\x01\0\0\0" + b"\xff" * 8 + bytes(8),
        b"\x01\xff\xff\xff\xff" + bytes(16),
    ],
)
def test_a_membership_that_is_none_is_refused(membership: bytes) -> None:
    with pytest.raises(WireError, match="a membership"):
        wire.decode(install(membership))


def test_a_membership_without_voters_can_be_said() -> None:
    """The codec knows no rules of the protocol; the core drops it."""
    decoded = wire.decode(install(b"\x01" + bytes(12), b"abc"))
    assert decoded == InstallSnapshot(5, 2, 9, 4, Membership(()), 0, b"abc", True)


@given(ids, ids, ids)
def test_a_membership_is_said_in_ascending_order(
    voters: frozenset[int], learners: frozenset[int], outgoing: frozenset[int]
) -> None:
    one = Membership(sorted(voters), sorted(learners), sorted(outgoing))
    two = Membership(*[sorted(group, reverse=True) for group in (voters, learners, outgoing)])
    encoded = [wire.encode(InstallSnapshot(1, 2, 3, 1, m, 0, b"", True)) for m in (one, two)]
    assert encoded[0] == encoded[1]


@given(st.binary(max_size=300), numbers)
def test_contexts_and_contents_are_opaque(data: bytes, number: int) -> None:
    for message in (
        ReadIndexRequest(number, 2, data),
        ReadIndexReply(number, data, 7),
        InstallSnapshot(number, 2, 9, 4, Membership([1]), 0, data, False),
    ):
        assert wire.decode(wire.encode(message)) == message


def test_a_piece_of_a_megabyte_comes_back() -> None:
    message = InstallSnapshot(5, 2, 9, 4, Membership([1]), 0, bytes(range(256)) * 4096, False, TOP, TOP)
    assert wire.decode(wire.encode(message)) == message


# Hostile input.


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x0a" + bytes(16) + b"\xff\xff\xff\x7f",
        b"\x02\x0b" + bytes(8) + b"\xff\xff\xff\x7f" + bytes(20),
        install(b"\x01\xff\xff\xff\x1f" + bytes(8)),
        b"\x02\x07" + bytes(32) + b"\xff\xff\xff\x7f" + bytes(50),
        b"\x02\x03" + bytes(40) + b"\x01" + bytes(7) + b"\xff\xff\xff\x7f" + bytes(21),
    ],
)
def test_a_small_message_that_claims_to_be_huge_allocates_little(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            wire.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", ["context", "membership", "data"])
def test_a_length_over_the_range_is_refused(place: str) -> None:
    bad = b"\xff\xff\xff\xff"
    data = {
        "context": b"\x02\x0a" + bytes(16) + bad,
        "membership": b"\x02\x07" + bytes(32) + bad + bytes(60),
        "data": install(b"\x01" + bytes(12))[:-4] + bad,
    }[place]
    with pytest.raises(WireError, match="a length at byte"):
        wire.decode(data)


@given(st.data())
def test_no_bytes_raise_anything_but_wire_error(source: st.DataObject) -> None:
    data = source.draw(st.composite(crafted)())
    with contextlib.suppress(WireError):
        assert wire.encode(wire.decode(data)) == data


@given(messages, messages, st.data())
def test_pieces_of_two_messages_are_no_third_encoding(
    one: Message, two: Message, data: st.DataObject
) -> None:
    """Whatever is spliced together either is refused or is the one encoding of what it says."""
    first, second = wire.encode(one), wire.encode(two)
    spliced = (
        first[: data.draw(st.integers(0, len(first)))] + second[data.draw(st.integers(0, len(second))) :]
    )
    with contextlib.suppress(WireError):
        assert wire.encode(wire.decode(spliced)) == spliced
