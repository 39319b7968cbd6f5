"""The identity file: made once, then compared."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from google_crc32c import value

from raft_io.core.types import LogEntry
from raft_io.errors import CorruptLogError, IdentityError, StorageError
from raft_io.storage import (
    Identity,
    MemoryFileSystem,
    OsFileSystem,
    WalLog,
    check_log,
    check_voters,
    open_identity,
)

DATA = "/data/node-1"
FILE = f"{DATA}/identity.json"


def opened(
    fs: MemoryFileSystem, cluster: str = "red", node: int = 1, voters: tuple[int, ...] = (1, 2, 3)
) -> Identity:
    identity = open_identity(fs, DATA, cluster, node, voters, lambda: 4711)
    check_voters(DATA, identity, voters)
    return identity


def contents(fs: MemoryFileSystem) -> bytes:
    file = fs.open(FILE)
    return file.pread(file.size(), 0)


def replace(fs: MemoryFileSystem, data: bytes) -> None:
    fs.open(FILE, create=True).pwrite(data, 0)


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    where = tmp_path / "a" / "b"
    made = open_identity(OsFileSystem(), where, "red", 1, [3, 1, 2], lambda: 42)
    assert made == Identity("red", 1, [1, 2, 3], 42)
    assert open_identity(OsFileSystem(), str(where), "red", 1, [2, 3, 1], lambda: 43) == made
    assert hash(made) == hash(Identity("red", 1, [3, 2, 1], 42))
    assert repr(made) == "Identity(cluster_id='red', node_id=1, voters=[1, 2, 3], incarnation=42)"
    assert os.listdir(where) == ["identity.json"]


@pytest.mark.parametrize(
    ("cluster", "node", "voters", "named"),
    [
        ("blue", 1, (1, 2, 3), "cluster 'blue'"),
        ("red", 2, (1, 2, 3), "node 2"),
        ("red", 1, (1, 2), "voters 1, 2$"),
        ("red", 1, (1, 2, 4), "voters 1, 2, 4"),
    ],
)
def test_another_owner_is_refused(cluster: str, node: int, voters: tuple[int, ...], named: str) -> None:
    fs = MemoryFileSystem()
    opened(fs)
    before = contents(fs)
    with pytest.raises(IdentityError, match=named) as caught:
        opened(fs, cluster, node, voters)
    assert (
        "/data/node-1 is the data directory of node 1 of cluster 'red' with the initial voters 1, 2, 3"
        in str(caught.value)
    )
    assert contents(fs) == before and opened(fs).incarnation == 4711


def test_other_initial_voters_alone_are_found_by_a_check_of_their_own() -> None:
    fs = MemoryFileSystem()
    made = opened(fs)
    again = open_identity(fs, DATA, "red", 1, (1, 2, 3, 4), lambda: 5)
    assert again == made, "the initial voters are those of the first start"
    check_voters(DATA, again, [3, 2, 1, 1])
    with pytest.raises(
        IdentityError, match=r"asked for was node 1 of cluster 'red' with the initial voters 1$"
    ):
        check_voters(DATA, again, [1])


def test_a_node_that_joins_has_no_initial_voters() -> None:
    fs = MemoryFileSystem()
    made = opened(fs, voters=())
    assert made.voters == ()
    assert opened(fs, voters=()) == made
    with pytest.raises(IdentityError, match="node 1 of cluster 'red', which joins it; asked for was"):
        opened(fs, voters=(1,))


def test_every_flipped_or_missing_byte_is_found() -> None:
    fs = MemoryFileSystem()
    opened(fs)
    data = contents(fs)
    damaged = [data[:size] for size in range(len(data))]
    for offset in range(len(data)):
        for mask in (0xFF, 0x01, 0x20):
            damaged.append(data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :])
    for noise in (*damaged, data + b"\n", bytes(2 << 20)):
        replace(fs, noise)
        with pytest.raises(CorruptLogError) as caught:
            opened(fs)
        assert caught.value.path == FILE
    replace(fs, data)
    assert opened(fs).incarnation == 4711


def checksummed(text: bytes) -> bytes:
    return text + b', "crc32c": "%08x"}\n' % value(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"version": 1',
        b'{"version": 1, "cluster_id": 5, "node_id": 1, "voters": [1], "incarnation": 1',
        b'{"version": 1, "cluster_id": "a", "node_id": -1, "voters": [1], "incarnation": 1',
        b'{"version": 1, "cluster_id": "a", "node_id": 1, "voters": ["x"], "incarnation": 1',
        b'{"version": 1, "cluster_id": "a", "node_id": 1, "voters": 3, "incarnation": 1',
        b"[1",
        b"\xff",
    ],
)
def test_a_file_that_makes_no_sense_is_corrupt(text: bytes) -> None:
    fs = MemoryFileSystem()
    opened(fs)
    replace(fs, checksummed(text))
    with pytest.raises(CorruptLogError):
        opened(fs)


def test_a_newer_version_is_named() -> None:
    fs = MemoryFileSystem()
    opened(fs)
    replace(fs, checksummed(b'{"version": 2, "who": "knows"'))
    with pytest.raises(StorageError, match="version 2") as caught:
        opened(fs)
    assert not isinstance(caught.value, CorruptLogError)


@pytest.mark.parametrize("log", [DATA, f"{DATA}/log"])
def test_a_log_without_an_identity_is_not_adopted(log: str) -> None:
    fs = MemoryFileSystem()
    with WalLog.open(log, fs=fs) as wal:
        wal.append([LogEntry(1, 1, b"x")])
        wal.sync()
    with pytest.raises(IdentityError, match="holds a log but no identity"):
        opened(fs)
    assert "identity.json" not in fs.listdir(DATA)


LOG = f"{DATA}/log"


def test_a_log_that_was_written_and_is_gone_is_missed() -> None:
    for left in ([], ["LOCK"], ["LOCK", "0000000000000001.wal.tmp"]):
        fs = MemoryFileSystem()
        opened(fs)
        fs.mkdir(LOG)
        for name in left:
            fs.open(f"{LOG}/{name}", create=True)
        with pytest.raises(IdentityError, match="but no log"):
            check_log(fs, DATA)
    fs = MemoryFileSystem()
    opened(fs)
    with pytest.raises(IdentityError, match="but no log"):
        check_log(fs, DATA)


@pytest.mark.parametrize("left", [f"{DATA}/peers.json", f"{LOG}/0000000000000000005.snap"])
def test_a_log_in_which_nothing_was_written_is_taken_over_if_nothing_else_is_there(left: str) -> None:
    fs = MemoryFileSystem()
    WalLog.open(LOG, fs=fs).close()
    assert opened(fs).incarnation > 0
    fs = MemoryFileSystem()
    WalLog.open(LOG, fs=fs).close()
    fs.open(left, create=True)
    with pytest.raises(IdentityError, match="holds a log but no identity"):
        opened(fs)


def test_a_crash_at_any_step_leaves_none_or_a_whole_one() -> None:
    class Crash(BaseException):
        pass

    step = 0
    finished = False
    while not finished:
        for keep in (False, True):
            left = [step]

            def fault(operation: str, path: str, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise Crash

            fs = MemoryFileSystem(coin=lambda keep=keep: keep, fault=fault)  # type: ignore[misc]
            try:
                open_identity(fs, DATA, "red", 1, [1], lambda: 5)
                finished = True
            except Crash:
                finished = False
            fs.crash()
            fs.fault = lambda operation, path: None
            assert (
                open_identity(fs, DATA, "red", 1, [1], lambda: 6).incarnation == (5 if finished else 6)
                or keep
            )
        step += 1
    assert step > 8


@pytest.mark.parametrize("operation", ["mkdir", "listdir", "open", "pwrite", "sync", "rename", "sync_dir"])
def test_a_failing_disk_is_a_storage_error(operation: str) -> None:
    def fault(seen: str, path: str) -> None:
        if seen == operation:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        opened(MemoryFileSystem(fault=fault))


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="not a directory"):
        open_identity(OsFileSystem(), tmp_path / "file", "red", 1, [1], lambda: 1)
