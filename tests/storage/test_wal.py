"""`WalLog` as a log: what it promises to whoever uses it."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from raft_io.core.log import RaftLog
from raft_io.core.types import EntryKind, HardState, LogEntry
from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage import MemoryFileSystem, WalLog

PATH = "/data/log"


def entries(first: int, last: int, term: int = 1, size: int = 20) -> list[LogEntry]:
    return [LogEntry(term, index, (b"%d." % index) * size) for index in range(first, last + 1)]


def everything(log: RaftLog) -> list[LogEntry]:
    return list(log.entries(1, log.last_index()))


class Syncs:
    """Counts the operations of a file system, and fails one kind of them from a given one on."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.failing = ""

    def __call__(self, operation: str, path: str) -> None:
        self.seen.append(operation)
        if operation == self.failing:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_new_log_is_empty(tmp_path: Path) -> None:
    with WalLog.open(tmp_path / "a" / "b") as log:
        assert (log.last_index(), log.last_term(), log.hard_state()) == (0, 0, HardState())
        assert (log.term_at(0), log.term_at(1), log.term_at(-1)) == (0, None, None)
        assert log.entry(0) is None and log.entry(1) is None and not log.entries(1, 5)


def test_what_was_synced_is_there_after_reopening(tmp_path: Path) -> None:
    written = [
        LogEntry(1, 1, b""),
        LogEntry(1, 2, bytes(2000), EntryKind.NORMAL),
        LogEntry(3, 3, b"m", EntryKind.MEMBERSHIP),
        LogEntry(2**63 - 2, 4, b"", EntryKind.NOOP),
    ]
    with WalLog.open(str(tmp_path)) as log:
        log.append(written)
        log.set_hard_state(HardState(2**63 - 1, 2**63 - 1))
        log.sync()
    with WalLog.open(tmp_path) as log:
        assert everything(log) == written
        assert log.hard_state() == HardState(2**63 - 1, 2**63 - 1)
        assert log.last_term() == 2**63 - 2
        assert [log.term_at(index) for index in range(6)] == [0, 1, 1, 3, 2**63 - 2, None]


def test_what_was_not_synced_is_not(tmp_path: Path) -> None:
    with WalLog.open(tmp_path) as log:
        log.append(entries(1, 3))
        log.sync()
        log.append(entries(4, 5))
        log.set_hard_state(HardState(9))
        log.truncate(2)
        assert log.last_index() == 1
    with WalLog.open(tmp_path) as log:
        assert everything(log) == entries(1, 3) and log.hard_state() == HardState()


@pytest.mark.parametrize("bad", [[LogEntry(1, 5)], [LogEntry(1, 3)], [LogEntry(1, 4), LogEntry(1, 6)]])
def test_a_gap_is_refused_and_changes_nothing(bad: list[LogEntry]) -> None:
    with WalLog.open(PATH, fs=MemoryFileSystem()) as log:
        log.append(entries(1, 3))
        with pytest.raises(StorageError, match="expected index"):
            log.append(bad)
        assert everything(log) == entries(1, 3)
        log.append(entries(4, 4, term=7))
        log.sync()
        assert log.term_at(4) == 7


def test_truncation_below_the_first_entry_is_refused() -> None:
    with WalLog.open(PATH, fs=MemoryFileSystem()) as log:
        log.append(entries(1, 3))
        with pytest.raises(StorageError, match=">= 1"):
            log.truncate(0)
        assert log.last_index() == 3


