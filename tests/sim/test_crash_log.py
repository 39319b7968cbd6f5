"""The crash-able log itself: what a crash takes, and what it leaves."""

from __future__ import annotations

import pytest
from tests.sim.crash_log import CrashLog

from raft_io import HardState, LogEntry, MemoryLog, RaftConfig, RaftNode, StorageError, Tick

pytestmark = pytest.mark.core

ENTRIES = [LogEntry(1, 1, b"a"), LogEntry(1, 2, b"b"), LogEntry(1, 3, b"c")]


def test_a_crash_takes_what_was_not_synced() -> None:
    log = CrashLog()
    log.set_hard_state(HardState(1, 2))
    log.append(ENTRIES[:1])
    log.sync()
    log.set_hard_state(HardState(2))
    log.truncate(1)
    assert (log.last_index(), log.hard_state()) == (0, HardState(2))
    log.crash()
    assert (log.held, log.hard_state()) == (ENTRIES[:1], HardState(1, 2))


def test_a_sync_covers_what_was_written_before_it_began() -> None:
    log = CrashLog()
    log.append(ENTRIES[:2])
    position = log.position
    log.truncate(2)
    log.append([LogEntry(2, 2)])
    log.persist(position)
    assert log.disk == ENTRIES[:2]
    assert log.waits_for(log.position) and not log.waits_for(position)
    log.persist(position)
    log.crash()
    assert log.held == ENTRIES[:2]
    log.append(ENTRIES[2:])
    log.sync()
    assert log.disk == ENTRIES


@pytest.mark.parametrize("keep", range(4))
def test_a_disk_may_have_got_the_first_writes_all_the_same(keep: int) -> None:
    log = CrashLog()
    log.append(ENTRIES)
    log.crash(keep)
    assert log.held == log.disk == ENTRIES[:keep]


def test_a_broken_disk_refuses_every_write_and_a_gap_is_refused() -> None:
    log = CrashLog()
    with pytest.raises(StorageError, match="gap"):
        log.append(ENTRIES[1:])
    log.broken = True
    with pytest.raises(StorageError, match="Input/output error"):
        log.append(ENTRIES)
    with pytest.raises(StorageError):
        log.sync()
    assert log.held == []


def test_a_node_behaves_on_it_as_on_any_log() -> None:
    """A subclass of `RaftLog` in plain Python, also under the compiled core."""
    here, there = RaftNode(RaftConfig(1), CrashLog()), RaftNode(RaftConfig(1), MemoryLog())
    for _ in range(25):
        assert here.step(Tick()) == there.step(Tick())
    assert here.status == there.status
