"""The file of peers: what a node remembers of the others."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest
from google_crc32c import value

from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage import MemoryFileSystem, OsFileSystem, PeerFile, Peers

DATA = "/data"
FILE = f"{DATA}/peers.json"


def disk() -> MemoryFileSystem:
    fs = MemoryFileSystem()
    fs.mkdir(DATA)
    return fs


def filled(fs: MemoryFileSystem) -> PeerFile:
    file = PeerFile(fs, DATA)
    file.peers.met = {2: 22, 3: 2**63 - 1}
    file.peers.members = {1: ("h:1", 0), 2: ("[::1]:2", 22)}
    file.peers.as_of = 7
    file.peers.joined = 5
    file.peers.settled = True
    file.save()
    return file


def contents(fs: MemoryFileSystem) -> bytes:
    file = fs.open(FILE)
    return file.pread(file.size(), 0)


def replace(fs: MemoryFileSystem, data: bytes) -> None:
    fs.open(FILE, create=True).pwrite(data, 0)


def test_it_remembers_everything(tmp_path: Path) -> None:
    fs = disk()
    filled(fs)
    found = PeerFile(fs, DATA).peers
    assert found.met == {2: 22, 3: 2**63 - 1}
    assert found.members == {1: ("h:1", 0), 2: ("[::1]:2", 22)}
    assert (found.as_of, found.joined, found.settled) == (7, 5, True)
    file = PeerFile(OsFileSystem(), tmp_path)
    assert file.peers.met == {}
    file.peers.met[9] = 1
    file.save()
    assert os.listdir(tmp_path) == ["peers.json"]
    assert PeerFile(OsFileSystem(), tmp_path).peers.met == {9: 1}


def test_what_has_not_changed_is_not_written() -> None:
    fs = disk()
    written: list[str] = []
    file = filled(fs)
    fs.fault = lambda operation, path: written.append(operation)
    file.save()
    PeerFile(disk(), DATA).save()
    assert written == []
    file.peers.as_of += 1
    file.save()
    assert "sync" in written and written[-1] == "sync_dir"


def test_every_flipped_or_missing_byte_is_found() -> None:
    fs = disk()
    filled(fs)
    data = contents(fs)
    damaged = [data[:size] for size in range(len(data))]
    for offset in range(len(data)):
        damaged.append(data[:offset] + bytes([data[offset] ^ 0x20]) + data[offset + 1 :])
    for noise in (*damaged, data + b"\n", bytes(2 << 20)):
        replace(fs, noise)
        with pytest.raises(CorruptLogError) as caught:
            PeerFile(fs, DATA)
        assert caught.value.path == FILE


def checksummed(text: bytes) -> bytes:
    return text + b', "crc32c": "%08x"}\n' % value(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"version": 1',
        b'{"version": 1, "met": [], "members": {}, "as_of": 0, "joined": 0, "settled": false',
        b'{"version": 1, "met": {"x": 1}, "members": {}, "as_of": 0, "joined": 0, "settled": false',
        b'{"version": 1, "met": {"1": -1}, "members": {}, "as_of": 0, "joined": 0, "settled": false',
        b'{"version": 1, "met": {}, "members": {"1": [1, 1]}, "as_of": 0, "joined": 0, "settled": false',
        b'{"version": 1, "met": {}, "members": {"1": ["h:1"]}, "as_of": 0, "joined": 0, "settled": false',
        b'{"version": 1, "met": {}, "members": {}, "as_of": "0", "joined": 0, "settled": false',
    ],
)
def test_a_file_that_makes_no_sense_is_corrupt(text: bytes) -> None:
    fs = disk()
    replace(fs, checksummed(text))
    with pytest.raises(CorruptLogError, match="makes no sense"):
        PeerFile(fs, DATA)


def test_a_newer_version_is_named() -> None:
    fs = disk()
    replace(fs, checksummed(b'{"version": 2, "who": "knows"'))
    with pytest.raises(StorageError, match="version 2; this version of raft-io knows 1") as caught:
        PeerFile(fs, DATA)
    assert not isinstance(caught.value, CorruptLogError)


def test_a_crash_at_any_step_leaves_the_old_or_the_new() -> None:
    class Crash(BaseException):
        pass

    step = 0
    finished = False
    while not finished:
        for keep in (False, True):
            fs = disk()
            fs.sync_dir("/")
            filled(fs)
            left = [step]

            def fault(operation: str, path: str, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise Crash

            file = PeerFile(fs, DATA)
            fs.coin = partial(bool, keep)
            fs.fault = fault
            file.peers.met[4] = 44
            try:
                file.save()
                finished = True
            except Crash:
                finished = False
            fs.crash()
            fs.fault = lambda operation, path: None
            found = PeerFile(fs, DATA).peers
            assert found.met in ({2: 22, 3: 2**63 - 1}, {2: 22, 3: 2**63 - 1, 4: 44})
            assert 4 in found.met or not finished
        step += 1
    assert step > 4


@pytest.mark.parametrize("operation", ["open", "pwrite", "sync", "rename", "sync_dir"])
def test_a_failing_disk_is_a_storage_error_and_the_next_save_may_do(operation: str) -> None:
    fs = disk()
    file = filled(fs)
    file.peers.met[4] = 44

    def fault(seen: str, path: str) -> None:
        if seen == operation:
            raise OSError(errno.ENOSPC, "No space left on device")

    fs.fault = fault
    with pytest.raises(StorageError, match="No space left"):
        file.save()
    fs.fault = lambda operation, path: None
    file.save()
    assert PeerFile(fs, DATA).peers.met[4] == 44
    fs.fault = lambda operation, path: (_ for _ in ()).throw(OSError(5, "Input/output error"))
    with pytest.raises(StorageError, match="Input/output"):
        PeerFile(fs, DATA)


def test_peers_start_with_nothing() -> None:
    empty = Peers()
    assert (empty.met, empty.members, empty.as_of, empty.joined, empty.settled) == ({}, {}, 0, 0, False)
    assert Peers.decode(empty.encode(), FILE).encode() == empty.encode()
