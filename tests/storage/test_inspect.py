"""Reading a log offline: what is in it, and all that is wrong with it; nothing is changed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from google_crc32c import value
from tests.storage.logs import (
    DATA,
    PATH,
    contents,
    everything,
    filled,
    flipped,
    names,
    opened,
    replaced,
    segment,
    snapshot_at,
)
from tests.storage.logs import entries as made

from raft_io.core.types import HardState, LogEntry, Membership, Snapshot
from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage import MemoryFileSystem, WalLog
from raft_io.storage.inspect import (
    Finding,
    RecordInfo,
    SegmentInfo,
    SnapshotInfo,
    entries,
    in_use,
    log_directory,
    verify,
    walk,
)


def opens(fs: MemoryFileSystem) -> bool:
    try:
        opened(fs.copy()).close()
    except CorruptLogError:
        return False
    return True


def damage(fs: MemoryFileSystem) -> list[tuple[str, int]]:
    return [(finding.path, finding.offset) for finding in verify(PATH, fs) if finding.is_damage]


@pytest.mark.parametrize("snapshot", [0, 25, 40])
def test_a_sound_log_is_told_as_it_is(snapshot: int) -> None:
    fs = filled(snapshot)
    before = everything(fs)
    items = list(walk(PATH, fs, contents=True))
    assert not [item for item in items if isinstance(item, Finding)]
    segments = [item for item in items if isinstance(item, SegmentInfo)]
    assert [f"{info.number:016d}.wal" for info in segments] == names(fs, ".wal")
    records = [item for item in items if isinstance(item, RecordInfo)]
    assert [info.sequence for info in records] == list(range(records[0].sequence, records[-1].sequence + 1))
    with opened(fs.copy()) as log:
        expected = list(log.entries(1, log.last_index()))
    assert list(entries(PATH, fs)) == expected
    assert [entry.index for info in records for entry in info.entries] == [entry.index for entry in expected]
    found = [item for item in items if isinstance(item, SnapshotInfo)]
    assert [(info.path, info.index, info.term, info.membership, info.size) for info in found] == (
        [(snapshot_at(snapshot), snapshot, 1, Membership([1, 2, 3], [4]), 150_000)] if snapshot else []
    )
    assert everything(fs) == before


def test_records_say_what_they_do() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        log.set_hard_state(HardState(3, 2))
        log.append(made(1, 3))
        log.sync()
        log.truncate(2)
        log.append(made(2, 2, term=3))
        log.sync()
        log.save_snapshot(Snapshot(9, 3, Membership([1]), bytes(10)))
        log.append(made(10, 11, term=4, size=0))
        log.sync()
    records = [item for item in walk(PATH, fs) if isinstance(item, RecordInfo)]
    assert [(info.hard_state, info.cut, info.reset, len(info.entries)) for info in records] == [
        (HardState(3, 2), 0, None, 3),
        (None, 2, None, 1),
        (None, 0, (9, 3), 2),
    ]
    assert records[0].path == segment(1) and records[0].offset == 512
    assert records[1].offset == 512 + records[0].size
    assert list(entries(PATH, fs)) == [LogEntry(4, 10), LogEntry(4, 11)]
    with opened(fs) as log:
        assert list(log.entries(1, 20)) == [LogEntry(4, 10), LogEntry(4, 11)]


def test_entries_that_were_cut_off_are_left_out() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        log.append(made(1, 30))
        log.sync()
        log.truncate(20)
        log.append(made(20, 22, term=2))
        log.sync()
    assert list(entries(DATA, fs)) == made(1, 19) + made(20, 22, term=2)


def test_every_flipped_byte_of_a_log_is_found() -> None:
    """And nothing else: a log that opens has no damage."""
    fs = filled(4, 14, data=bytes(range(256)) * 3)
    paths = [f"{PATH}/{name}" for name in [*names(fs, ".wal"), *names(fs, ".snap")]]
    assert len(paths) >= 3
    for path in paths:
        for offset in range(0, len(contents(fs, path)), 3):
            other = flipped(fs, path, offset)
            found = damage(other)
            assert found and found[0][0] == path and found[0][1] <= offset, (path, offset)


def test_what_keeps_a_log_from_being_opened_is_found() -> None:
    fs = filled(0, 12)
    data = contents(fs, segment(2))
    for size in range(0, len(data), 31):
        for made_of in (data[:size], data[:size] + bytes(len(data) - size)):
            other = replaced(fs, segment(2), made_of)
            assert bool(damage(other)) == (not opens(other)), size
    last = f"{PATH}/{names(fs, '.wal')[-1]}"
    data = contents(fs, last)
    torn = 0
    for size in range(512, len(data), 7):
        other = replaced(fs, last, data[:size])
        assert not damage(other) and opens(other)
        torn += [finding.kind for finding in verify(PATH, other)] == ["torn"]
    assert torn > 20


def test_everything_that_is_wrong_is_found_not_just_the_first() -> None:
    fs = filled(20, 40)
    numbers = [int(name[:16]) for name in names(fs, ".wal")]
    assert len(numbers) >= 3
    first, second, third = segment(numbers[0]), segment(numbers[1]), segment(numbers[-1])
    snapshot = snapshot_at(20)
    records = [item for item in walk(PATH, fs) if isinstance(item, RecordInfo)]
    in_first = [info for info in records if info.path == first]
    in_third = [info for info in records if info.path == third]
    fs = flipped(fs, first, in_first[0].offset + 3)
    fs = flipped(fs, first, in_first[2].offset + 60)
    fs = flipped(fs, second, 40)
    fs = flipped(fs, third, in_third[0].offset + 12)
    fs = flipped(fs, snapshot, 512 + 70_000)
    fs = flipped(fs, snapshot, 512 + 140_000)
    assert damage(fs) == [
        (snapshot, 512 + 65536),
        (snapshot, 512 + 131072),
        (first, in_first[0].offset),
        (first, in_first[2].offset),
        (second, 8),
        (third, in_third[0].offset),
    ]
    left = [item for item in walk(PATH, fs) if isinstance(item, RecordInfo)]
    assert len(left) == len(records) - 3


def test_records_are_found_behind_a_header_whose_checksum_is_damaged() -> None:
    fs = filled(0, 12)
    expected = [item for item in walk(PATH, fs) if isinstance(item, RecordInfo)]
    for offset in (9, 50):
        other = flipped(fs, segment(2), offset)
        found = [item for item in walk(PATH, other) if isinstance(item, RecordInfo)]
        assert found == expected
        assert damage(other) == [(segment(2), 8)]


def test_two_records_in_each_others_place_are_found() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        for index in range(1, 5):
            log.append([LogEntry(1, index, b"x" * 40)])
            log.sync()
    other = MemoryFileSystem()
    with opened(other) as log:
        for index in range(1, 5):
            log.append([LogEntry(1, index, b"X" * 40 if index == 1 else b"x" * 40)])
            log.sync()
    offsets = [item.offset for item in walk(PATH, fs) if isinstance(item, RecordInfo)]
    ours, theirs = contents(fs, segment(1)), contents(other, segment(1))
    mixed = ours[: offsets[1]] + theirs[offsets[1] : offsets[2]] + ours[offsets[2] :]
    found = verify(PATH, replaced(fs, segment(1), mixed))
    assert [(finding.offset, finding.kind) for finding in found] == [
        (offsets[1], "damage"),
        (offsets[2], "damage"),
    ]
    assert "does not follow" in found[0].detail


def test_a_missing_segment_is_found() -> None:
    fs = filled(0, 20)
    for name in names(fs, ".wal")[:-1]:
        other = fs.copy()
        other.unlink(f"{PATH}/{name}")
        assert damage(other) == [(f"{PATH}/{name}", 0)]
        with pytest.raises(CorruptLogError, match="missing"):
            opened(other)


def test_a_missing_or_damaged_snapshot_is_found() -> None:
    fs = filled(20, 40)
    gone = fs.copy()
    gone.unlink(snapshot_at(20))
    first = int(names(fs, ".wal")[0][:16])
    assert first > 1 and damage(gone) == [(segment(first - 1), 0)]
    assert damage(flipped(fs, snapshot_at(20), 20)) == [(snapshot_at(20), 8)]
    short = replaced(fs, snapshot_at(20), contents(fs, snapshot_at(20))[:-1])
    assert damage(short) == [(snapshot_at(20), len(contents(fs, snapshot_at(20))) - 1)]
    for broken in (gone, flipped(fs, snapshot_at(20), 20), short):
        assert not opens(broken)
    alone = fs.copy()
    for name in names(fs, ".wal"):
        alone.unlink(f"{PATH}/{name}")
    assert damage(alone) == [(segment(1), 0)] and not opens(alone)


def test_a_snapshot_that_the_log_goes_on_from_is_missed() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        log.append(made(1, 2))
        log.sync()
        log.save_snapshot(Snapshot(7, 3, Membership([1]), b"state"))
        log.append(made(8, 9, term=3))
        log.sync()
    fs.unlink(snapshot_at(7))
    assert damage(fs) == [(snapshot_at(7), 0)]
    with pytest.raises(CorruptLogError, match="snapshot is missing") as caught:
        opened(fs)
    assert caught.value.path == snapshot_at(7)


def test_what_the_next_open_removes_is_named_and_is_no_damage() -> None:
    fs = filled(20, 40)
    older = contents(fs, snapshot_at(20))
    first = int(names(fs, ".wal")[0][:16])
    for path in (snapshot_at(3), segment(first - 2), f"{PATH}/taking-1.snap.tmp"):
        fs.open(path, create=True).pwrite(older if path.endswith(".snap") else b"", 0)
    straggler = contents(filled(0, 40), segment(first - 2))
    fs.open(segment(first - 2)).pwrite(straggler, 0)
    found = verify(PATH, fs)
    assert {(finding.path, finding.kind) for finding in found} == {
        (snapshot_at(3), "leftover"),
        (segment(first - 2), "leftover"),
        (f"{PATH}/taking-1.snap.tmp", "leftover"),
    }
    opened(fs).close()
    assert verify(PATH, fs) == []


def test_where_a_file_cannot_be_read_is_found() -> None:
    fs = filled(20, 40)
    bad = ""

    def fault(operation: str, path: str) -> None:
        if operation == "pread" and path == bad:
            raise OSError(errno.EIO, "Input/output error")

    fs.fault = fault
    for bad in (segment(int(names(fs, ".wal")[1][:16])), snapshot_at(20)):
        found = [finding for finding in verify(PATH, fs) if finding.is_damage]
        assert found[0].path == bad and "Input/output error" in found[0].detail
    bad = segment(int(names(fs, ".wal")[1][:16]))

    def gone(operation: str, path: str) -> None:
        if operation == "open" and path == bad:
            raise OSError(errno.EACCES, "Permission denied")

    fs.fault = gone
    found = [finding for finding in verify(PATH, fs) if finding.is_damage]
    assert (found[0].path, found[0].offset) == (bad, 0) and "Permission denied" in found[0].detail


def test_entries_stop_at_damage() -> None:
    fs = flipped(filled(0, 12), segment(2), 600)
    with pytest.raises(CorruptLogError) as caught:
        list(entries(PATH, fs))
    assert (caught.value.path, caught.value.offset) == (segment(2), 512)


def test_a_newer_version_is_refused() -> None:
    fs = filled(20, 40)
    for path in (segment(int(names(fs, ".wal")[0][:16])), snapshot_at(20)):
        data = bytearray(contents(fs, path))
        data[12:16] = (9).to_bytes(4, "little")
        data[8:12] = value(bytes(data[:8] + data[12:512])).to_bytes(4, "little")
        newer = replaced(fs, path, bytes(data))
        with pytest.raises(StorageError, match="version 9") as caught:
            verify(PATH, newer)
        assert path in str(caught.value)
        with pytest.raises(StorageError, match="version 9"):
            opened(newer)


def test_a_directory_without_a_log_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(StorageError, match="there is no log"):
            verify(path)
    fs = MemoryFileSystem(fault=lambda operation, path: _fail(operation))
    with pytest.raises(StorageError, match="injected"):
        log_directory(PATH, fs)


def _fail(operation: str) -> None:
    if operation == "listdir":
        raise OSError(errno.EIO, "injected")


def test_real_files_are_read_and_not_touched(tmp_path: Path) -> None:
    with WalLog.open(tmp_path / "log", segment_size=4096) as log:
        log.append(made(1, 60))
        log.sync()
        assert in_use(tmp_path)
    assert log_directory(tmp_path) == str(tmp_path / "log") == log_directory(tmp_path / "log")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "log").iterdir()}
    for path in (tmp_path / "log").iterdir():
        path.chmod(0o444)
    (tmp_path / "log").chmod(0o555)
    try:
        assert not in_use(tmp_path)
        assert verify(tmp_path) == []
        assert list(entries(tmp_path)) == made(1, 60)
    finally:
        (tmp_path / "log").chmod(0o755)
    assert before == {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "log").iterdir()
    }
    (tmp_path / "log" / "LOCK").unlink()
    assert not in_use(tmp_path) and not (tmp_path / "log" / "LOCK").exists()


def test_a_log_that_is_in_use_is_said_to_be() -> None:
    fs = filled()
    assert not in_use(PATH, fs)
    with opened(fs):
        assert in_use(DATA, fs)