@pytest.mark.parametrize("synced_before", [True, False])
@pytest.mark.parametrize("synced_between", [True, False])
@pytest.mark.parametrize("first", [1, 2, 14, 30, 60, 61, 99])
def test_truncation_anywhere_across_segments(first: int, synced_before: bool, synced_between: bool) -> None:
    fs = MemoryFileSystem()
    with WalLog.open(PATH, fs=fs, segment_size=1024, cache_bytes=0) as log:
        for start in range(1, 61, 6):
            log.append(entries(start, start + 5, term=start))
            if synced_before:
                log.sync()
        log.truncate(first)
        if synced_between:
            log.sync()
        kept = min(first - 1, 60)
        expected = [entry for start in range(1, 61, 6) for entry in entries(start, start + 5, term=start)]
        expected = expected[:kept]
        assert log.last_term() == (expected[-1].term if expected else 0)
        new = entries(kept + 1, kept + 9, term=100)
        log.append(new)
        assert everything(log) == expected + new
        log.sync()
        assert everything(log) == expected + new
        assert [log.term_at(entry.index) for entry in expected + new] == [
            entry.term for entry in expected + new
        ]
    with WalLog.open(PATH, fs=fs) as log:
        assert everything(log) == expected + new
        assert log.term_at(kept + 10) is None


def test_one_write_and_one_sync_however_much_has_changed() -> None:
    calls = Syncs()
    with WalLog.open(PATH, fs=MemoryFileSystem(fault=calls)) as log:
        calls.seen.clear()
        for index in range(1, 100):
            log.append([LogEntry(1, index, b"x")])
        log.truncate(50)
        log.set_hard_state(HardState(1, 1))
        assert calls.seen == []
        log.sync()
        assert calls.seen == ["pwrite", "sync"]
        log.sync()
        assert calls.seen == ["pwrite", "sync"]


