"""The snapshot of a server: what is written is what is restored; what is damaged changes nothing."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.support import Answers, Recorder

from raft_io import CommandError, RaftError, SessionExpiredError, SnapshotData, StorageError
from raft_io.server import snapshots
from raft_io.server.envelope import Member
from raft_io.server.sessions import Place, Result, Sessions, State
from raft_io.server.snapshots import Capture, Snapshots, restore


def write(state: State, machine: Callable[[BinaryIO], None]) -> bytes:
    sink = io.BytesIO()
    Capture(7, state, machine).write(sink)
    return sink.getvalue()


def crc(data: bytes) -> bytes:
    checksum: int = google_crc32c.value(data)
    return checksum.to_bytes(4, "little")


class Paged(SnapshotData):
    """Contents that are not in memory: every read is counted."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.checksum = 0
        self.largest = 0

    def read(self, offset: int, size: int, /) -> bytes:
        self.largest = max(self.largest, size)
        return self.data[offset : offset + size]


FULL = State(
    [
        (5, b"a nonce of its's", 2, {2: [b"two", CommandError("no")], 3: [SessionExpiredError()]}),
        (4, bytes(16), 0, {}),
    ],
    [(b"k", (9, b"value")), (b"", (10, CommandError("never")))],
    [b"", (5, 2), b"k"],
    6,
    1234,
    {1: Member("höst:701", 0), 2: Member("host:702", 2**64 - 1)},
)

# As it was first written: sessions had no nonces.
SAMPLE_1 = bytes.fromhex(
    "726166742d696f3d01000000d20400000000000006000000000000000200000005000000000000000200000000000000"
    "02000000020000000000000002000000000300000074776f01020000006e6f0300000000000000010000000204000000"
    "0000000000000000000000000000000002000000010000006b0900000000000000000500000076616c7565000000000a"
    "0000000000000001050000006e6576657203000000010100000000050000000000000002000000000000000100000000"
    "02000000010000000000000000000000000000000900000068c3b673743a3730310200000000000000ffffffffffffff"
    "ff08000000686f73743a3730324891f9a5"
)

# As it is now.
SAMPLE = bytes.fromhex(
    "726166742d696f3d02000000d204000000000000060000000000000002000000050000000000000061206e6f6e636520"
    "6f66206974732773020000000000000002000000020000000000000002000000000300000074776f01020000006e6f03"
    "000000000000000100000002040000000000000000000000000000000000000000000000000000000000000000000000"
    "02000000010000006b0900000000000000000500000076616c7565000000000a0000000000000001050000006e657665"
    "720300000001010000000005000000000000000200000000000000010000000002000000010000000000000000000000"
    "000000000900000068c3b673743a3730310200000000000000ffffffffffffffff08000000686f73743a3730327cb855"
    "44"
)


def test_what_is_written_is_restored() -> None:
    machine, other = Recorder(), Recorder()
    machine.history = [b"a", b"b"]
    data = write(FULL, machine.capture())
    for form in (data, Paged(data)):
        sessions = Sessions(other)
        restore(form, sessions, other)
        assert repr(sessions.capture()) == repr(FULL)
        assert (other.history, sessions.members_changed) == ([b"a", b"b"], True)
        assert write(sessions.capture(), other.capture()) == data


def test_every_version_that_was_ever_written_is_restored() -> None:
    machine = Recorder()
    sessions = Sessions(machine)
    restore(SAMPLE, sessions, machine)
    assert repr(sessions.capture()) == repr(FULL)
    assert write(FULL, machine.capture()) == SAMPLE
    restore(SAMPLE_1, sessions, machine)
    bare = [(number, bytes(16), floor, results) for number, _, floor, results in FULL.sessions]
    assert repr(sessions.capture()) == repr(replace(FULL, sessions=bare))


def test_a_large_state_is_written_and_read_in_blocks() -> None:
    class Large(Recorder):
        def capture(self) -> Callable[[BinaryIO], None]:
            return lambda stream: stream.writelines(bytes([n]) * 1_000_000 for n in range(5))

        def restore(self, stream: BinaryIO) -> None:
            for n in range(5):
                assert stream.read(1_000_000) == bytes([n]) * 1_000_000
            assert stream.read() == b""

    class Sink:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, data: bytes, /) -> int:
            assert isinstance(data, bytes)
            self.parts.append(data)
            return len(data)

    machine = Large()
    sink = Sink()
    pauses: list[None] = []
    Capture(7, FULL, machine.capture()).write(sink, lambda: pauses.append(None))
    assert max(len(part) for part in sink.parts) <= snapshots.PIECE
    assert len(pauses) == len(sink.parts) - 1
    data = Paged(b"".join(sink.parts))
    restore(data, Sessions(machine), machine)
    assert data.largest <= 1_000_000


