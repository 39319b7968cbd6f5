"""The crash-able log itself: what a crash takes, and what it leaves."""

from __future__ import annotations

import pytest
from tests.sim.contents import Contents, encode, fingerprint, tells, whole
from tests.sim.crash_log import CrashLog
from tests.sim.image import Image, Save

from raft_io import (
    EntryKind,
    HardState,
    LogEntry,
    Membership,
    MemoryLog,
    RaftConfig,
    RaftNode,
    Snapshot,
    SnapshotMeta,
    StorageError,
    Tick,
    encode_membership,
)

pytestmark = pytest.mark.core

ENTRIES = [LogEntry(1, 1, b"a"), LogEntry(1, 2, b"b"), LogEntry(1, 3, b"c")]
TRIO = Membership([1, 2, 3])
PAIR = Membership([1, 2])


def log_of_three() -> CrashLog:
    log = CrashLog()
    log.load(ENTRIES, HardState(1))
    return log


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
    assert log.disk.entries == ENTRIES[:2]
    assert log.waits_for(log.position) and not log.waits_for(position)
    log.persist(position)
    log.crash()
    assert log.held == ENTRIES[:2]
    log.append(ENTRIES[2:])
    log.sync()
    assert log.disk.entries == ENTRIES


@pytest.mark.parametrize("keep", range(4))
def test_a_disk_may_have_got_the_first_writes_all_the_same(keep: int) -> None:
    log = CrashLog()
    log.append(ENTRIES)
    log.crash(keep)
    assert log.held == log.disk.entries == ENTRIES[:keep]


def test_a_broken_disk_refuses_every_write_and_a_gap_is_refused() -> None:
    log = CrashLog()
    with pytest.raises(StorageError, match="gap"):
        log.append(ENTRIES[1:])
    log.broken = True
    with pytest.raises(StorageError, match="Input/output error"):
        log.append(ENTRIES)
    with pytest.raises(StorageError):
        log.sync()
    with pytest.raises(StorageError):
        log.save_snapshot(Snapshot(1, 1, TRIO, b""))
    with pytest.raises(StorageError):
        Contents(b"x", log).read(0, 1)
    assert log.held == []


def test_a_snapshot_is_lost_in_a_crash_unless_it_was_synced() -> None:
    log = log_of_three()
    snapshot = Snapshot(2, 1, TRIO, b"x")
    log.save_snapshot(snapshot)
    assert (log.snapshot(), log.last_index(), log.term_at(2), log.term_at(3)) == (snapshot, 3, 1, 1)
    log.crash()
    assert (log.snapshot(), log.held) == (None, ENTRIES)
    log.save_snapshot(snapshot)
    log.save_snapshot(Snapshot(1, 1, TRIO, b"older"))
    log.sync()
    log.crash()
    assert (log.snapshot(), log.last_index(), log.entry(3)) == (snapshot, 3, ENTRIES[2])


def test_a_snapshot_may_reach_the_disk_before_what_was_written_earlier() -> None:
    log = log_of_three()
    log.set_hard_state(HardState(5))
    log.save_snapshot(Snapshot(9, 4, TRIO, b"x"))
    log.append([LogEntry(5, 10)])
    log.crash(snapshots=True)
    assert (log.last_index(), log.last_term(), log.held) == (9, 4, [])
    assert log.hard_state() == HardState(1)
    assert log.disk.hard_state(2) == HardState(4, 2), "as a node adopts it"


def test_the_tail_behind_a_snapshot_is_sometimes_there() -> None:
    tails = set()
    for seed in range(40):
        log = CrashLog(seed=seed)
        log.load(ENTRIES, HardState(1))
        log.save_snapshot(Snapshot(3, 1, TRIO, b""))
        tails.add((log.term_at(0), log.term_at(1), log.term_at(2), log.term_at(3)))
    assert tails == {(None, None, None, 1), (None, None, 1, 1), (0, 1, 1, 1)} | tails
    assert all(tail[3] == 1 for tail in tails)