def test_old_entries_are_read_back_and_the_cache_stays_small() -> None:
    fs = MemoryFileSystem()
    with WalLog.open(PATH, fs=fs, segment_size=4096, cache_bytes=5000) as log:
        for start in range(1, 2001, 4):
            log.append(entries(start, start + 3, term=start // 100))
            log.sync()
        assert len(log._recent) < 30
        assert len(fs.listdir(PATH)) > 20
        for index in (1, 2, 999, 1000, 1990, 2000, 3):
            entry = log.entry(index)
            assert entry is not None and entry.index == index and entry.command == (b"%d." % index) * 20
        for first in range(1, 2001, 61):
            assert [entry.index for entry in log.entries(first, first + 60)] == list(
                range(first, min(first + 60, 2000) + 1)
            )
        assert [entry.index for entry in log.entries(-5, 4)] == [1, 2, 3, 4]
        assert not log.entries(7, 6) and not log.entries(2001, 3000) and not log.entries(10, 2)


def test_unsynced_entries_stay_however_small_the_cache() -> None:
    calls = Syncs()
    with WalLog.open(PATH, fs=MemoryFileSystem(fault=calls), cache_bytes=0) as log:
        log.append(entries(1, 500))
        calls.seen.clear()
        assert everything(log) == entries(1, 500)
        assert calls.seen == []


def test_a_record_larger_than_a_segment_gets_one_of_its_own() -> None:
    fs = MemoryFileSystem()
    big = [LogEntry(1, 2, b"\0\xff" * 40_000)]
    with WalLog.open(PATH, fs=fs, segment_size=1024, cache_bytes=0) as log:
        for batch in (entries(1, 1), big, entries(3, 3)):
            log.append(batch)
            log.sync()
        assert everything(log) == entries(1, 1) + big + entries(3, 3)
    with WalLog.open(PATH, fs=fs, segment_size=1024) as log:
        assert everything(log) == entries(1, 1) + big + entries(3, 3)


def test_a_very_large_batch_is_several_records_each_synced() -> None:
    calls = Syncs()
    fs = MemoryFileSystem(fault=calls)
    batch = [LogEntry(5, index, bytes([index]) * (1 << 20)) for index in range(1, 11)]
    with WalLog.open(PATH, fs=fs) as log:
        calls.seen.clear()
        log.append(batch)
        log.set_hard_state(HardState(5, 2))
        log.sync()
        assert calls.seen == ["pwrite", "sync"] * 4
    with WalLog.open(PATH, fs=fs) as log:
        assert everything(log) == batch and log.hard_state() == HardState(5, 2)


@pytest.mark.parametrize("size", [0, 1, 29, 30, 31, 255, 256, 511, 512, 513, 1500, 5000])
def test_zeros_come_back_as_zeros(size: int) -> None:
    fs = MemoryFileSystem()
    batches = [
        [LogEntry(1, index, bytes(size) + tail)] for index, tail in enumerate([b"", b"x", b"\xff\xff"], 1)
    ]
    with WalLog.open(PATH, fs=fs, segment_size=1024, cache_bytes=0) as log:
        for batch in batches:
            log.append(batch)
            log.sync()
        assert everything(log) == [batch[0] for batch in batches]
    with WalLog.open(PATH, fs=fs) as log:
        assert everything(log) == [batch[0] for batch in batches]


def test_short_writes_and_reads_are_continued() -> None:
    fs = MemoryFileSystem(max_transfer=7)
    with WalLog.open(PATH, fs=fs, segment_size=1024) as log:
        log.append(entries(1, 5))
        log.sync()
    with WalLog.open(PATH, fs=fs, segment_size=1024) as log:
        assert everything(log) == entries(1, 5)


@pytest.mark.parametrize("operation", ["pwrite", "sync", "allocate", "rename", "sync_dir", "open"])
def test_after_a_failed_write_nothing_is_written_any_more(operation: str) -> None:
    calls = Syncs()
    fs = MemoryFileSystem(fault=calls)
    with WalLog.open(PATH, fs=fs, segment_size=1024, cache_bytes=0) as log:
        log.append(entries(1, 3))
        log.sync()
        log.append(entries(4, 20))
        calls.failing = operation
        with pytest.raises(StorageError, match="No space left on device") as caught:
            log.sync()
        assert isinstance(caught.value.__cause__, OSError) and "/data/log/" in caught.value.context
        calls.failing = ""
        calls.seen.clear()
        for attempt in (
            log.sync,
            lambda: log.append(entries(21, 21)),
            lambda: log.truncate(1),
            lambda: log.set_hard_state(HardState(3)),
        ):
            with pytest.raises(StorageError, match="No space left on device"):
                attempt()
        assert calls.seen == []
        assert everything(log) == entries(1, 20)
    with WalLog.open(PATH, fs=fs) as log:
        assert everything(log)[:3] == entries(1, 3)


def test_a_read_that_fails_says_where() -> None:
    calls = Syncs()
    with WalLog.open(PATH, fs=MemoryFileSystem(fault=calls), cache_bytes=0) as log:
        log.append(entries(1, 3))
        log.sync()
        calls.failing = "pread"
        with pytest.raises(StorageError, match="/data/log"):
            log.entry(1)
        calls.failing = ""
        assert everything(log) == entries(1, 3)


def test_damage_found_while_reading_is_named() -> None:
    fs = MemoryFileSystem()
    with WalLog.open(PATH, fs=fs, cache_bytes=0) as log:
        log.append(entries(1, 3))
        log.sync()
        path = f"{PATH}/{1:016d}.wal"
        for offset in (520, 600):
            file = fs.open(path)
            byte = file.pread(1, offset)
            file.pwrite(bytes([byte[0] ^ 1]), offset)
            with pytest.raises(CorruptLogError) as caught:
                log.entries(1, 3)
            assert (caught.value.path, caught.value.offset) == (path, 512)
            file.pwrite(byte, offset)
        assert everything(log) == entries(1, 3)


def test_a_closed_log_refuses_everything() -> None:
    log = WalLog.open(PATH, fs=MemoryFileSystem())
    log.close()
    log.close()
    for attempt in (
        log.last_index,
        log.last_term,
        log.hard_state,
        log.sync,
        lambda: log.term_at(1),
        lambda: log.entry(1),
        lambda: log.entries(1, 1),
        lambda: log.append([]),
        lambda: log.truncate(1),
        lambda: log.set_hard_state(HardState()),
    ):
        with pytest.raises(StorageError, match="closed"):
            attempt()


def test_a_file_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="not a directory"):
            WalLog.open(path)


@pytest.mark.parametrize("size", [0, 512, 1025])
def test_an_impossible_segment_size_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="segment_size"):
        WalLog.open(tmp_path, segment_size=size)
    assert not list(tmp_path.iterdir())