def test_a_machine_may_read_its_part_twice() -> None:
    class Twice(Recorder):
        def restore(self, stream: BinaryIO) -> None:
            assert stream.seekable()
            start = stream.tell()
            whole = stream.read()
            assert stream.seek(-len(whole), io.SEEK_END) == start
            super().restore(stream)
            assert stream.seek(0, io.SEEK_CUR) == start + len(whole)
            assert stream.read() == b""

    first, second = Recorder(), Twice()
    first.history = [b"a", b"b"]
    restore(write(FULL, first.capture()), Sessions(second), second)
    assert second.history == [b"a", b"b"]


def test_a_machine_may_use_the_stream_as_any_other() -> None:
    class Pickled(Recorder):
        def capture(self) -> Callable[[BinaryIO], None]:
            return lambda stream: pickle.dump({"a": [1, 2]}, stream)

        def restore(self, stream: BinaryIO) -> None:
            assert pickle.load(stream) == {"a": [1, 2]}  # noqa: S301 - what this test wrote
            assert stream.readline() == b""

    machine = Pickled()
    restore(write(FULL, machine.capture()), Sessions(machine), machine)


RESULTS: st.SearchStrategy[Result] = (
    st.binary(max_size=9)
    | st.builds(CommandError, st.text(max_size=9))
    | st.builds(SessionExpiredError)
    | st.builds(CommandError, st.just("\ud800"))
)
NUMBERS = st.integers(0, 2**63 - 1)
SESSIONS = st.dictionaries(
    NUMBERS,
    st.tuples(NUMBERS, st.dictionaries(NUMBERS, st.lists(RESULTS, max_size=3), max_size=3)),
    max_size=3,
)
KEYS = st.dictionaries(st.binary(max_size=9), st.tuples(NUMBERS, RESULTS), max_size=4)
TABLE = st.dictionaries(
    NUMBERS, st.builds(Member, st.text(max_size=9), st.integers(0, 2**64 - 1)), max_size=3
)


@given(SESSIONS, KEYS, NUMBERS, NUMBERS, TABLE, st.binary(max_size=50), st.data())
def test_any_state_comes_back(
    open_sessions: dict[int, tuple[int, dict[int, list[Result]]]],
    keys: dict[bytes, tuple[int, Result]],
    horizon: int,
    time: int,
    members: dict[int, Member],
    rest: bytes,
    data: st.DataObject,
) -> None:
    listed = [
        (number, number.to_bytes(16, "big"), floor, results)
        for number, (floor, results) in open_sessions.items()
    ]
    places: list[Place] = [
        *keys,
        *[(number, sequence) for number, _, _, results in listed for sequence in results],
    ]
    kept = data.draw(st.lists(st.sampled_from(places), unique=True) if places else st.just([]))
    state = State(listed, list(keys.items()), kept, horizon, time, dict(sorted(members.items())))
    whole = write(state, lambda stream: stream.writelines([rest]))

    class Rest(Recorder):
        def restore(self, stream: BinaryIO) -> None:
            assert stream.read() == rest

    sessions = Sessions(Rest())
    restore(whole, sessions, Rest())
    assert repr(sessions.capture()) == repr(state)


def untouched(data: bytes, match: str) -> None:
    """Restoring `data` fails, says why, and has changed nothing."""
    machine = Recorder()
    machine.history = [b"before"]
    sessions = Sessions(machine)
    sessions.restore(FULL)
    with pytest.raises(StorageError, match=match):
        restore(data, sessions, machine)
    assert machine.history == [b"before"]
    assert repr(sessions.capture()) == repr(FULL)


WHOLE = write(FULL, Recorder().capture())


@pytest.mark.parametrize("place", [12, 40, len(WHOLE) - 5, len(WHOLE) - 1])
def test_a_damaged_byte_is_found_before_anything_changes(place: int) -> None:
    data = bytearray(WHOLE)
    data[place] ^= 1
    untouched(bytes(data), "damaged: its checksum does not match")


@pytest.mark.parametrize("size", [0, 15])
def test_a_snapshot_that_ends_early_is_none(size: int) -> None:
    untouched(WHOLE[:size], f"{size} bytes are no snapshot")


def test_contents_that_are_shorter_than_they_say_are_refused() -> None:
    data = Paged(WHOLE)
    data.data = WHOLE[:-2]
    machine = Recorder()
    with pytest.raises(StorageError, match=f"ends at byte {len(WHOLE) - 2}, not at {len(WHOLE)}"):
        restore(data, Sessions(machine), machine)


