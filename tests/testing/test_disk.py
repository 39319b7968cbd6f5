"""The simulated disk's faults."""

from __future__ import annotations

import errno

import pytest

from raft_io import CorruptLogError, LogEntry, Membership, Snapshot
from raft_io.storage import WalLog
from raft_io.storage.memfs import MemoryFileSystem
from raft_io.testing.disk import Disk, SuddenEndError
from raft_io.testing.timeline import stream


def disk(seed: int = 1) -> Disk:
    return Disk(stream(seed, "disk"))


def write(fs: MemoryFileSystem, path: str, data: bytes) -> None:
    file = fs.open(path, create=True)
    file.pwrite(data, 0)
    file.sync()
    fs.sync_dir("/")


def read(fs: MemoryFileSystem, path: str) -> bytes:
    return fs.open(path, read_only=True).pread(100, 0)


def test_a_disk_that_fails_fails_every_write_and_reads_go_on() -> None:
    room = disk()
    write(room.fs, "/a", b"there")
    room.fails = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        room.fs.open("/a").pwrite(b"x", 0)
    assert read(room.fs, "/a") == b"there"
    room.calm()
    write(room.fs, "/a", b"again")


def test_a_full_disk_syncs_and_gives_room_back() -> None:
    room = disk()
    file = room.fs.open("/a", create=True)
    file.pwrite(b"there", 0)
    room.fails = errno.ENOSPC
    file.sync()
    with pytest.raises(OSError, match="No space"):
        file.pwrite(b"more", 5)
    room.fs.unlink("/a")


def test_the_power_fails_after_so_many_writes() -> None:
    room = disk()
    file = room.fs.open("/a", create=True)
    room.lose_power_after(2)
    file.pwrite(b"1", 0)
    file.sync()
    with pytest.raises(SuddenEndError):
        file.pwrite(b"2", 0)
    room.lose_power()
    with pytest.raises(OSError, match="Bad file"):
        file.pread(1, 0)


def test_a_process_is_killed_between_two_writes_and_the_power_fails_in_its_next_life() -> None:
    room = disk()
    room.kill_after(1, 1)
    file = room.fs.open("/a", create=True)
    file.pwrite(b"1", 0)
    with pytest.raises(SuddenEndError) as kill:
        file.sync()
    assert not kill.value.power
    room.end_process()
    assert read(room.fs, "/a") == b"1", "it is in the system's memory"
    file = room.fs.open("/a")
    file.pwrite(b"2", 0)
    with pytest.raises(SuddenEndError) as loss:
        file.sync()
    assert loss.value.power


def test_what_was_synced_survives_and_the_rest_may_or_may_not() -> None:
    found = set()
    for seed in range(30):
        room = disk(seed)
        write(room.fs, "/a", b"old")
        room.fs.open("/a").pwrite(b"new", 0)
        room.lose_power()
        found.add(read(room.fs, "/a"))
    assert found == {b"old", b"new"}


def test_the_end_of_the_process_loses_nothing() -> None:
    room = disk()
    room.fs.open("/a", create=True).pwrite(b"unsynced", 0)
    room.end_process()
    assert read(room.fs, "/a") == b"unsynced"


def test_a_bit_that_turns_is_turned_for_good() -> None:
    room = disk()
    write(room.fs, "/a", b"\0\0\0")
    room.rot("/a", 1)
    data = read(room.fs, "/a")
    assert data[0] == data[2] == 0
    assert data[1].bit_count() == 1
    room.lose_power()
    assert read(room.fs, "/a") == data
    with pytest.raises(ValueError, match="none at 9"):
        room.rot("/a", 9)
    with pytest.raises(OSError, match="No such"):
        room.rot("/b", 0)


def test_a_replaced_disk_is_empty() -> None:
    room = disk()
    write(room.fs, "/a", b"x")
    room.wipe()
    assert room.fs.listdir("/") == []


def test_old_places_are_snapshots_and_all_records_but_the_last() -> None:
    room = disk()
    room.fs.mkdir("/data")
    log = WalLog.open("/data/log", fs=room.fs)
    for index in range(1, 4):
        log.append([LogEntry(1, index, b"command")])
        log.sync()
    log.save_snapshot(Snapshot(1, 1, Membership([1]), b"state"))
    log.sync()
    log.close()
    places = room.old_places("/data/log")
    snapshots = [path for path, _, _ in places if path.endswith(".snap")]
    assert len(snapshots) == 1
    assert len(places) >= 3
    path, offset, size = places[-1]
    room.rot(path, offset + size - 1)
    with pytest.raises(CorruptLogError):
        WalLog.open("/data/log", fs=room.fs)