def test_a_second_open_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with WalLog.open(tmp_path), pytest.raises(StorageError, match="in use by another process"):
        WalLog.open(tmp_path)
    WalLog.open(tmp_path).close()


HOLDER = """
import sys, time
from raft_io.storage import WalLog
log = WalLog.open(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        with pytest.raises(StorageError, match="in use by another process"):
            WalLog.open(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    with WalLog.open(tmp_path) as log:
        log.append(entries(1, 1))
        log.sync()


def test_an_open_that_fails_lets_go_of_the_lock(tmp_path: Path) -> None:
    with WalLog.open(tmp_path) as log:
        log.append(entries(1, 1))
        log.sync()
    segment = tmp_path / f"{1:016d}.wal"
    whole = segment.read_bytes()
    segment.write_bytes(b"noise")
    for _ in range(2):
        with pytest.raises(CorruptLogError):
            WalLog.open(tmp_path)
    segment.write_bytes(whole)
    with WalLog.open(tmp_path) as log:
        assert everything(log) == entries(1, 1)


def test_syncs_in_a_thread_while_others_append_truncate_and_read(tmp_path: Path) -> None:
    log = WalLog.open(tmp_path, segment_size=8192, cache_bytes=2000)
    stop = threading.Event()
    errors: list[BaseException] = []

    def sync() -> None:
        try:
            while not stop.is_set():
                log.sync()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    model: list[LogEntry] = []
    try:
        for turn in range(1, 1500):
            new = entries(len(model) + 1, len(model) + turn % 4, term=turn, size=5)
            log.append(new)
            model += new
            if turn % 17 == 0:
                first = max(1, len(model) - turn % 40)
                log.truncate(first)
                del model[first - 1 :]
            if turn % 50 == 0:
                assert everything(log) == model
                assert [log.term_at(entry.index) for entry in model] == [entry.term for entry in model]
    finally:
        stop.set()
        thread.join()
    assert not errors
    log.sync()
    assert everything(log) == model
    log.close()
    with WalLog.open(tmp_path) as log:
        assert everything(log) == model


@pytest.mark.parametrize("synced", [0, 4, 7])
def test_a_sync_covers_what_came_before_and_leaves_the_rest(synced: int) -> None:
    """While entries up to 9 are being written, those from 5 on are replaced."""
    fs = MemoryFileSystem()
    log = WalLog.open(PATH, fs=fs, cache_bytes=0)
    log.append(entries(1, synced))
    log.sync()
    log.append(entries(synced + 1, 9))

    def meanwhile(operation: str, path: str) -> None:
        if operation == "pwrite":
            fs.fault = lambda operation, path: None
            log.truncate(5)
            log.append(entries(5, 6, term=2))
            log.set_hard_state(HardState(2))

    fs.fault = meanwhile
    log.sync()
    now = entries(1, 4) + entries(5, 6, term=2)
    assert everything(log) == now
    crashed = fs.copy()
    with WalLog.open(PATH, fs=crashed) as other:
        assert everything(other) == entries(1, 9) and other.hard_state() == HardState()
    log.sync()
    assert everything(log) == now
    log.append(entries(7, 9, term=3))
    log.sync()
    now += entries(7, 9, term=3)
    assert everything(log) == now
    log.close()
    with WalLog.open(PATH, fs=fs, cache_bytes=0) as log:
        assert everything(log) == now and log.hard_state() == HardState(2)
