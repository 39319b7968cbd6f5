"""Frames out of a stream of bytes, and greetings."""

from __future__ import annotations

import itertools
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.text(max_size=30), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_greeting_comes_back_as_it_was(cluster_id: str, node: int, incarnation: int) -> None:
    greeting = Greeting(cluster_id, node, incarnation)
    [(kind, body)] = Frames().feed(greeting.encode(frames.HELLO))
    assert kind == frames.HELLO
    assert Greeting.decode(body) == greeting


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"raft-io\0\x01\x00" + tail))
def test_a_hostile_greeting_is_a_wire_error_and_nothing_else(data: bytes) -> None:
    try:
        Greeting.decode(data)
    except WireError:
        return


def test_a_greeting_says_what_is_wrong_with_it() -> None:
    whole = Greeting("c", 1, 2).encode(frames.HELLO)[5:]
    for body, reason in [
        (whole[:20], "ends early"),
        (b"x" + whole[1:], "no raft-io server"),
        (Greeting("c", 1, 2, version=9).encode(frames.HELLO)[5:], "protocol version 9; this side speaks 1"),
        (whole + b"\xff", "not UTF-8"),
    ]:
        with pytest.raises(WireError, match=reason):
            Greeting.decode(body)


def test_a_refusal_comes_back_as_it_was_and_no_other_length_passes() -> None:
    [(kind, body)] = Frames().feed(frames.encode_refused(7, 2**64 - 1))
    assert (kind, frames.decode_refused(body)) == (frames.REFUSED, (7, 2**64 - 1))
    for wrong in (b"", body[:-1], body + b"\x00"):
        with pytest.raises(WireError):
            frames.decode_refused(wrong)