def test_what_is_no_snapshot_and_what_is_a_newer_one_is_told_apart() -> None:
    untouched(b"something else entirely", "no snapshot of a server")
    newer = WHOLE[:8] + b"\x03" + WHOLE[9:]
    untouched(newer, "version 3 of a newer release; this one reads up to 2")


def test_a_machine_that_refuses_its_part_leaves_all_as_it_was() -> None:
    untouched(write(FULL, lambda stream: stream.writelines([b"no digits"])), "no hexadecimal digits")


def resealed(place: int, old: bytes, new: bytes) -> bytes:
    """A stream that was written wrong: its checksum matches."""
    at = WHOLE.index(old, place)
    body = WHOLE[:at] + new + WHOLE[at + len(old) : -4]
    return body + crc(body)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"\x00\x03\x00\x00\x00two", b"\x07\x03\x00\x00\x00two", "a result of unknown kind 7"),
        (b"\x03\x00\x00\x00two", b"\xff\xff\xff\xfftwo", "a piece of 4294967295 bytes"),
        (b"\x01\x05\x00\x00\x00never", b"\x01\xff\xff\xff\x00never", "ends early"),
        (b"\x01\x05\x00\x00\x00never", b"\x01\x05\x00\x00\x00neve\xff", "not UTF-8"),
        (b"\x01\x01\x00\x00\x00\x00\x05", b"\x01\x09\x00\x00\x00\x00\x05", "results that are not there"),
        (b"\x01\x01\x00\x00\x00\x00\x05", b"\x02\x01\x00\x00\x00\x00\x05", "results that are not there"),
        (b"\x01\x01\x00\x00\x00\x00\x05", b"\x01\x01\x00\x00\x00\x00\x06", "results that are not there"),
    ],
)
def test_what_was_written_wrong_is_refused(old: bytes, new: bytes, match: str) -> None:
    untouched(resealed(0, old, new), match)


@pytest.mark.parametrize("end", range(20, len(WHOLE) - 4, 3))
def test_a_state_that_is_cut_off_is_refused(end: int) -> None:
    body = WHOLE[:end]
    untouched(body + crc(body), "storage error")


def test_a_writer_that_fails_leaves_no_snapshot_and_no_more() -> None:
    def fails(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(FULL, fails)


# Asking.


def waiters(desk: Snapshots) -> None:
    answers, desk.answers = desk.answers, []
    for waiter, succeeded, value in answers:
        if succeeded:
            waiter.succeeded(value)
        else:
            waiter.failed(value)


def asked(desk: Snapshots) -> Answers:
    waiter = Answers()
    desk.ask(waiter)
    return waiter


def test_whoever_asks_before_the_capture_gets_its_index_once_it_is_durable() -> None:
    desk = Snapshots()
    a, b = asked(desk), asked(desk)
    assert (desk.due, desk.asking) == (True, 2)
    desk.begin(7)
    late = asked(desk)
    desk.saved()
    desk.durable(2)
    waiters(desk)
    assert desk.settling and desk.due and not a.done, "that sync began before"
    desk.drained(3)
    desk.drained(4)
    desk.durable(2)
    waiters(desk)
    assert not a.done
    desk.durable(3)
    waiters(desk)
    assert (a.value, b.value, late.done) == (7, 7, False)
    desk.begin(9)
    desk.saved()
    desk.drained(0)
    waiters(desk)
    assert late.value == 9, "a later one was there: nothing had to be made durable"
    assert not desk.settling


def test_a_capture_that_fails_is_told_to_who_asked_for_it() -> None:
    desk = Snapshots()
    a = asked(desk)
    desk.begin(7)
    late = asked(desk)
    desk.failed(RaftError("no"))
    waiters(desk)
    assert str(a.error) == "no"
    assert (late.done, desk.due, desk.index) == (False, True, 0)


def test_when_nothing_is_new_the_last_one_is_the_answer() -> None:
    desk = Snapshots()
    desk.ask(None)
    a = asked(desk)
    desk.there_already(5)
    waiters(desk)
    assert (a.value, desk.due) == (5, False)


def test_everybody_is_told_of_the_end() -> None:
    desk = Snapshots()
    saved = asked(desk)
    desk.begin(1)
    desk.saved()
    desk.drained(5)
    fresh = asked(desk)
    desk.begin(2)
    desk.saved()
    writing = asked(desk)
    desk.begin(3)
    asking = asked(desk)
    desk.abandon(RaftError("the end"))
    waiters(desk)
    assert [str(waiter.error) for waiter in (saved, fresh, writing, asking)] == ["the end"] * 4
