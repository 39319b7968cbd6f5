"""A backup: what is in it, and how it is known to be whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google_crc32c import value
from tests.server.operated import (
    Pretended,
    exchange,
    hosted,
    refusal,
    request,
)

from raft_io import Membership, Snapshot, SnapshotData
from raft_io.errors import (
    NotLeaderError,
    StorageError,
)
from raft_io.server.backup import BackupFile


class Held(SnapshotData):
    """A snapshot's contents that are made as they are read."""

    PATTERN = bytes(range(251)) * 5000

    def __init__(self, size: int, checksum: int = 0, *, ends: int | None = None) -> None:
        self.size = size
        self.checksum = checksum
        self._ends = size if ends is None else ends

    def read(self, offset: int, size: int, /) -> bytes:
        start = offset % 251
        return self.PATTERN[start : start + max(0, min(size, self._ends - offset))]


def backed_up(server: Pretended, path: str = "/backup") -> tuple[int, bytes]:
    """The answer to a request for a backup."""

    async def test() -> tuple[int, bytes]:
        async with hosted(server) as address:
            return await exchange(address, request("GET", path))

    return asyncio.run(asyncio.wait_for(test(), 20))


@contextmanager
def opened(data: bytes, folder: Path) -> Iterator[BackupFile]:
    """The backup in these bytes."""
    path = folder / "backup"
    path.write_bytes(data)
    with path.open("rb") as file:
        yield BackupFile(file, str(path))


def test_a_backup_is_a_fresh_snapshot(tmp_path: Path) -> None:
    server = Pretended()
    held = Held(1_000_000)
    server.snapshot = Snapshot(50, 4, Membership([1, 2, 3], [4], [5]), held)
    status, body = backed_up(server, "/backup?timeout=7")
    assert status == 200
    # Nothing that was acknowledged before is missing: first a linearizable point, then the snapshot.
    assert server.asked == [("read", 7.0), ("snapshot", 7.0)]
    with opened(body, tmp_path) as found:
        found.verify()
        backup = found.backup
        assert (backup.cluster_id, backup.node, backup.index, backup.term) == ("shop", 1, 50, 4)
        assert backup.membership == Membership([1, 2, 3], [4], [5])
        assert found.read(0, 2_000_000) == held.read(0, 1_000_000)
        assert backup.total == len(body)


def test_a_backup_of_what_a_node_has_needs_no_leader(tmp_path: Path) -> None:
    server = Pretended()
    server.snapshot = Snapshot(50, 4, Membership([1]), b"state")
    _, body = backed_up(server, "/backup?local=true")
    assert [each[0] for each in server.asked] == ["snapshot"]
    with opened(body, tmp_path) as found:
        found.verify()
        assert found.read(1, 100) == b"tate"


def test_there_is_no_backup_of_nothing() -> None:
    assert refusal(Pretended(), request("GET", "/backup"))[0] == 409


def test_a_backup_without_a_leader_is_an_error() -> None:
    server = Pretended()
    server.failure = NotLeaderError(None)
    assert refusal(server, request("GET", "/backup"))[:2] == (503, "NotLeader")


@pytest.mark.parametrize(
    "held", [Held(1_000_000, 1 << 40 | 7), Held(1_000_000, ends=900_000)], ids=["damaged", "short"]
)
def test_a_snapshot_that_cannot_be_read_makes_no_whole_backup(
    held: Held, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Pretended()
    server.snapshot = Snapshot(50, 4, Membership([1]), held)
    status, body = backed_up(server)
    assert status == 200
    with pytest.raises(StorageError, match="should have"), opened(body, tmp_path):
        pass
    assert "cut short" in caplog.text


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (0, "it is no backup"),
        (8, "it has version 254"),
        (10, "its header makes no sense|its header is damaged"),
        (20, "its header is damaged"),
        (-1, "do not match their checksum"),
        (-500, "do not match their checksum"),
    ],
)
def test_a_backup_that_was_damaged_is_refused(place: int, message: str, tmp_path: Path) -> None:
    server = Pretended()
    server.snapshot = Snapshot(50, 4, Membership([1]), Held(10_000))
    data = bytearray(backed_up(server)[1])
    data[place] ^= 0xFF
    with pytest.raises(StorageError, match=message), opened(bytes(data), tmp_path) as found:
        found.verify()


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b"no JSON",
        b'{"cluster_id": 5}',
        b'{"cluster_id": "a", "voters": 1, "learners": [], "outgoing": []}',
        b'{"cluster_id": "a", "voters": [1], "learners": [], "outgoing": [], "node": "1"}',
    ],
)
def test_a_header_that_makes_no_sense_is_refused(header: bytes, tmp_path: Path) -> None:
    head = b"RAFTBKUP" + (1).to_bytes(2, "little") + len(header).to_bytes(4, "little") + header
    data = head + value(head).to_bytes(4, "little")
    with pytest.raises(StorageError, match="its header makes no sense"), opened(data, tmp_path):
        pass


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    data = b"RAFTBKUP" + (1).to_bytes(2, "little") + b"\xff" * 4
    with pytest.raises(StorageError, match="its header makes no sense"), opened(data, tmp_path):
        pass


@pytest.mark.parametrize("cut", [1, 4, 5000, 10_100])
def test_a_backup_that_was_cut_short_is_refused(cut: int, tmp_path: Path) -> None:
    server = Pretended()
    server.snapshot = Snapshot(50, 4, Membership([1]), Held(10_000))
    data = backed_up(server)[1][:-cut]
    with pytest.raises(StorageError), opened(data, tmp_path):
        pass
