"""Frames out of a stream of bytes, and greetings."""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raft_io
from raft_io import WireError
from raft_io.server import frames
from raft_io.server.frames import Frames, Greeting

FRAME = st.tuples(st.integers(0, 255), st.binary(max_size=60))


@given(st.lists(FRAME, max_size=6), st.lists(st.integers(0, 400), max_size=12))
def test_frames_come_out_whole_wherever_the_stream_is_cut(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(frames.encode(kind, body) for kind, body in sent)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    reader = Frames()
    found: list[tuple[int, bytes]] = []
    for start, end in itertools.pairwise(places):
        found += reader.feed(stream[start:end])
    assert found == sent


def test_frames_come_out_byte_by_byte() -> None:
    sent = [(1, b""), (2, b"x"), (3, b"y" * 300)]
    reader = Frames()
    found: list[tuple[int, bytes]] = []
    for byte in b"".join(frames.encode(kind, body) for kind, body in sent):
        found += reader.feed(bytes([byte]))
    assert found == sent


def test_a_frame_at_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert Frames(10).feed(frames.encode(7, b"x" * 9)) == [(7, b"x" * 9)]
    with pytest.raises(WireError, match="a frame of 11 bytes; 1 to 10 are accepted"):
        Frames(10).feed(frames.encode(7, b"x" * 10))
    with pytest.raises(WireError):
        Frames(10).feed(struct.pack("<IB", 0, 1))


def test_a_huge_frame_is_refused_by_its_head_alone() -> None:
    reader = Frames(frames.MAX_FRAME)
    assert reader.feed(struct.pack("<I", 2**32 - 1)) == []
    with pytest.raises(WireError):
        reader.feed(b"\x04")


def test_the_limit_may_be_raised_between_two_frames() -> None:
    reader = Frames()
    assert reader.feed(frames.encode(1, b"hello")) == [(1, b"hello")]
    reader.limit = 4096
    assert reader.feed(frames.encode(2, b"x" * 4000)) == [(2, b"x" * 4000)]


def seconds_for(size: int) -> float:
    body = bytes(size)
    stream = memoryview(frames.encode(4, body))
    reader = Frames(frames.MAX_FRAME)
    began = time.perf_counter()
    found: list[tuple[int, bytes]] = []
    for start in range(0, len(stream), 1024):
        found += reader.feed(bytes(stream[start : start + 1024]))
    took = time.perf_counter() - began
    assert found == [(4, body)]
    return took


def test_a_large_frame_in_small_pieces_takes_time_in_proportion() -> None:
    # Copying what is there with every piece would move 2 TB for the larger one: minutes.
    assert seconds_for(frames.MAX_FRAME - 1) < 5


GREETING = st.builds(
    Greeting,
    st.text(max_size=30),
    st.integers(0, 2**63 - 1),
    st.integers(1, 2**63 - 1),
    st.text(max_size=30),
    st.booleans(),
)


@given(GREETING)
def test_a_greeting_comes_back_as_it_was(greeting: Greeting) -> None:
    [(kind, body)] = Frames().feed(greeting.encode(frames.HELLO))
    assert kind == frames.HELLO
    assert Greeting.decode(body) == greeting
    for learner in (False, True):
        [(kind, body)] = Frames().feed(frames.encode_join(greeting, learner))
        assert (kind, frames.decode_join(body)) == (frames.JOIN, (greeting, learner))


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"raft-io\0\x02\x00" + tail))
def test_a_hostile_greeting_is_a_wire_error_and_nothing_else(data: bytes) -> None:
    try:
        Greeting.decode(data)
    except WireError:
        return


OLD = bytes.fromhex("726166742d696f000100010000000000000005000000000000007261667420") + b"io"
"""What version 0.4 sends."""


def test_a_greeting_says_what_is_wrong_with_it() -> None:
    whole = Greeting("c", 1, 2, "h:1").pack()
    assert Greeting.decode(whole).address == "h:1"
    for body, reason in [
        (whole[:9], "ends early"),
        (whole[:20], "ends early"),
        (whole[:30], "ends early"),
        (b"x" + whole[1:], "no raft-io server"),
        (
            Greeting("c", 1, 2, "", version=9).pack(),
            "version 9 is newer than 2.*upgrade raft-io on this side",
        ),
        (OLD, "version 1 is older than 2.*upgrade raft-io on the other side"),
        (whole + b"\xff", "not UTF-8"),
        (whole[:26] + b"\x02" + whole[27:], "a flag must be 0 or 1, not 2"),
        (Greeting("c", 2**63, 2, "").pack(), "there is none such"),
        (Greeting("c", 1, 0, "").pack(), "there is none such"),
        (Greeting("c", 1, 2**63, "").pack(), "there is none such"),
    ]:
        with pytest.raises(WireError, match=reason):
            Greeting.decode(body)


def test_a_refusal_comes_back_as_it_was_and_no_other_length_passes() -> None:
    [(kind, body)] = Frames().feed(frames.encode_refused(7, 2**64 - 1))
    assert (kind, frames.decode_refused(body)) == (frames.REFUSED, (7, 2**64 - 1))
    for wrong in (b"", body[:-1], body + b"\x00"):
        with pytest.raises(WireError):
            frames.decode_refused(wrong)


