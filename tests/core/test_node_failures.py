"""A node whose log fails is dead: what it raises, and that nothing is retried or sent."""

from __future__ import annotations

import traceback

import pytest
from tests.support import TracingLog, entries_of, feed, leader, paper

from raft_io import (
    AppendEntries,
    ChangeMembership,
    Event,
    HardState,
    Propose,
    RaftNode,
    ReadIndex,
    Receive,
    RequestVote,
    SnapshotTaken,
    StorageError,
    Synced,
    SyncFailed,
    Tick,
    TransferLeadership,
)

pytestmark = pytest.mark.core


def dying(fail_on: str, failure: Exception) -> tuple[RaftNode, TracingLog]:
    log = TracingLog([1, 1], HardState(1))
    node = RaftNode(paper(1, [2, 3]), log)
    log.fail_on, log.failure = fail_on, failure
    return node, log


EVENTS: dict[str, Event] = {
    "set_hard_state": Receive(RequestVote(5, 2, 9, 9)),
    "append": Receive(AppendEntries(1, 2, 2, 1, entries_of([1], first=3), 0)),
    "truncate": Receive(AppendEntries(2, 2, 1, 1, entries_of([2], first=2), 0)),
    "sync": Receive(AppendEntries(1, 2, 2, 1, entries_of([1], first=3), 0)),
}


@pytest.mark.parametrize("name", EVENTS)
def test_a_log_that_fails_kills_the_node(name: str) -> None:
    node, log = dying(name, StorageError(name, "device busy"))
    with pytest.raises(StorageError, match=f"log storage error while {name}: device busy"):
        node.step(EVENTS[name])
    log.fail_on = ""
    for call in (lambda: node.step(Tick()), lambda: node.feed(Propose(b"x")), lambda: node.drain()):
        with pytest.raises(StorageError, match="device busy"):
            call()


@pytest.mark.parametrize("name", EVENTS)
def test_any_exception_of_a_log_becomes_a_storage_error_with_its_cause(name: str) -> None:
    failure = OSError(5, "Input/output error")
    node, _ = dying(name, failure)
    with pytest.raises(StorageError, match="Input/output error") as caught:
        node.step(EVENTS[name])
    assert caught.value.__cause__ is failure
    with pytest.raises(StorageError) as again:
        node.step(Tick())
    assert again.value.__cause__ is failure


def test_a_proposal_that_the_log_refuses_kills_the_node() -> None:
    log = TracingLog()
    node = leader(log=log)
    failure = OSError(28, "No space left on device")
    log.fail_on, log.failure = "append", failure
    with pytest.raises(StorageError, match="No space left on device") as caught:
        node.feed(Propose(b"x"))
    assert caught.value.__cause__ is failure
    with pytest.raises(StorageError):
        node.drain()


def test_a_change_of_membership_that_the_log_refuses_kills_the_node() -> None:
    log = TracingLog()
    node = leader(log=log)
    failure = OSError(28, "No space left on device")
    log.fail_on, log.failure = "append", failure
    with pytest.raises(StorageError, match="No space left on device") as caught:
        node.feed(ChangeMembership([1, 2]))
    assert caught.value.__cause__ is failure
    for event in (ChangeMembership([1, 2]), TransferLeadership(2), ReadIndex(b"r"), SnapshotTaken(1, b"")):
        with pytest.raises(StorageError):
            node.feed(event)


def test_nothing_is_sent_after_a_sync_that_failed() -> None:
    node, log = dying("sync", StorageError("sync log", "EIO"))
    feed(node, Receive(RequestVote(5, 2, 9, 9)))
    for _ in range(2):
        with pytest.raises(StorageError):
            node.drain()
    assert log.calls.count("sync") == 1, "and nothing is retried"


def test_a_dead_node_does_not_grow_with_every_call() -> None:
    node, _ = dying("sync", StorageError("sync log", "EIO"))
    lengths = []
    for _ in range(20):
        with pytest.raises(StorageError) as caught:
            node.step(EVENTS["sync"])
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert lengths[-1] <= lengths[1]


def test_a_bug_stays_an_assertion_and_kills_the_node() -> None:
    class Lying(TracingLog):
        def term_at(self, index: int) -> int | None:
            return None

    node = RaftNode(paper(1, [2, 3]), Lying([1], HardState(1)))
    with pytest.raises(AssertionError):
        node.step(Receive(AppendEntries(1, 2, 1, 1, (), 0)))
    with pytest.raises(StorageError, match="while using the log: the log holds everything"):
        node.step(Tick())


def test_a_sync_that_failed_elsewhere_kills_the_node() -> None:
    node = RaftNode(paper(1, [2, 3]), deferred_sync=True)
    assert node.feed(SyncFailed(1, "EIO")) == 0
    for call in (lambda: node.step(Tick()), lambda: node.feed(Synced(1)), lambda: node.drain()):
        with pytest.raises(StorageError, match="log storage error while syncing the log: EIO"):
            call()


def test_the_properties_of_a_dead_node_can_still_be_read() -> None:
    node, _ = dying("sync", StorageError("sync log", "EIO"))
    with pytest.raises(StorageError):
        node.step(EVENTS["sync"])
    assert node.status.last_index == 3
