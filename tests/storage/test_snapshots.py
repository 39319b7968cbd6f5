"""Snapshots of a `WalLog`: taken, received, saved, read; and what of the log stays behind them."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from google_crc32c import value
from tests.storage.logs import PATH, contents, entries, filled, flipped, names, opened, replaced, snapshot_at

from raft_io.core.members import encode_membership
from raft_io.core.types import (
    EntryKind,
    HardState,
    LogEntry,
    Membership,
    Snapshot,
    SnapshotData,
    SnapshotMeta,
    data_checksum,
    data_size,
    read_data,
)
from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage import FileData, MemoryFileSystem, OsFileSystem, WalLog
from raft_io.storage.inspect import verify

MEMBERS = Membership([1, 2, 3], [4])
STATE = b"".join(b"%d," % number for number in range(40_000))


def state_of(log: WalLog) -> bytes:
    snapshot = log.snapshot()
    assert snapshot is not None
    return read_data(snapshot.data, 0, data_size(snapshot.data))


def written(log: WalLog, data: bytes = STATE) -> FileData:
    with log.snapshot_writer() as writer:
        assert writer.write(data) == len(data)
        return writer.finish()


def tagged(data: bytes) -> int:
    checksum: int = value(data)
    return 1 << 40 | checksum


def meta(data: bytes = STATE, checksum: int | None = None) -> SnapshotMeta:
    return SnapshotMeta(9, 3, MEMBERS, len(data), tagged(data) if checksum is None else checksum)


def received(log: WalLog, data: bytes, checksum: int | None = None, size: int = 1000) -> SnapshotData | None:
    found: bytes | SnapshotData | None = None
    for offset in range(0, max(len(data), 1), size):
        assert found is None
        found = log.receive_snapshot(meta(data, checksum), offset, data[offset : offset + size])
    assert not isinstance(found, bytes)
    return found


# Taking


def test_a_new_log_has_none(tmp_path: Path) -> None:
    with WalLog.open(tmp_path) as log:
        assert log.snapshot() is None and list(log.membership_entries()) == []


@pytest.mark.parametrize("data", [b"", b"x", bytes(65536), STATE])
def test_what_was_saved_and_synced_is_there_after_reopening(tmp_path: Path, data: bytes) -> None:
    with WalLog.open(tmp_path) as log:
        log.append(entries(1, 9))
        log.save_snapshot(Snapshot(5, 1, MEMBERS, data))
        assert state_of(log) == data
        log.sync()
        assert state_of(log) == data
        log.save_snapshot(Snapshot(7, 1, MEMBERS, written(log, data + b"more")))
        log.sync()
        assert sorted(path.name for path in tmp_path.glob("*.snap*")) == [f"{7:019d}.snap"]
    with WalLog.open(tmp_path) as log:
        snapshot = log.snapshot()
        assert snapshot is not None and (snapshot.index, snapshot.term) == (7, 1)
        assert snapshot.membership == MEMBERS and state_of(log) == data + b"more"
        assert data_checksum(snapshot.data) == tagged(data + b"more")
        assert list(log.entries(8, 20)) == entries(8, 9)


def test_what_was_not_synced_is_not(tmp_path: Path) -> None:
    with WalLog.open(tmp_path) as log:
        log.append(entries(1, 9))
        log.sync()
        log.save_snapshot(Snapshot(5, 1, MEMBERS, written(log)))
        log.save_snapshot(Snapshot(30, 2, MEMBERS, b""))
        assert log.last_index() == 30
    with WalLog.open(tmp_path) as log:
        assert log.snapshot() is None and list(log.entries(1, 20)) == entries(1, 9)
        assert not list(tmp_path.glob("*.tmp"))


def test_a_snapshot_that_is_no_later_is_ignored() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        log.append(entries(1, 9))
        log.save_snapshot(Snapshot(0, 0, MEMBERS, b"nothing"))
        log.save_snapshot(Snapshot(0, 7, MEMBERS, b"nothing"))
        assert log.snapshot() is None and log.last_index() == 9
        log.save_snapshot(Snapshot(5, 1, MEMBERS, b"five"))
        for index, term in ((5, 1), (4, 1), (5, 9), (0, 0)):
            log.save_snapshot(Snapshot(index, term, MEMBERS, b"other"))
        log.sync()
        assert state_of(log) == b"five" and log.last_index() == 9


def test_the_contents_are_moved_into_place_rather_than_copied() -> None:
    fs = MemoryFileSystem()
    seen: list[tuple[str, str]] = []
    with opened(fs) as log:
        log.append(entries(1, 9))
        log.sync()
        data = written(log)
        log.save_snapshot(Snapshot(5, 1, MEMBERS, data))
        fs.fault = lambda operation, path: seen.append((operation, path))
        log.sync()
        assert [operation for operation, path in seen if "snap" in path] == [
            "pwrite",
            "pwrite",
            "sync",
            "rename",
        ]
        snapshot = log.snapshot()
        assert snapshot is not None and snapshot.data is data and data.path == snapshot_at(5)


def test_contents_that_are_not_in_a_file_of_this_log_are_copied() -> None:
    class Other(SnapshotData):
        size = len(STATE)
        checksum = 42
        largest = 0

        def read(self, offset: int, size: int, /) -> bytes:
            self.largest = max(self.largest, size)
            return STATE[offset : offset + size]

    fs = MemoryFileSystem()
    with opened(fs) as log, WalLog.open("/other", fs=fs) as another:
        log.append(entries(1, 9))
        other = Other()
        foreign = written(another)
        for index, data in ((4, other), (5, foreign), (6, written(log, b"six"))):
            log.save_snapshot(Snapshot(index, 1, MEMBERS, data))
            log.sync()
        published = log.snapshot()
        assert published is not None and isinstance(published.data, FileData)
        log.save_snapshot(Snapshot(7, 1, MEMBERS, published.data))
        log.sync()
        assert state_of(log) == b"six" and 0 < other.largest <= 1 << 20
        assert foreign.read(0, 20) == STATE[:20]
    assert names(fs, ".snap") == [f"{7:019d}.snap"]


def test_contents_that_end_early_are_refused() -> None:
    class Short(SnapshotData):
        size = 100
        checksum = 42

        def read(self, offset: int, size: int, /) -> bytes:
            return b"short"

    with opened(MemoryFileSystem()) as log:
        log.append(entries(1, 9))
        log.save_snapshot(Snapshot(5, 1, MEMBERS, Short()))
        with pytest.raises(StorageError, match="end at 0 of 100 bytes"):
            log.sync()
        with pytest.raises(StorageError, match="end at 0"):
            log.append(entries(10, 10))


def test_a_writer_takes_what_a_file_takes() -> None:
    with opened(MemoryFileSystem()) as log:
        writer = log.snapshot_writer()
        assert writer.write(b"ab") == 2 and writer.write(bytearray(b"cd")) == 2
        assert writer.write(memoryview(b"__ef__")[2:4]) == 2
        writer.flush()
        big = bytes(range(256)) * 10_000
        assert writer.write(big) == len(big)
        data = writer.finish()
        assert data.read(0, 1 << 30) == b"abcdef" + big
        for attempt in (writer.finish, writer.flush):
            with pytest.raises(StorageError, match="finished"):
                attempt()
        writer.abort()
        assert data.read(2, 3) == b"cde"


def test_what_is_aborted_or_dropped_leaves_nothing_behind() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        with pytest.raises(RuntimeError), log.snapshot_writer() as writer:
            writer.write(STATE)
            raise RuntimeError
        assert names(fs, ".tmp") == []
        written(log)
        assert len(names(fs, ".tmp")) == 1
        log.snapshot_writer().abort()
        assert names(fs, ".tmp") == []
        assert log.receive_snapshot(meta(), 0, STATE[:10]) is None
        assert len(names(fs, ".tmp")) == 1
    assert names(fs, ".tmp") == []


def test_a_writer_that_outlives_the_log_is_refused_and_touches_nothing() -> None:
    fs = MemoryFileSystem()
    log = opened(fs)
    writers = [log.snapshot_writer() for _ in range(3)]
    log.close()
    with opened(fs) as later:
        new = [later.snapshot_writer() for _ in range(3)]
        for writer in writers[:2]:
            with pytest.raises(StorageError, match="closed"):
                writer.flush()
        for writer in writers:
            writer.abort()
        new[0].write(b"state")
        later.append(entries(1, 3))
        later.save_snapshot(Snapshot(2, 1, MEMBERS, new[0].finish()))
        later.sync()
    for attempt in (log.snapshot, log.membership_entries, log.snapshot_writer):
        with pytest.raises(StorageError, match="closed"):
            attempt()
    with pytest.raises(StorageError, match="closed"):
        log.save_snapshot(Snapshot(1, 1, MEMBERS, b""))
    with pytest.raises(StorageError, match="closed"):
        log.receive_snapshot(meta(), 0, b"")


@pytest.mark.parametrize("operation", ["open", "pwrite", "sync", "unlink"])
def test_a_disk_that_fails_under_a_writer_says_so_and_the_log_goes_on(operation: str) -> None:
    fs = MemoryFileSystem()

    def fault(called: str, path: str) -> None:
        if called == operation and path.endswith(".tmp"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with opened(fs) as log:
        fs.fault = fault
        with pytest.raises(StorageError, match="No space left"), log.snapshot_writer() as writer:
            writer.write(STATE)
            if operation != "unlink":
                writer.finish()
        fs.fault = lambda called, path: None
        log.append(entries(1, 3))
        log.sync()
        log.save_snapshot(Snapshot(2, 1, MEMBERS, written(log)))
        log.sync()
        assert state_of(log) == STATE


def test_a_sync_that_failed_is_not_made_good_by_the_next() -> None:
    fs = MemoryFileSystem()

    def fault(operation: str, path: str) -> None:
        if operation == "sync" and path.endswith(".tmp"):
            fs.fault = lambda operation, path: None
            raise OSError(errno.EIO, "Input/output error")

    with opened(fs) as log:
        fs.fault = fault
        writer = log.snapshot_writer()
        writer.write(STATE)
        with pytest.raises(StorageError, match="Input/output"):
            writer.finish()
        for attempt in (writer.finish, writer.flush):
            with pytest.raises(StorageError, match=r"earlier write failed.*Input/output"):
                attempt()
        writer.abort()
        assert names(fs, ".tmp") == []


def test_large_contents_are_on_their_way_to_the_disk_before_they_are_synced() -> None:
    fs = MemoryFileSystem()
    seen: list[str] = []
    with opened(fs) as log:
        piece = bytes(1 << 20)
        fs.fault = lambda operation, path: seen.append(operation)
        with log.snapshot_writer() as writer:
            for _ in range(33):
                writer.write(piece)
            writer.finish()
        assert (seen.count("write_back"), seen.count("sync")) == (33, 3)
        seen.clear()
        for offset in range(0, 4 << 20, 1 << 19):
            log.receive_snapshot(SnapshotMeta(9, 3, MEMBERS), offset, piece[: 1 << 19])
        assert (seen.count("write_back"), seen.count("sync")) == (4, 0)


# Receiving


@pytest.mark.parametrize("data", [b"", b"x", bytes(65536), STATE])
@pytest.mark.parametrize("size", [999, 65536])
def test_pieces_make_up_the_whole(data: bytes, size: int) -> None:
    with opened(MemoryFileSystem()) as log:
        whole = received(log, data, size=size)
        assert isinstance(whole, FileData)
        assert (whole.size, whole.checksum) == (len(data), tagged(data))
        whole.verify()
        log.save_snapshot(Snapshot(9, 3, MEMBERS, whole))
        log.sync()
        assert state_of(log) == data and (log.last_index(), log.last_term()) == (9, 3)


def test_pieces_that_prove_to_be_damaged_are_dropped_and_asked_for_again() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        assert received(log, STATE, tagged(STATE) ^ 1) is None
        assert names(fs, ".tmp") == []
        assert received(log, STATE) is not None


def test_a_checksum_of_another_kind_is_opaque() -> None:
    small = b"\x12\x34\x56\x78\x00\x01"
    assert data_checksum(small) >> 32 == 1 << 8, "it looks like one of ours"
    with opened(MemoryFileSystem()) as log:
        for data, checksum in ((STATE, 4711), (STATE, 0), (STATE, data_checksum(STATE))):
            assert received(log, data, checksum) is not None
        assert received(log, small, data_checksum(small)) is not None
        assert received(log, small, data_checksum(small) ^ 1) is None


def test_pieces_come_in_order_and_begin_anew_at_zero() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        for offset in (1, 500):
            with pytest.raises(StorageError, match="byte 0 expected"):
                log.receive_snapshot(meta(), offset, b"x")
        assert log.receive_snapshot(meta(), 0, STATE[:100]) is None
        for offset in (99, 101):
            with pytest.raises(StorageError, match="byte 100 expected"):
                log.receive_snapshot(meta(), offset, b"x")
        assert log.receive_snapshot(meta(b"other"), 0, b"ot") is None
        assert len(names(fs, ".tmp")) == 1
        whole = log.receive_snapshot(meta(b"other"), 2, b"her")
        assert isinstance(whole, FileData) and whole.read(0, 9) == b"other"


def test_a_disk_that_fails_under_a_piece_says_so() -> None:
    fs = MemoryFileSystem()

    def fault(operation: str, path: str) -> None:
        if operation == "pwrite":
            raise OSError(errno.ENOSPC, "No space left on device")

    with opened(fs) as log:
        fs.fault = fault
        with pytest.raises(StorageError, match="No space left"):
            log.receive_snapshot(meta(), 0, b"x")


# What stays of the log


def test_a_tail_stays_readable_and_the_rest_is_dropped() -> None:
    fs = MemoryFileSystem()
    with opened(fs, tail_bytes=5000) as log:
        for index in range(1, 201):
            log.append(entries(index, index))
            log.sync()
        before = len(names(fs, ".wal"))
        log.save_snapshot(Snapshot(195, 1, MEMBERS, b"state"))
        log.sync()
        left = names(fs, ".wal")
        assert before > 15 and 3 <= len(left) <= 5
        tail = list(log.entries(1, 195))
        assert 10 < len(tail) < 50 and tail == entries(int(tail[0].index), 195)
        first = int(tail[0].index)
        assert log.entry(first - 1) is None and log.term_at(first - 2) is None and log.term_at(0) is None
        assert log.term_at(first) == 1
        assert list(log.entries(first - 5, 200)) == entries(first, 200)
    with opened(fs, tail_bytes=5000) as log:
        assert list(log.entries(1, 300)) == entries(first, 200)


def test_what_comes_later_makes_the_rest_go_at_the_next_snapshot() -> None:
    fs = MemoryFileSystem()
    with opened(fs, tail_bytes=1 << 20) as log:
        for index in range(1, 101):
            log.append(entries(index, index))
            log.sync()
        log.save_snapshot(Snapshot(50, 1, MEMBERS, b"state"))
        log.sync()
        assert list(log.entries(1, 200)) == entries(1, 100)
    with opened(fs, tail_bytes=0) as log:
        log.sync()
        assert 40 < log.entries(1, 200)[0].index <= 51 and log.entries(51, 200) == entries(51, 100)


def test_recent_entries_are_dropped_with_their_segment() -> None:
    fs = MemoryFileSystem()
    with WalLog.open(PATH, fs=fs, segment_size=2048, tail_bytes=0) as log:
        for index in range(1, 101):
            log.append(entries(index, index))
            log.sync()
        log.save_snapshot(Snapshot(95, 1, MEMBERS, b"state"))
        log.sync()
        left = [entry.index for entry in log._recent]
        assert 80 < left[0] <= 96 and left[-1] == 100
        assert log._recent_bytes == sum(len(entry.command) + 200 for entry in log._recent)


@pytest.mark.parametrize("synced", [True, False])
@pytest.mark.parametrize(("index", "term"), [(50, 2), (20, 2), (12, 9), (30, 9)])
def test_a_snapshot_that_does_not_fit_replaces_the_log(index: int, term: int, synced: bool) -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        for at in range(1, 31):
            log.append(entries(at, at, term=1 if at < 20 else 3))
            if synced:
                log.sync()
        log.set_hard_state(HardState(9, 1))
        log.save_snapshot(Snapshot(index, term, MEMBERS, written(log)))
        log.append(entries(index + 1, index + 3, term=9))

        def check(log: WalLog) -> None:
            assert list(log.entries(1, 99)) == entries(index + 1, index + 3, term=9)
            assert [log.term_at(index + at) for at in (-1, 0, 1, 3, 4)] == [None, term, 9, 9, None]
            assert log.hard_state() == HardState(9, 1) and state_of(log) == STATE

        check(log)
        log.sync()
        check(log)
        assert len(names(fs, ".wal")) == 1
    fs.crash()
    with opened(fs) as log:
        check(log)
        with pytest.raises(StorageError, match=f">= {index + 1}"):
            log.truncate(index)
        log.truncate(index + 1)
        assert (log.last_index(), log.last_term()) == (index, term)


def test_memberships_are_those_behind_the_snapshot() -> None:
    fs = MemoryFileSystem()

    def member(index: int, *voters: int) -> LogEntry:
        return LogEntry(1, index, encode_membership(Membership(voters)), EntryKind.MEMBERSHIP)

    with opened(fs, tail_bytes=1 << 20) as log:
        for index in range(1, 41):
            log.append([member(index, index)] if index % 10 == 0 else entries(index, index))
            log.sync()
        assert list(log.membership_entries()) == [member(index, index) for index in (10, 20, 30, 40)]
        log.save_snapshot(Snapshot(20, 1, MEMBERS, b""))
        assert list(log.membership_entries()) == [member(30, 30), member(40, 40)]
        log.truncate(40)
        log.append([member(40, 7), member(41, 8)])
        log.sync()
    with opened(fs, tail_bytes=0) as log:
        assert list(log.membership_entries()) == [member(30, 30), member(40, 7), member(41, 8)]
        log.sync()
        assert list(log.membership_entries()) == [member(30, 30), member(40, 7), member(41, 8)]
        log.save_snapshot(Snapshot(60, 2, MEMBERS, b""))
        assert list(log.membership_entries()) == []


def test_removals_that_a_power_failure_kept_in_any_order_do_no_harm() -> None:
    sound = filled(0, 40)
    with opened(sound) as log:
        log.save_snapshot(Snapshot(35, 1, MEMBERS, b"state"))
        removed: list[str] = []

        def fault(operation: str, path: str) -> None:
            if operation == "unlink" and path.endswith(".wal"):
                removed.append(path)
                raise OSError(errno.EIO, "stop here")

        sound.fault = fault
        with pytest.raises(StorageError, match="stop here"):
            log.sync()
        sound.fault = lambda operation, path: None
    sound.end_process()
    segments = names(sound, ".wal")
    assert len(segments) >= 5 and removed
    for some in range(1, 2**4):
        fs = sound.copy()
        for bit in range(4):
            if some >> bit & 1:
                fs.unlink(f"{PATH}/{segments[bit]}")
        with opened(fs) as log:
            assert list(log.entries(36, 40)) == entries(36, 40) and log.last_index() == 40
            log.sync()
            assert names(fs, ".wal") == segments[-2:]


def test_a_cut_that_is_not_on_disk_yet_holds_up_the_removal() -> None:
    """Else the segments would go that hold what the log still has on disk behind the snapshot."""
    fs = filled(0, 30)
    with opened(fs) as log:
        log.save_snapshot(Snapshot(25, 1, MEMBERS, b"state"))

        def meanwhile(operation: str, path: str) -> None:
            if operation == "rename":
                log.truncate(26)

        fs.fault = meanwhile
        log.sync()
        fs.fault = lambda operation, path: None
        assert log.last_index() == 25
        fs.end_process()
    with opened(fs.copy()) as log:
        assert list(log.entries(26, 99)) == entries(26, 30)
        log.sync()
    with opened(fs) as log:
        log.truncate(26)
        log.sync()
        assert len(names(fs, ".wal")) == 1
    with opened(fs) as log:
        assert (log.last_index(), log.last_term()) == (25, 1)


@pytest.mark.parametrize("last", [25, 28])
def test_a_log_that_was_cut_where_it_begins_now(last: int) -> None:
    """The term before its first entry is not in what is left of it."""
    fs = filled(0, 30)
    with opened(fs) as log:
        log.truncate(26)
        log.append(entries(26, 26, term=2, size=450) + entries(27, last, term=2))
        log.truncate(last + 1)
        log.sync()
        log.save_snapshot(Snapshot(25, 1, MEMBERS, b"state"))
        log.sync()
        assert len(names(fs, ".wal")) == 1
        expected = list(log.entries(26, 99))
        assert len(expected) == last - 25
    with opened(fs) as log:
        assert list(log.entries(1, 99)) == expected and log.term_at(25) == 1 and log.last_index() == last
        log.append(entries(last + 1, last + 30, term=3))
        log.sync()
    with opened(fs) as log:
        assert list(log.entries(26, 99)) == expected + entries(last + 1, last + 30, term=3)


@pytest.mark.parametrize("operation", ["pwrite", "sync"])
def test_what_a_snapshot_replaces_while_it_is_written_does_not_come_back(operation: str) -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        log.append(entries(1, 9))

        def meanwhile(called: str, path: str) -> None:
            if called == operation:
                fs.fault = lambda called, path: None
                log.save_snapshot(Snapshot(3, 2, MEMBERS, b"state"))
                log.append(entries(4, 4, term=2))

        fs.fault = meanwhile
        log.sync()
        log._index.check()
        assert list(log.entries(1, 99)) == entries(4, 4, term=2)
        log.sync()
        log.append(entries(5, 6, term=2))
        log.sync()
        log._index.check()
        assert list(log.entries(1, 99)) == entries(4, 6, term=2)
    with opened(fs) as log:
        assert list(log.entries(1, 99)) == entries(4, 6, term=2) and state_of(log) == b"state"


# Reading


def test_an_older_snapshot_stays_readable_when_its_file_is_gone(tmp_path: Path) -> None:
    for fs, path in ((OsFileSystem(), str(tmp_path)), (MemoryFileSystem(), "/log")):
        with WalLog.open(path, fs=fs) as log:
            log.append(entries(1, 9))
            log.save_snapshot(Snapshot(3, 1, MEMBERS, written(log)))
            log.sync()
            older = log.snapshot()
            log.save_snapshot(Snapshot(5, 1, MEMBERS, b"new"))
            log.sync()
            assert older is not None and isinstance(older.data, FileData)
            assert older.data.read(100_000, 70_000) == STATE[100_000:170_000]
        assert older.data.read(0, 1 << 20) == STATE[: 1 << 20]
        older.data.close()
        with pytest.raises(StorageError, match="closed"):
            older.data.read(0, 1)


def test_any_part_can_be_read() -> None:
    with opened(MemoryFileSystem()) as log:
        data = written(log)
        end = len(STATE)
        for offset in (0, 1, 65535, 65536, 131_000, end - 1, end, end + 5):
            for size in (0, 1, 500, 65536, 140_000, 1 << 30):
                assert data.read(offset, size) == STATE[offset : offset + size]
        for offset, size in ((-1, 5), (5, -1)):
            with pytest.raises(ValueError, match="no such part"):
                data.read(offset, size)


def test_contents_are_compared_by_size_and_checksum() -> None:
    with opened(MemoryFileSystem()) as log:
        one, same, other = written(log), written(log), written(log, STATE + b"x")
        assert one == same and hash(one) == hash(same) and one != other and one != STATE
        assert Snapshot(3, 1, MEMBERS, one) == Snapshot(3, 1, MEMBERS, same)
        assert "bytes, checksum 0x1" in repr(one)


def test_every_flipped_byte_of_a_snapshot_is_found_and_named() -> None:
    fs = filled(4, 6, data=bytes(range(256)) * 300)
    path = snapshot_at(4)
    size = len(contents(fs, path))
    for offset in [*range(600), *range(600, size - 600, 97), *range(size - 600, size)]:
        other = flipped(fs, path, offset, by=1 << offset % 8)
        with pytest.raises(CorruptLogError) as caught, opened(other) as log:
            snapshot = log.snapshot()
            assert snapshot is not None and isinstance(snapshot.data, FileData)
            snapshot.data.verify()
        assert caught.value.path == path and caught.value.offset <= offset
        in_contents = 512 <= offset < 512 + 76_800
        assert (caught.value.offset >= 512) == (offset >= 512)
        if in_contents:
            assert offset - caught.value.offset < 65536


def test_a_piece_that_is_damaged_is_not_handed_out() -> None:
    fs = flipped(filled(4, 6, data=bytes(200_000)), snapshot_at(4), 512 + 70_000)
    with opened(fs) as log:
        snapshot = log.snapshot()
        assert snapshot is not None
        assert read_data(snapshot.data, 0, 60_000) == bytes(60_000)
        with pytest.raises(CorruptLogError) as caught:
            read_data(snapshot.data, 65_536, 10)
        assert (caught.value.path, caught.value.offset) == (snapshot_at(4), 512 + 65536)
        assert read_data(snapshot.data, 140_000, 60_000) == bytes(60_000)


def test_a_snapshot_cut_anywhere_is_found() -> None:
    fs = filled(4, 6, data=bytes(1000))
    data = contents(fs, snapshot_at(4))
    for size in range(0, len(data), 13):
        with pytest.raises(CorruptLogError) as caught:
            opened(replaced(fs, snapshot_at(4), data[:size]))
        assert (caught.value.path, caught.value.offset) == (snapshot_at(4), size)
    with pytest.raises(CorruptLogError, match="expected"):
        opened(replaced(fs, snapshot_at(4), data + b"\0"))


def test_a_snapshot_under_another_name_is_found() -> None:
    fs = filled(4, 6)
    fs.rename(snapshot_at(4), snapshot_at(5))
    with pytest.raises(CorruptLogError, match="the snapshot at 4") as caught:
        opened(fs)
    assert (caught.value.path, caught.value.offset) == (snapshot_at(5), 16)


def resealed(data: bytearray) -> bytes:
    """The file with the checksums of its header and of what follows the contents made good."""
    size = int.from_bytes(data[32:40], "little")
    data[52:56] = value(bytes(data[512 + size :])).to_bytes(4, "little")
    data[8:12] = value(bytes(data[:8] + data[12:512])).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("start", "field", "detail", "offset"),
    [
        (12, (0).to_bytes(4, "little"), "makes no sense", 12),
        (24, (-1).to_bytes(8, "little", signed=True), "makes no sense", 12),
        (44, (0).to_bytes(4, "little"), "makes no sense", 12),
        (32, (900).to_bytes(8, "little"), "expected", None),
        (-60, b"\7", "unknown version", 512 + 1000 + 4),
        (0, b"raftiolg", "no snapshot of a raft-io log", 0),
    ],
)
def test_a_good_checksum_does_not_make_sense_of_nonsense(
    start: int, field: bytes, detail: str, offset: int | None
) -> None:
    fs = filled(4, 6, data=bytes(1000))
    data = bytearray(contents(fs, snapshot_at(4)))
    at = 512 + 1000 + 4 if start < 0 else start
    data[at : at + len(field)] = field
    with pytest.raises(CorruptLogError, match=detail) as caught:
        opened(replaced(fs, snapshot_at(4), resealed(data)))
    assert caught.value.path == snapshot_at(4)
    assert offset is None or caught.value.offset == offset


def test_blocks_that_are_good_one_by_one_and_wrong_together_are_found() -> None:
    fs = filled(4, 6, data=b"a" * 65536 + b"b" * 65536)
    data = bytearray(contents(fs, snapshot_at(4)))
    contents_of, table = bytes(data[512 : 512 + 131072]), bytes(data[512 + 131072 : 512 + 131080])
    data[512 : 512 + 131072] = contents_of[65536:] + contents_of[:65536]
    data[512 + 131072 : 512 + 131080] = table[4:] + table[:4]
    fs = replaced(fs, snapshot_at(4), resealed(data))
    with opened(fs) as log:
        snapshot = log.snapshot()
        assert snapshot is not None and isinstance(snapshot.data, FileData)
        with pytest.raises(CorruptLogError, match="of the contents does not match") as caught:
            snapshot.data.verify()
        assert (caught.value.path, caught.value.offset) == (snapshot_at(4), 512)
    assert [(finding.path, finding.offset) for finding in verify(PATH, fs)] == [(snapshot_at(4), 512)]


def test_contents_that_were_closed_cannot_be_saved() -> None:
    with opened(MemoryFileSystem()) as log:
        log.append(entries(1, 9))
        data = written(log)
        log.save_snapshot(Snapshot(5, 1, MEMBERS, data))
        data.close()
        with pytest.raises(StorageError, match="closed"):
            log.sync()


def test_a_file_that_shrinks_while_it_is_open_is_found() -> None:
    fs = filled(4, 6, data=bytes(200_000))
    with opened(fs) as log:
        snapshot = log.snapshot()
        assert snapshot is not None
        fs.open(snapshot_at(4), create=True)
        with pytest.raises(CorruptLogError, match="cut off"):
            read_data(snapshot.data, 0, 10)


def test_a_read_that_fails_says_where() -> None:
    fs = filled(4, 6)
    with opened(fs) as log:
        snapshot = log.snapshot()
        assert snapshot is not None

        def fault(operation: str, path: str) -> None:
            raise OSError(errno.EIO, "Input/output error")

        fs.fault = fault
        with pytest.raises(StorageError, match=r"\.snap.*Input/output error"):
            read_data(snapshot.data, 0, 10)
        fs.fault = lambda operation, path: None


# Beside the sync


def test_nobody_waits_for_a_sync_that_is_under_way() -> None:
    fs = MemoryFileSystem()
    log = opened(fs)
    log.append(entries(1, 20))
    log.sync()
    entered, go_on = threading.Event(), threading.Event()

    def stuck(operation: str, path: str) -> None:
        if operation == "sync" and threading.current_thread() is thread:
            entered.set()
            assert go_on.wait(60)

    def calls() -> list[Callable[[], object]]:
        return [
            lambda: log.append(entries(21, 22)),
            lambda: log.entries(1, 30),
            lambda: log.term_at(4),
            log.snapshot,
            log.membership_entries,
            lambda: log.receive_snapshot(meta(), 0, STATE[:1000]),
            lambda: written(log),
            lambda: log.save_snapshot(Snapshot(12, 1, MEMBERS, b"twelve")),
            lambda: log.save_snapshot(Snapshot(50, 2, MEMBERS, b"fifty")),
            lambda: log.append(entries(51, 52, term=2)),
            lambda: log.set_hard_state(HardState(2, 1)),
            lambda: log.truncate(52),
        ]

    log.save_snapshot(Snapshot(10, 1, MEMBERS, b"ten"))
    thread = threading.Thread(target=log.sync)
    fs.fault = stuck
    thread.start()
    assert entered.wait(60)
    for call in calls():
        call()
    assert state_of(log) == b"fifty" and thread.is_alive()
    go_on.set()
    thread.join()
    log.sync()
    log.close()
    with opened(fs) as log:
        assert state_of(log) == b"fifty" and list(log.entries(1, 99)) == entries(51, 51, term=2)


def test_snapshots_are_taken_in_a_thread_while_others_append_and_sync(tmp_path: Path) -> None:
    log = WalLog.open(tmp_path, segment_size=8192, cache_bytes=2000, tail_bytes=4000)
    stop = threading.Event()
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    taken: list[FileData] = []

    def take() -> None:
        taken.append(written(log, STATE[:70_000]))

    threads = [guarded(log.sync), guarded(take)]
    last = 0
    try:
        for turn in range(1, 800):
            log.append(entries(last + 1, last + turn % 4, size=5))
            last += turn % 4
            if turn % 23 == 0:
                log.save_snapshot(Snapshot(last - turn % 5, 1, MEMBERS, taken[-1] if taken else b"none"))
            if turn % 50 == 0:
                snapshot = log.snapshot()
                assert snapshot is not None
                base = int(snapshot.index)
                assert list(log.entries(base + 1, last)) == entries(base + 1, last, size=5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    log.sync()
    snapshot = log.snapshot()
    assert snapshot is not None
    base = int(snapshot.index)
    log.close()
    with WalLog.open(tmp_path) as log:
        assert list(log.entries(base + 1, last)) == entries(base + 1, last, size=5)
        assert len(state_of(log)) in (4, 70_000)


LARGE = """
import sys
from raft_io.core.types import LogEntry, Membership, Snapshot, SnapshotMeta
from raft_io.storage import WalLog

def peak():
    with open("/proc/self/status") as status:
        return max(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

MIB = 1 << 20
SIZE = int(sys.argv[2]) * MIB
piece = bytes(range(256)) * (MIB // 256)
members = Membership([1])
with WalLog.open(sys.argv[1] + "/a") as a, WalLog.open(sys.argv[1] + "/b") as b:
    a.append([LogEntry(1, 1)])
    before = peak()
    with a.snapshot_writer() as writer:
        for _ in range(SIZE // MIB):
            writer.write(piece)
        a.save_snapshot(Snapshot(1, 1, members, writer.finish()))
    a.sync()
    data = a.snapshot().data
    meta = SnapshotMeta(1, 1, members, data.size, data.checksum)
    for offset in range(0, SIZE, MIB):
        whole = b.receive_snapshot(meta, offset, data.read(offset, MIB))
    b.save_snapshot(Snapshot(1, 1, members, whole))
    b.sync()
    b.snapshot().data.verify()
    assert b.snapshot().data == data
    print((peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_snapshot_is_never_in_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path), "128"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 16
