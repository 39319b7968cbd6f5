"""What `WalLog.open` makes of a log that was cut, flipped, mixed up or half written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google_crc32c import value

from raft_io.core.types import HardState, LogEntry
from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage import MemoryFileSystem, WalLog

PATH = "/log"
SEGMENT = 2048
FIRST = f"{PATH}/{1:016d}.wal"
SECOND = f"{PATH}/{2:016d}.wal"

Batch = tuple[list[LogEntry], HardState | None, int]
State = tuple[list[LogEntry], HardState]


def filled(batches: list[list[bytes]]) -> tuple[MemoryFileSystem, list[State], list[tuple[str, int, int]]]:
    """A log with one record a batch; the state after each; and where each is: file, first byte, end."""
    fs = MemoryFileSystem()
    states: list[State] = [([], HardState())]
    places: list[tuple[str, int, int]] = []
    with WalLog.open(PATH, fs=fs, segment_size=SEGMENT) as log:
        for number, commands in enumerate(batches, 1):
            start = log.last_index() + 1
            log.append([LogEntry(number, start + at, command) for at, command in enumerate(commands)])
            if number % 2:
                log.set_hard_state(HardState(number, 7))
            log.sync()
            segments = log._segments
            end = segments._offset
            begin = places[-1][2] if places and places[-1][0] == segments.active_path else 512
            places.append((segments.active_path, begin, end))
            states.append((list(log.entries(1, log.last_index())), log.hard_state()))
    return fs, states, places


def reopened(fs: MemoryFileSystem) -> State:
    with WalLog.open(PATH, fs=fs, segment_size=SEGMENT) as log:
        return list(log.entries(1, log.last_index())), log.hard_state()


def contents(fs: MemoryFileSystem, path: str) -> bytes:
    file = fs.open(path)
    return file.pread(file.size(), 0)


def replaced(fs: MemoryFileSystem, path: str, data: bytes) -> MemoryFileSystem:
    """A copy of the disk with other contents of one file."""
    other = fs.copy()
    other.open(path, create=True).pwrite(data, 0)
    return other.copy()


def usable(fs: MemoryFileSystem, expected: State) -> None:
    """The log opens to `expected`, takes more, and keeps it; opening it changes nothing more."""
    assert reopened(fs) == expected
    assert reopened(fs.copy()) == expected
    with WalLog.open(PATH, fs=fs, segment_size=SEGMENT, cache_bytes=0) as log:
        more = [LogEntry(99, log.last_index() + 1, b"more")]
        log.append(more)
        log.sync()
    assert reopened(fs) == (expected[0] + more, expected[1])


COMMANDS = [[b"a" * 30], [b"b" * 700, b"c" * 10], [b"d" * 400], [b"e" * 100, b"f"], [b"g" * 900]]


def test_a_log_cut_at_every_byte_keeps_every_record_before_the_cut() -> None:
    fs, states, places = filled(COMMANDS)
    assert [path for path, _, _ in places] == [FIRST] * 3 + [SECOND] * 2
    data = contents(fs, SECOND)
    for size in range(512, places[-1][2] + 40):
        whole = sum(1 for path, _, end in places if path == FIRST or end <= size)
        usable(replaced(fs, SECOND, data[:size]), states[whole])


def test_a_segment_that_is_not_the_last_may_not_be_cut() -> None:
    fs, _, places = filled(COMMANDS)
    data = contents(fs, FIRST)
    for size in range(places[2][2]):
        with pytest.raises(CorruptLogError) as caught:
            reopened(replaced(fs, FIRST, data[:size]))
        assert caught.value.path in (FIRST, SECOND) and caught.value.offset <= size


def test_a_segment_cut_inside_its_header_is_corrupt() -> None:
    fs, _, _ = filled(COMMANDS)
    for size in (0, 1, 100, 511):
        with pytest.raises(CorruptLogError, match="cut off") as caught:
            reopened(replaced(fs, SECOND, contents(fs, SECOND)[:size]))
        assert (caught.value.path, caught.value.offset) == (SECOND, size)


FLIPS: list[Callable[[int], int]] = [
    lambda byte: byte ^ 0xFF,
    lambda byte: byte ^ 0x01,
    lambda byte: byte ^ 0x80,
    lambda byte: 0 if byte else 0xFF,
]


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize(
    "batches",
    [
        COMMANDS,
        [[bytes(60)], [bytes(700), bytes(10)], [bytes(400)], [bytes(100), b"f"], [bytes(900), bytes(30)]],
        [
            [b"\1" + bytes(479 - 21)],
            [bytes(255) + b"\1" + bytes(300)],
            [b"x" * 425 + bytes(20)],
            [b"z" * 900],
        ],
    ],
    ids=["no zeros", "zeros", "mixed"],
)
def test_every_flipped_byte_is_found(batches: list[list[bytes]], flip: Callable[[int], int]) -> None:
    fs, _, places = filled(batches)
    assert places[-1][0] == SECOND
    for path in (FIRST, SECOND):
        data = bytearray(contents(fs, path))
        used = max(end for name, _, end in places if name == path)
        file = fs.open(path)
        for offset in range(used):
            file.pwrite(bytes([flip(data[offset])]), offset)
            with pytest.raises(CorruptLogError) as caught:
                reopened(fs)
            assert caught.value.path == path and caught.value.offset <= offset
            file.pwrite(bytes(data[offset : offset + 1]), offset)
            fs.end_process()
            file = fs.open(path)
    reopened(fs)


def test_a_flip_in_a_length_does_not_hide_the_records_behind_it() -> None:
    fs, _, places = filled([[b"x" * 20]] * 6)
    path, begin, _ = places[2]
    data = bytearray(contents(fs, path))
    for value_of_length in range(256):
        data[begin + 9] = value_of_length  # the second byte of the length
        if value_of_length:
            with pytest.raises(CorruptLogError):
                reopened(replaced(fs, path, bytes(data)))


def test_damage_beyond_a_lost_sector_is_not_taken_for_a_torn_record() -> None:
    """Sectors of zeros in a record that others follow: it was written, so it is damage."""
    fs, _, places = filled([[b"x" * 20], [b"y" * 1000], [b"z" * 20]])
    path, begin, end = places[1]
    assert end < places[2][2] and places[2][0] == path
    data = contents(fs, path)
    for first in range(begin // 512 * 512, end, 512):
        start, stop = max(first, begin), min(first + 512, end)
        with pytest.raises(CorruptLogError):
            reopened(replaced(fs, path, data[:start] + bytes(stop - start) + data[stop:]))
    with pytest.raises(CorruptLogError):
        reopened(replaced(fs, path, data[:begin] + bytes(end - begin) + data[end:]))


def test_a_last_record_with_any_set_of_lost_sectors_is_cut_off() -> None:
    fs, states, places = filled([[b"x" * 20], [b"y" * 1300]])
    path, begin, end = places[1]
    data = contents(fs, path)
    spans = [(max(at, begin), min(at + 512, end)) for at in range(begin // 512 * 512, end, 512)]
    assert len(spans) == 3
    for lost in range(1, 2 ** len(spans)):
        torn = bytearray(data)
        for bit, (start, stop) in enumerate(spans):
            if lost >> bit & 1:
                torn[start:stop] = bytes(stop - start)
        usable(replaced(fs, path, bytes(torn)), states[1])


def test_a_damaged_last_record_with_all_its_sectors_is_corrupt() -> None:
    """Zeros within a record are told from a sector that was never written."""
    fs, _, places = filled([[b"x" * 20], [bytes(1300)]])
    path, begin, end = places[1]
    data = bytearray(contents(fs, path))
    data[begin + 700] ^= 0x10
    with pytest.raises(CorruptLogError, match="checksum") as caught:
        reopened(replaced(fs, path, bytes(data)))
    assert (caught.value.path, caught.value.offset) == (path, begin)
    assert end <= len(data)


@pytest.mark.parametrize("zeros", [3, 40, 100, 200, 255])
def test_a_record_that_ends_in_zeros_is_never_taken_for_torn(zeros: int) -> None:
    """The part of its last sector would be all zero, were it not for the padding."""
    fs, _, places = filled([[b"x" * (512 - 32 - 16 - 21) + bytes(zeros)]])
    path, begin, end = places[0]
    assert 1024 < end <= 1536
    data = bytearray(contents(fs, path))
    for offset in (begin + 100, *range(1024, end)):
        flipped = bytearray(data)
        flipped[offset] = 0 if data[offset] else 1
        with pytest.raises(CorruptLogError):
            reopened(replaced(fs, path, bytes(flipped)))


def test_a_lost_sector_before_the_last_segment_is_named() -> None:
    fs, _, places = filled(COMMANDS)
    path, begin, end = places[2]
    assert path == FIRST and places[3][0] == SECOND
    data = contents(fs, path)
    start = end // 512 * 512
    assert start > begin
    with pytest.raises(CorruptLogError) as caught:
        reopened(replaced(fs, path, data[:start] + bytes(end - start) + data[end:]))
    assert (caught.value.path, caught.value.offset) == (FIRST, begin)


def test_noise_behind_the_last_record_is_corrupt() -> None:
    fs, _, places = filled([[b"x" * 20]])
    path, _, end = places[0]
    data = contents(fs, path)
    for noise in (b"\1", b"noise" * 30, data[512:end]):
        with pytest.raises(CorruptLogError):
            reopened(replaced(fs, path, data[:end] + noise + data[end + len(noise) :]))


def test_two_valid_records_swapped_are_found() -> None:
    fs, _, places = filled([[b"x" * 20], [b"y" * 20], [b"z" * 20], [b"u" * 20]])
    (path, a, b), (_, c, d) = places[1], places[2]
    assert b - a == d - c or abs((b - a) - (d - c)) == 32
    fs, _, places = filled([[b"x" * 20], [b"y" * 40], [b"w" * 20], [b"z" * 40], [b"u" * 20]])
    (path, a, b), (_, c, d) = places[1], places[3]
    assert b - a == d - c
    data = contents(fs, path)
    with pytest.raises(CorruptLogError) as caught:
        reopened(replaced(fs, path, data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]))
    assert caught.value.offset == a


def test_the_record_of_another_log_in_the_same_place_is_found() -> None:
    """Same segment, same offset, same number: only what went before differs."""
    fs, _, places = filled([[b"x" * 20], [b"y" * 40], [b"z"]])
    other, _, _ = filled([[b"X" * 20], [b"Y" * 40], [b"z"]])
    path, begin, end = places[1]
    mixed = contents(fs, path)[:begin] + contents(other, path)[begin:end] + contents(fs, path)[end:]
    with pytest.raises(CorruptLogError, match="does not follow"):
        reopened(replaced(fs, path, mixed))


def test_stale_and_foreign_segments_are_found() -> None:
    fs, _, _ = filled(COMMANDS)
    other, _, _ = filled([[b"A" * 30], *COMMANDS[1:]])
    early, _, _ = filled(COMMANDS[:2])
    third = f"{PATH}/{3:016d}.wal"
    for path, data in (
        (SECOND, contents(fs, FIRST)),
        (FIRST, contents(fs, SECOND)),
        (SECOND, contents(other, SECOND)),
        (FIRST, contents(other, FIRST)),
        (FIRST, contents(early, FIRST)),
        (third, contents(fs, SECOND)),
        (third, contents(fs, FIRST)),
    ):
        with pytest.raises(CorruptLogError):
            reopened(replaced(fs, path, data))


def test_a_missing_segment_is_named() -> None:
    fs, _, _ = filled([[b"x" * 900]] * 6)
    names = sorted(name for name in fs.listdir(PATH) if name.endswith(".wal"))
    assert len(names) >= 3
    for name in names[:-1]:
        other = fs.copy()
        other.unlink(f"{PATH}/{name}")
        with pytest.raises(CorruptLogError, match="missing") as caught:
            reopened(other)
        assert caught.value.path == f"{PATH}/{name}"


def test_a_newer_version_is_named_and_left_alone() -> None:
    fs, _, _ = filled(COMMANDS)
    data = bytearray(contents(fs, FIRST))
    data[12:16] = (3).to_bytes(4, "little")
    data[8:12] = value(bytes(data[:8] + data[12:512])).to_bytes(4, "little")
    newer = replaced(fs, FIRST, bytes(data))
    with pytest.raises(StorageError, match=r"version 3.*up to 2") as caught:
        reopened(newer)
    assert not isinstance(caught.value, CorruptLogError)
    assert contents(newer, FIRST) == bytes(data)


def test_leftovers_and_strangers_in_the_directory_do_no_harm() -> None:
    fs, states, _ = filled(COMMANDS)
    for name in ("0000000000000003.wal.tmp", "notes.txt", "3.wal", "x0000000000000003.wal"):
        fs.open(f"{PATH}/{name}", create=True).pwrite(b"left over", 0)
    assert reopened(fs) == states[-1]
    assert "0000000000000003.wal.tmp" not in fs.listdir(PATH) and "notes.txt" in fs.listdir(PATH)
