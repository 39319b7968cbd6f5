"""Getting out of trouble: a forced membership, a salvaged log."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.storage.logs import (
    DATA,
    PATH,
    contents,
    entries,
    everything,
    filled,
    flipped,
    names,
    opened,
    segment,
    snapshot_at,
)
from tests.storage.test_crash import COINS, At, Crash

from raft_io.core.members import decode_membership
from raft_io.core.types import EntryKind, HardState, LogEntry, Membership, Snapshot
from raft_io.errors import CorruptLogError, IdentityError, StorageError
from raft_io.storage import MemoryFileSystem, OsFileSystem, WalLog, open_identity
from raft_io.storage.inspect import RecordInfo, verify, walk
from raft_io.storage.recover import force_membership, salvage

RECORD = f"{DATA}/recovery.json"


def owned(fs: MemoryFileSystem, node: int = 1) -> MemoryFileSystem:
    """The disk, with an identity made before the log, as a server does."""
    other = MemoryFileSystem()
    open_identity(other, DATA, "red", node, [1, 2, 3], lambda: 4711)
    data = contents(other, f"{DATA}/identity.json")
    copy = fs.copy()
    copy.open(f"{DATA}/identity.json", create=True).pwrite(data, 0)
    return copy.copy()


def record(fs: MemoryFileSystem) -> list[dict[str, object]]:
    return [json.loads(line) for line in contents(fs, RECORD).decode().splitlines()]


# A forced membership


def test_two_forced_logs_are_told_apart_by_their_terms() -> None:
    fs = owned(filled(0))
    plain = force_membership(DATA, fs.copy(), node_id=1, voters=[1])
    leapt = force_membership(DATA, fs.copy(), node_id=1, voters=[1], leap=77)
    assert (leapt.index, leapt.term) == (plain.index, plain.term + 77)


@pytest.mark.parametrize("snapshot", [0, 20, 40])
def test_a_membership_is_forced_behind_everything_in_the_log(snapshot: int) -> None:
    fs = owned(filled(snapshot))
    with opened(fs) as log:
        log.set_hard_state(HardState(7, 2))
        log.append(entries(41, 43, term=6))
        log.sync()
        before = list(log.entries(1, 43))
    done = force_membership(DATA, fs, node_id=1, voters=[1], learners=[5], now="2026-01-02T03:04:05Z")
    assert (done.index, done.term, done.membership) == (44, 8, Membership([1], [5]))
    assert done.snapshot_index == snapshot
    assert done.before == (Membership([1, 2, 3], [4]) if snapshot else None)
    with opened(fs) as log:
        assert list(log.entries(1, 43)) == before
        entry = log.entry(44)
        assert entry is not None and entry.kind is EntryKind.MEMBERSHIP and entry.term == 8
        assert decode_membership(entry.command) == Membership([1], [5])
        assert list(log.membership_entries()) == [entry]
        assert log.hard_state() == HardState(8, 1)
    assert record(fs) == [
        {
            "what": "force_membership",
            "time": "2026-01-02T03:04:05Z",
            "node_id": 1,
            "index": 44,
            "term": 8,
            "membership": {"voters": [1], "learners": [5], "outgoing": []},
            "before": {"voters": [1, 2, 3], "learners": [4], "outgoing": []} if snapshot else None,
        }
    ]
    assert not verify(DATA, fs)


def test_the_term_is_above_that_of_the_last_entry_and_a_second_time_is_recorded_too() -> None:
    fs = MemoryFileSystem()
    with opened(fs) as log:
        log.save_snapshot(Snapshot(9, 12, Membership([1, 2]), b""))
        log.sync()
    done = force_membership(PATH, fs, node_id=2, voters=[2])
    assert (done.index, done.term, done.before) == (10, 13, Membership([1, 2]))
    again = force_membership(PATH, fs, node_id=2, voters=[2, 3])
    assert (again.index, again.term, again.before) == (11, 14, Membership([2]))
    assert [line["index"] for line in record(fs)] == [10, 11]


@pytest.mark.parametrize(
    ("voters", "learners", "named"),
    [([2, 3], [], "node 1 must be one"), ([], [], "node 1 must be one"), ([1], [1], "voters and learners")],
)
def test_a_membership_that_makes_no_sense_is_refused(
    voters: list[int], learners: list[int], named: str
) -> None:
    fs = owned(filled())
    before = everything(fs)
    with pytest.raises(ValueError, match=named):
        force_membership(DATA, fs, node_id=1, voters=voters, learners=learners)
    assert everything(fs) == before and "recovery.json" not in fs.listdir(DATA)


def test_another_nodes_directory_is_refused() -> None:
    fs = owned(filled(), node=2)
    before = everything(fs)
    with pytest.raises(IdentityError, match="of node 2, not of 1"):
        force_membership(DATA, fs, node_id=1, voters=[1])
    assert everything(fs) == before


def test_a_log_that_is_not_there_in_use_damaged_or_full_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no log"):
        force_membership(tmp_path, node_id=1, voters=[1])
    assert not list(tmp_path.iterdir())
    fs = filled()
    with opened(fs), pytest.raises(StorageError, match="in use"):
        force_membership(DATA, fs, node_id=1, voters=[1])
    with pytest.raises(CorruptLogError):
        force_membership(DATA, flipped(fs, segment(2), 600), node_id=1, voters=[1])
    with opened(fs) as log:
        log.set_hard_state(HardState(2**63 - 2))
        log.sync()
    with pytest.raises(StorageError, match="no term"):
        force_membership(DATA, fs, node_id=1, voters=[1])


@pytest.mark.parametrize("make_coin", COINS)
def test_a_crash_leaves_the_old_membership_or_the_new(make_coin: Callable[[int], Callable[[], bool]]) -> None:
    fs = owned(filled(20))
    probe = fs.copy()
    probe.fault = count = At(-1, Crash)
    force_membership(DATA, probe, node_id=1, voters=[1])
    outcomes = set()
    for step in range(count.count):
        other = fs.copy()
        other.coin = make_coin(step)
        other.fault = At(step, Crash)
        with pytest.raises(Crash):
            force_membership(DATA, other, node_id=1, voters=[1])
        other.crash()
        other.fault = At(-1, Crash)
        with opened(other) as log:
            outcomes.add((log.last_index(), log.hard_state().voted_for, log.hard_state().term))
    assert outcomes == {(40, 1, 1), (41, 1, 2)}


def test_a_failing_disk_is_a_storage_error() -> None:
    fs = owned(filled())
    probe = fs.copy()
    probe.fault = count = At(-1, Crash)
    force_membership(DATA, probe, node_id=1, voters=[1])
    for step in range(count.count):
        other = fs.copy()
        other.fault = At(step, lambda: OSError(errno.EIO, "injected"))
        with pytest.raises(StorageError, match="injected"):
            force_membership(DATA, other, node_id=1, voters=[1])


# Salvaging


def kept(fs: MemoryFileSystem) -> list[LogEntry]:
    with opened(fs) as log:
        return list(log.entries(1, log.last_index()))


def test_a_sound_log_is_left_alone() -> None:
    for fs in (owned(filled()), owned(filled(20))):
        fs.open(f"{PATH}/taking-1.snap.tmp", create=True)
        before = everything(fs)
        done = salvage(DATA, fs)
        assert (done.findings, done.moved) == ((), ())
        assert {name: data for name, data in everything(fs).items() if name != "LOCK"} == {
            name: data for name, data in before.items() if name != "LOCK"
        }
        assert "identity.json" in fs.listdir(DATA) and "salvaged.json" not in fs.listdir(DATA)


def test_everything_before_the_damage_is_kept_and_nothing_is_deleted() -> None:
    sound = owned(filled())
    for info in [item for item in walk(PATH, sound) if isinstance(item, RecordInfo)]:
        fs = flipped(sound, info.path, info.offset + 40)
        before = everything(fs)
        with pytest.raises(CorruptLogError):
            opened(fs)
        done = salvage(DATA, fs, now="today")
        assert [(finding.path, finding.offset) for finding in done.findings if finding.is_damage] == [
            (info.path, info.offset)
        ]
        assert not verify(DATA, fs)
        assert kept(fs) == entries(1, info.entries[0].index - 1)
        assert done.last_index == info.entries[0].index - 1
        after = everything(fs)
        for name, data in before.items():
            assert data in (after.get(name), after.get(f"{name}.damaged-1")), name
        assert "identity.json" not in fs.listdir(DATA)
        assert "identity.json.damaged-1" in fs.listdir(DATA)
        line = record(fs)[0]
        assert (line["what"], line["time"], line["last_index"]) == ("salvage", "today", done.last_index)
        assert {path.rpartition("/")[2] for path in done.moved} >= {
            "identity.json.damaged-1",
            f"{info.path.rpartition('/')[2]}.damaged-1",
        }


def test_a_damaged_header_a_missing_segment_and_a_second_time() -> None:
    fs = flipped(owned(filled()), segment(3), 30)
    first = salvage(DATA, fs)
    assert kept(fs) == entries(1, first.last_index) and names(fs, ".wal")[-1].endswith("2.wal")
    fs.unlink(segment(1))
    assert salvage(DATA, fs).last_index == 0
    assert kept(fs) == []
    assert [name for name in names(fs) if "damaged-2" in name]
    assert len(record(fs)) == 2 and not verify(DATA, fs)
    missing = owned(filled())
    missing.unlink(segment(3))
    assert salvage(DATA, missing).last_index == first.last_index
    assert kept(missing) == entries(1, first.last_index)


@pytest.mark.parametrize("offset", [20, 512, 100_000])
def test_a_damaged_snapshot_takes_the_log_behind_it_along(offset: int) -> None:
    fs = flipped(owned(filled(20)), snapshot_at(20), offset)
    assert salvage(DATA, fs).last_index == 0
    assert kept(fs) == [] and not verify(DATA, fs)
    assert f"{20:019d}.snap.damaged-1" in names(fs)
    with opened(fs) as log:
        assert log.snapshot() is None


def test_a_log_that_is_whole_without_the_damaged_snapshot_is_kept() -> None:
    fs = MemoryFileSystem()
    with opened(fs, tail_bytes=1 << 20) as log:
        for index in range(1, 31):
            log.append(entries(index, index))
            log.sync()
        log.save_snapshot(Snapshot(20, 1, Membership([1]), b"state"))
        log.sync()
    fs = flipped(fs, snapshot_at(20), 514)
    assert salvage(DATA, fs).last_index == 30
    assert kept(fs) == entries(1, 30)


def test_a_good_snapshot_is_kept_whatever_is_left_of_the_log() -> None:
    sound = owned(filled(20))
    first, second = [f"{PATH}/{name}" for name in names(sound, ".wal")[:2]]
    in_first = [item for item in walk(PATH, sound) if isinstance(item, RecordInfo) and item.path == first]
    for path, last in ((first, 20), (second, int(in_first[-1].entries[-1].index))):
        fs = flipped(sound, path, 30)
        assert salvage(DATA, fs).last_index == last
        with opened(fs) as log:
            assert log.last_index() == last and log.snapshot() is not None
            log.append([LogEntry(9, last + 1)])
            log.sync()
        assert not verify(DATA, fs)
        assert kept(fs)[-1] == LogEntry(9, last + 1)


def test_where_a_file_cannot_be_read_is_where_the_log_ends() -> None:
    fs = owned(filled())

    def fault(operation: str, path: str) -> None:
        if operation == "pread" and path == segment(3):
            raise OSError(errno.EIO, "Input/output error")

    fs.fault = fault
    last = salvage(DATA, fs).last_index
    fs.fault = lambda operation, path: None
    assert last > 10 and kept(fs) == entries(1, last)


def test_a_salvaged_node_comes_back_only_by_joining() -> None:
    fs = flipped(owned(filled()), segment(2), 700)
    salvage(DATA, fs)
    with pytest.raises(IdentityError, match="only come back by joining"):
        open_identity(fs, DATA, "red", 1, [1, 2, 3], lambda: 4712)
    made = open_identity(fs, DATA, "red", 1, [], lambda: 4712)
    assert made.incarnation == 4712
    sound = filled()
    with pytest.raises(IdentityError, match=r"no identity\.json"):
        open_identity(sound, DATA, "red", 1, [], lambda: 4712)


def test_a_log_in_use_or_of_a_newer_version_is_refused() -> None:
    fs = filled()
    with opened(fs), pytest.raises(StorageError, match="in use"):
        salvage(DATA, fs)


@pytest.mark.parametrize("make_coin", COINS)
def test_a_crash_never_leaves_a_member_that_has_forgotten_something(
    make_coin: Callable[[int], Callable[[], bool]],
) -> None:
    for sound, path in ((owned(filled()), segment(2)), (owned(filled(20)), snapshot_at(20))):
        fs = flipped(sound, path, 700)
        probe = fs.copy()
        probe.fault = count = At(-1, Crash)
        salvage(DATA, probe)
        for step in range(count.count):
            other = fs.copy()
            other.coin = make_coin(step)
            other.fault = At(step, Crash)
            with pytest.raises(Crash):
                salvage(DATA, other)
            other.crash()
            other.fault = At(-1, Crash)
            if not names(other, ".wal") and not names(other, ".snap"):
                opened(other).close()  # all of it is aside: it begins anew
            elif any(finding.is_damage for finding in verify(DATA, other)):
                salvage(DATA, other)
            else:
                assert "identity.json" not in other.listdir(DATA)
            assert "identity.json" not in other.listdir(DATA)
            assert not [finding for finding in verify(DATA, other) if finding.is_damage]
            opened(other).close()


def test_a_failing_disk_stops_the_salvage() -> None:
    fs = flipped(owned(filled()), segment(2), 700)

    def fault(operation: str, path: str) -> None:
        if operation == "rename":
            raise OSError(errno.EROFS, "Read-only file system")

    fs.fault = fault
    with pytest.raises(StorageError, match="Read-only"):
        salvage(DATA, fs)
    assert "identity.json" in fs.listdir(DATA)


def test_real_files(tmp_path: Path) -> None:
    open_identity(OsFileSystem(), tmp_path, "red", 1, [1, 2], lambda: 1)
    with WalLog.open(tmp_path / "log", segment_size=4096) as log:
        for index in range(1, 100):
            log.append(entries(index, index))
            log.sync()
    path = tmp_path / "log" / f"{2:016d}.wal"
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(bytes(data))
    done = salvage(tmp_path)
    with WalLog.open(tmp_path / "log") as log:
        assert list(log.entries(1, 200)) == entries(1, done.last_index)
    assert force_membership(tmp_path, node_id=1, voters=[1]).index == done.last_index + 1
    assert len((tmp_path / "recovery.json").read_text().splitlines()) == 2