@pytest.mark.parametrize("snapshot", [Snapshot(7, 2, TRIO, b""), Snapshot(2, 2, TRIO, b"")], ids=str)
def test_a_snapshot_that_the_log_does_not_agree_with_replaces_all_of_it(snapshot: Snapshot) -> None:
    log = log_of_three()
    log.save_snapshot(snapshot)
    assert (log.held, log.last_index(), log.last_term()) == ([], snapshot.index, 2)
    assert log.term_at(1) is None and log.term_at(snapshot.index) == 2


def test_an_incoming_snapshot_is_staged_piece_by_piece() -> None:
    log = CrashLog()
    meta = SnapshotMeta(3, 1, TRIO, 5, fingerprint(b"01234"))
    assert log.receive_snapshot(meta, 0, b"99") is None
    assert log.receive_snapshot(meta, 0, b"01") is None, "from the beginning"
    assert log.receive_snapshot(meta, 2, b"23") is None
    assert whole(log.receive_snapshot(meta, 4, b"4")) == b"01234"
    assert log.snapshot() is None, "save_snapshot publishes it"


def test_pieces_that_do_not_belong_together_are_a_bug_of_the_core() -> None:
    log = CrashLog()
    meta = SnapshotMeta(3, 1, TRIO, 5, fingerprint(b"01234"))
    with pytest.raises(AssertionError, match="none of it came before"):
        log.receive_snapshot(meta, 2, b"23")
    log.receive_snapshot(meta, 0, b"01")
    with pytest.raises(AssertionError, match="byte 2 expected"):
        log.receive_snapshot(meta, 3, b"3")
    with pytest.raises(AssertionError, match="none of it came before"):
        log.receive_snapshot(SnapshotMeta(4, 1, TRIO, 5, 0), 2, b"23")
    with pytest.raises(AssertionError, match="pieces of several"):
        log.receive_snapshot(meta, 2, b"999")


def test_staged_pieces_are_damaged_at_times_and_lost_in_a_crash() -> None:
    log = CrashLog(damage=1)
    meta = SnapshotMeta(3, 1, TRIO, 2, fingerprint(b"01"))
    assert log.receive_snapshot(meta, 0, b"01") is None
    log.receive_snapshot(meta, 0, b"0")
    log.crash()
    with pytest.raises(AssertionError):
        log.receive_snapshot(meta, 1, b"1")


def change(term: int, index: int, membership: Membership) -> LogEntry:
    return LogEntry(term, index, encode_membership(membership), EntryKind.MEMBERSHIP)


def test_the_membership_is_the_last_word_of_the_log() -> None:
    image = Image()
    assert image.membership(TRIO) == TRIO and image.change() is None
    image.write(change(1, 1, PAIR))
    image.write(change(1, 2, Membership([1])))
    assert image.membership(TRIO) == Membership([1])
    image.write(2)
    assert image.membership(TRIO) == PAIR
    image.write(1)
    assert image.membership(TRIO) == TRIO
    image.write(change(1, 1, PAIR))
    image.write(Save(Snapshot(1, 1, PAIR, b""), 0))
    assert image.membership(TRIO) == PAIR and image.change() is None
    image.write(change(1, 2, TRIO))
    image.write(Save(Snapshot(9, 2, Membership([4]), b""), 0))
    assert image.membership(TRIO) == Membership([4])


def test_contents_tell_one_history_from_another() -> None:
    for nonce in range(300):
        data = encode([b"a", b"b"], nonce)
        assert tells(data, [b"a", b"b"])
        assert not tells(data, [b"ab"]) and not tells(data, [b"a"]) and not tells(data, [])
        assert tells(encode([], nonce), [])


def test_a_node_behaves_on_it_as_on_any_log() -> None:
    """A subclass of `RaftLog` in plain Python, also under the compiled core."""
    here, there = RaftNode(RaftConfig(1), CrashLog()), RaftNode(RaftConfig(1), MemoryLog())
    for _ in range(25):
        assert here.step(Tick()) == there.step(Tick())
    assert here.status == there.status
