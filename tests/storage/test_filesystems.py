"""The real file system and the simulated one: what the log relies on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raft_io.core.types import LogEntry
from raft_io.storage import FileSystem, MemoryFileSystem, OsFileSystem, WalLog


@pytest.fixture(params=["os", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, str]:
    if request.param == "os":
        return OsFileSystem(), str(tmp_path)
    fs = MemoryFileSystem()
    fs.mkdir("/d")
    return fs, "/d"


def test_both_behave_alike(disk: tuple[FileSystem, str]) -> None:
    fs, root = disk
    file = fs.open(f"{root}/a", create=True)
    assert file.pwrite(b"hello", 3) == 5
    assert (file.size(), file.pread(100, 0), file.pread(2, 4)) == (8, b"\0\0\0hello", b"el")
    file.write_back(0, 8)
    file.write_back(4, 4096)
    file.allocate(4096)
    assert (file.size(), file.pread(1, 4095), file.pread(1, 4096)) == (4096, b"\0", b"")
    file.allocate(100)
    assert file.size() == 4096
    file.sync()
    file.close()
    file.close()
    fs.rename(f"{root}/a", f"{root}/b")
    fs.sync_dir(root)
    assert fs.listdir(root) == ["b"]
    assert fs.open(f"{root}/b").pread(8, 0) == b"\0\0\0hello"
    assert fs.open(f"{root}/b", create=True).size() == 0
    fs.unlink(f"{root}/b")
    fs.mkdir(f"{root}/c")
    assert fs.listdir(f"{root}/c") == []
    assert not fs.is_locked(f"{root}/L") and fs.listdir(root) == ["c"]
    lock = fs.lock(f"{root}/L")
    with pytest.raises(BlockingIOError):
        fs.lock(f"{root}/L")
    assert fs.is_locked(f"{root}/L")
    lock.close()
    assert not fs.is_locked(f"{root}/L")
    fs.lock(f"{root}/L").close()


def test_what_is_opened_for_reading_is_not_written(disk: tuple[FileSystem, str]) -> None:
    fs, root = disk
    file = fs.open(f"{root}/a", create=True)
    file.pwrite(b"hello", 0)
    reader = fs.open(f"{root}/a", read_only=True)
    assert (reader.size(), reader.pread(9, 1)) == (5, b"ello")
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.pwrite(b"x", 0)
    fs.unlink(f"{root}/a")
    assert reader.pread(9, 0) == b"hello"
    with pytest.raises(FileNotFoundError):
        fs.open(f"{root}/a", read_only=True)


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (lambda fs, root: fs.open(f"{root}/none"), FileNotFoundError),
        (lambda fs, root: fs.open(f"{root}/none/below", create=True), FileNotFoundError),
        (lambda fs, root: fs.listdir(f"{root}/none"), FileNotFoundError),
        (lambda fs, root: fs.listdir(f"{root}/file"), NotADirectoryError),
        (lambda fs, root: fs.mkdir(f"{root}/file/below"), NotADirectoryError),
        (lambda fs, root: fs.mkdir(f"{root}/none/below"), FileNotFoundError),
        (lambda fs, root: fs.mkdir(f"{root}/file"), FileExistsError),
        (lambda fs, root: fs.mkdir("/"), FileExistsError),
        (lambda fs, root: fs.open(root), IsADirectoryError),
        (lambda fs, root: fs.unlink(f"{root}/none"), FileNotFoundError),
        (lambda fs, root: fs.rename(f"{root}/none", f"{root}/some"), FileNotFoundError),
    ],
)
def test_both_fail_alike(
    disk: tuple[FileSystem, str], attempt: Callable[[FileSystem, str], object], expected: type[OSError]
) -> None:
    fs, root = disk
    fs.open(f"{root}/file", create=True).close()
    with pytest.raises(expected):
        attempt(fs, root)


def test_without_support_for_preallocation_the_real_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with WalLog.open(tmp_path, segment_size=4096) as log:
        log.append([LogEntry(1, 1, b"x")])
        log.sync()
    monkeypatch.delattr(os, "posix_fallocate")
    with WalLog.open(tmp_path, segment_size=4096) as log:
        log.append([LogEntry(1, 2, bytes(5000))])
        log.sync()
        assert sorted(path.stat().st_size for path in tmp_path.glob("*.wal")) == [4096, 6144]


def test_without_write_back_nothing_is_begun_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    file = OsFileSystem().open(str(tmp_path / "a"), create=True)
    file.pwrite(b"hello", 0)
    file.write_back(0, 5)
    file.sync()
    assert file.pread(9, 0) == b"hello"


def test_a_full_disk_is_not_taken_for_missing_support(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        OsFileSystem().open(str(tmp_path / "a"), create=True).allocate(4096)
    assert caught.value.errno == errno.ENOSPC


def test_a_crash_loses_what_was_not_synced() -> None:
    fs = MemoryFileSystem()
    file = fs.open("/a", create=True)
    fs.sync_dir("/")
    file.pwrite(b"kept", 0)
    file.sync()
    file.pwrite(b"lost", 0)
    fs.open("/b", create=True).sync()
    fs.rename("/a", "/c")
    fs.crash()
    assert fs.listdir("/") == ["a"] and fs.open("/a").pread(9, 0) == b"kept"
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.pread(1, 0)


def test_a_crash_keeps_sectors_in_any_order() -> None:
    coins = iter([True, False, True, True])
    fs = MemoryFileSystem(coin=lambda: next(coins, False))
    file = fs.open("/a", create=True)
    fs.sync_dir("/")
    file.allocate(2048)
    file.sync()
    file.pwrite(b"x" * 2048, 0)
    fs.crash()
    kept = fs.open("/a").pread(2048, 0)
    assert [kept[at] for at in range(0, 2048, 512)] == [120, 0, 120, 120]


def test_a_failed_sync_is_not_made_good_by_the_next() -> None:
    def fail(operation: str, path: str) -> None:
        if operation == "sync":
            raise OSError(errno.EIO, "Input/output error")

    fs = MemoryFileSystem()
    file = fs.open("/a", create=True)
    fs.sync_dir("/")
    file.pwrite(b"lost", 0)
    fs.fault = fail
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    fs.fault = lambda operation, path: None
    file.sync()
    assert file.pread(4, 0) == b"lost"
    fs.crash()
    assert fs.open("/a").pread(4, 0) == b""