JSON = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=4)


@given(st.integers(0, 2**64 - 1), st.integers(0, 255), JSON)
def test_calls_and_answers_come_back_as_they_were(
    number: int, operation: int, fields: dict[str, Any]
) -> None:
    [(kind, body)] = Frames(1 << 20).feed(frames.encode_call(number, operation, fields))
    assert (kind, frames.decode_call(body)) == (frames.CALL, (number, operation, fields))
    [(kind, body)] = Frames(1 << 20).feed(frames.encode_reply(number, fields))
    assert (kind, frames.decode_reply(body)) == (frames.REPLY, (number, fields))


ROW = st.tuples(st.text(max_size=9), st.integers(0, 2**63 - 1))


@given(st.integers(0, 2**64 - 1), st.dictionaries(st.integers(0, 2**63 - 1), ROW, max_size=5))
def test_a_table_of_members_comes_back_as_it_was(index: int, table: dict[int, tuple[str, int]]) -> None:
    [(kind, body)] = Frames(1 << 20).feed(frames.encode_members(index, table))
    assert (kind, frames.decode_members(body)) == (frames.MEMBERS, (index, table))


def test_a_notice_of_removal_comes_back_as_it_was_and_no_other_length_passes() -> None:
    [(kind, body)] = Frames().feed(frames.encode_removed(2**64 - 1))
    assert (kind, frames.decode_removed(body)) == (frames.REMOVED, 2**64 - 1)
    for wrong in (b"", body[:-1], body + b"\x00"):
        with pytest.raises(WireError, match="a notice of removal of the wrong length"):
            frames.decode_removed(wrong)


TAILS = st.binary(max_size=40) | st.sampled_from(
    [
        b"{}",
        b"[]",
        b"3",
        b"{",
        b"[" * 100_000,
        b'{"1": ["a"]}',
        b'{"1": [1, 1]}',
        b'{"1": ["a", true]}',
        b'{"1": ["a", -1]}',
        b'{"1": ["a", 9223372036854775808]}',
        b'{"x": ["a", 1]}',
        b'{"99999999999999999999": ["a", 1]}',
        '{"\u0663": ["a", 1]}'.encode(),
        b"\xff",
        b" " * (frames.MAX_JSON + 1),
    ]
)


@given(st.binary(max_size=20), TAILS)
def test_hostile_bodies_are_wire_errors_and_nothing_else(head: bytes, tail: bytes) -> None:
    for decode in (frames.decode_call, frames.decode_reply, frames.decode_members, frames.decode_join):
        for data in (head + tail, bytes(8) + tail, bytes(9) + tail):
            with contextlib.suppress(WireError):
                decode(data)


def test_what_is_wrong_with_a_body_is_said() -> None:
    for body, reason in [
        (bytes(7), "ends early"),
        (bytes(8) + b"{", "no JSON"),
        (bytes(8) + b"[]", "no JSON object"),
        (bytes(8) + b" " * (frames.MAX_JSON + 1), "1048577 bytes of JSON; at most 1048576"),
    ]:
        with pytest.raises(WireError, match=reason):
            frames.decode_members(body)
    for text in (
        b'{"x": ["a", 1]}',
        b'{"1": ["a", 1.5]}',
        b'{"1": ["a", 1, 2]}',
        b'{"99999999999999999999": 1}',
    ):
        with pytest.raises(WireError, match="makes no sense"):
            frames.decode_members(bytes(8) + text)
    for body in (b"", b"\x02" + Greeting("c", 1, 2, "h:1").pack()):
        with pytest.raises(WireError, match="a request to join that makes no sense"):
            frames.decode_join(body)


def test_pieces_of_snapshots_and_counted_replies_are_told_apart_from_the_rest() -> None:
    bulk = {raft_io.InstallSnapshot}
    counted = {
        raft_io.PreVoteReply,
        raft_io.RequestVoteReply,
        raft_io.AppendEntriesReply,
        raft_io.InstallSnapshotReply,
    }
    for kind in get_args(raft_io.Message):
        body = raft_io.wire.encode(SAMPLES[kind])
        assert frames.is_bulk(frames.encode(frames.MESSAGE, body)) == (kind in bulk)
        assert not frames.is_bulk(frames.encode(frames.FORWARD, body))
        assert frames.is_counted(body) == (kind in counted)
    assert not frames.is_bulk(frames.encode(frames.MESSAGE, b""))
    assert not frames.is_counted(b"")


SAMPLES: dict[type, Any] = {
    type(each): each
    for each in (
        raft_io.PreVote(1, 2, 3, 4),
        raft_io.PreVoteReply(1, True, 2),
        raft_io.RequestVote(1, 2, 3, 4),
        raft_io.RequestVoteReply(1, True, 2),
        raft_io.AppendEntries(1, 2, 3, 4, (), 5),
        raft_io.AppendEntriesReply(1, True, 2, 3),
        raft_io.InstallSnapshot(1, 2, 3, 1, raft_io.Membership([1]), 0, b"x", True),
        raft_io.InstallSnapshotReply(1, 2, 3, 4),
        raft_io.TimeoutNow(1, 2),
        raft_io.ReadIndexRequest(1, 2, b"c"),
        raft_io.ReadIndexReply(1, b"c", 2),
    )
}
