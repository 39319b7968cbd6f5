"""Every event at every node: what it raises there, in the order in which it is looked at, and that nothing
has changed then (the table of events)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support import (
    TOP,
    TracingLog,
    ack,
    applied,
    ask,
    campaign,
    compacted_log,
    default_leader,
    drain,
    feed,
    heartbeat,
    leader,
    log_of,
    only,
    receive,
    sent,
    step,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    ChangeMembership,
    EntryKind,
    Event,
    HardState,
    InstallSnapshotReply,
    LogEntry,
    Membership,
    MembershipChanged,
    MembershipChangeInProgressError,
    Message,
    NotLeaderError,
    OverloadedError,
    PreVote,
    PreVoteReply,
    Propose,
    RaftConfig,
    RaftError,
    RaftNode,
    ReadIndex,
    ReadIndexReply,
    ReadIndexRequest,
    ReadReady,
    Receive,
    RequestVote,
    RequestVoteReply,
    Snapshot,
    SnapshotTaken,
    StorageError,
    Synced,
    SyncFailed,
    TakeSnapshot,
    Tick,
    TimeoutNow,
    TransferInProgressError,
    TransferLeadership,
)

pytestmark = pytest.mark.core


# Nodes in every state.


def fresh() -> RaftNode:
    return RaftNode(RaftConfig(1, [2, 3]))


def follower() -> RaftNode:
    node = fresh()
    heartbeat(node, sender=3)
    return node


def asking() -> RaftNode:
    node = fresh()
    ask(node)
    return node


def candidate() -> RaftNode:
    node = fresh()
    campaign(node)
    return node


def joining() -> RaftNode:
    return RaftNode(RaftConfig.joining(1))


def leading() -> RaftNode:
    node = default_leader(max_uncommitted_bytes=3)
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    return node


def full() -> RaftNode:
    node = leading()
    step(node, Propose(b"xyz"))
    return node


def changing() -> RaftNode:
    node = leading()
    step(node, ChangeMembership([1, 2]))
    return node


def handing_over() -> RaftNode:
    node = full()
    step(node, TransferLeadership(2))
    return node


def unknowing() -> RaftNode:
    """A leader that has not committed anything of its term yet."""
    return leader(log=log_of([1]))


Make = Callable[[], RaftNode]

NO_LEADER: list[Make] = [fresh, asking, candidate, joining]
PROPOSE, READ, CHANGE = Propose(b"y"), ReadIndex(b"r"), ChangeMembership([1, 2, 3], [4])
TRANSFER, TAKEN = TransferLeadership(2), SnapshotTaken(1, b"state")

REFUSED: list[tuple[Make, Event, type[Exception]]] = [
    *[(make, event, NotLeaderError) for make in NO_LEADER for event in (PROPOSE, READ, CHANGE, TRANSFER)],
    *[(follower, event, NotLeaderError) for event in (PROPOSE, CHANGE, TRANSFER)],
    # Whoever does not lead says so first, whatever else is wrong.
    (follower, ChangeMembership([]), NotLeaderError),
    (follower, TransferLeadership(99), NotLeaderError),
    (full, PROPOSE, OverloadedError),
    (handing_over, PROPOSE, TransferInProgressError),
    (handing_over, CHANGE, TransferInProgressError),
    (handing_over, ChangeMembership([]), ValueError),
    (leading, ChangeMembership([]), ValueError),
    (leading, ChangeMembership([1, 2], [2]), ValueError),
    (changing, CHANGE, MembershipChangeInProgressError),
    (changing, ChangeMembership([]), ValueError),
    (leading, TransferLeadership(9), ValueError),
    (handing_over, TransferLeadership(9), ValueError),
]


@pytest.mark.parametrize(
    ("make", "event", "error"), REFUSED, ids=lambda value: getattr(value, "__name__", repr(value))
)
def test_what_is_refused_says_why_and_has_changed_nothing(
    make: Make, event: Event, error: type[Exception]
) -> None:
    node = make()
    before, pending = node.status, node.pending
    for call in (node.feed, node.step):
        with pytest.raises(error) as caught:
            call(event)
        assert type(caught.value) is error
        if isinstance(caught.value, RaftError):
            assert caught.value.is_retryable and not caught.value.is_fatal
        if isinstance(caught.value, NotLeaderError):
            assert caught.value.leader == node.leader
    assert (node.status, node.pending) == (before, pending)
    assert node.drain() == []
    node._state.check()


TAKEN_IN: list[tuple[Make, Event]] = [
    *[(make, event) for make in NO_LEADER for event in (Tick(), TAKEN, Synced(1))],
    (follower, READ),
    (leading, PROPOSE),
    (leading, READ),
    (leading, CHANGE),
    (leading, TRANSFER),
    (leading, TransferLeadership(1)),
    (leading, TAKEN),
    (full, READ),
    (full, CHANGE),
    (full, TRANSFER),
    (changing, PROPOSE),
    (changing, READ),
    (changing, TRANSFER),
    (handing_over, READ),
    (handing_over, TransferLeadership(3)),
    (handing_over, TAKEN),
    (unknowing, PROPOSE),
    (unknowing, READ),
    (unknowing, CHANGE),
    (unknowing, TRANSFER),
]


@pytest.mark.parametrize(
    ("make", "event"), TAKEN_IN, ids=lambda value: getattr(value, "__name__", repr(value))
)
def test_what_is_taken_in_raises_nothing(make: Make, event: Event) -> None:
    node = make()
    before = node.log.last_index()
    index = node.feed(event)
    assert index == (node.log.last_index() if node.log.last_index() > before else 0)
    node._state.check()
    node.drain()
    node._state.check()


@pytest.mark.parametrize(
    "event",
    [
        PROPOSE,
        READ,
        CHANGE,
        TRANSFER,
        TAKEN,
        Tick(),
        Synced(1),
        Receive(TimeoutNow(1, 2)),
        SyncFailed(1, "EIO"),
    ],
    ids=repr,
)
def test_a_dead_node_raises_what_killed_it_whatever_the_event(event: Event) -> None:
    node = leading()
    node.feed(SyncFailed(1, "EIO"))
    for call in (node.feed, node.step):
        with pytest.raises(StorageError, match="while syncing the log: EIO"):
            call(event)


# What each event and message brings about, through `RaftNode` itself.


def test_a_read_is_answered_after_the_applies_of_its_own_drain() -> None:
    node = leading()
    feed(node, Propose(b"y"), READ)
    drain(node)
    feed(node, Receive(AppendEntriesReply(1, True, 2, 2, 0, 0, 1)))
    actions = drain(node)
    assert applied(actions) == [2]
    assert actions[-1] == ReadReady(b"r", 1)


def test_a_change_tells_first_what_is_in_force() -> None:
    node = leading()
    assert step(node, CHANGE)[0] == MembershipChanged(Membership([1, 2, 3], [4]))


def test_a_transfer_sends_its_word() -> None:
    assert len(sent(step(leading(), TRANSFER), TimeoutNow)) == 1


def test_a_snapshot_that_was_taken_brings_about_nothing_to_do() -> None:
    node = leading()
    ack(node, 3, 1)
    assert step(node, TAKEN) == []
    assert node.status.snapshot_index == 1


def test_a_leader_takes_a_snapshot_like_everybody() -> None:
    node = default_leader(snapshot_threshold=1)
    step(node, Propose(b"x"))
    assert only(ack(node, 2, 1), TakeSnapshot) == [TakeSnapshot(1, 1)]


def test_answers_that_a_leader_did_not_wait_for_do_no_harm() -> None:
    node = leading()
    before = node.status
    for message in (
        PreVoteReply(2, True, 2),
        PreVoteReply(1, False, 2),
        RequestVoteReply(1, True, 2),
        InstallSnapshotReply(1, 2, 1, 0),
        ReadIndexReply(1, b"r", 9),
        TimeoutNow(1, 2),
        AppendEntries(1, 2, 0, 0, (), 0),
    ):
        assert receive(node, message) == []
        assert node.status == before


def test_a_follower_that_is_asked_for_a_read_index_says_nothing() -> None:
    assert receive(follower(), ReadIndexRequest(1, 2, b"r")) == []


def test_a_leader_that_has_left_is_told_in_its_status() -> None:
    node = leading()
    step(node, ChangeMembership([2, 3]))
    for peer in (2, 3):
        ack(node, peer, 2)
    assert not node.is_leader
    assert (node.membership, node.status.followers) == (Membership([2, 3]), ())


def test_the_status_tells_each_members_part() -> None:
    node = leading()
    step(node, ChangeMembership([1, 4, 5], [6]))
    parts = [follower.part for follower in node.status.followers]
    assert parts == ["outgoing", "outgoing", "voter", "voter", "learner"]


def test_a_question_of_a_term_that_is_over_is_not_sent() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]).with_election_timeout(10, 10))
    feed(node, *[Tick()] * 10, Receive(RequestVoteReply(5, False, 2)))
    assert drain(node) == []


# What a log may hold at the start, and at the end of all indexes.


def test_a_node_starts_where_its_logs_snapshot_ends() -> None:
    log = compacted_log(Snapshot(5, 2, Membership([1, 2, 3]), b"state"), [2])
    for applied_, start in ((0, 5), (4, 5), (6, 6)):
        assert RaftNode(RaftConfig(1), log, applied=applied_).commit_index == start


def test_a_log_with_an_entry_that_holds_no_membership_is_refused() -> None:
    log = log_of([1])
    log.append([LogEntry(1, 2, b"nonsense", EntryKind.MEMBERSHIP)])
    with pytest.raises(StorageError, match="while adopting the log"):
        RaftNode(RaftConfig(1), log)


def test_a_change_needs_room_for_its_two_entries() -> None:
    node = leading()
    node._state.last_index = TOP - 2
    with pytest.raises(OverloadedError, match="the log is full"):
        node.feed(CHANGE)


@pytest.mark.parametrize("deferred_sync", [False, True])
def test_what_fails_in_a_drain_kills_the_node(deferred_sync: bool) -> None:
    class Broken(TracingLog):
        def entries(self, first: int, last: int) -> list[LogEntry]:
            raise OSError(5, "Input/output error")

        def membership_entries(self) -> list[LogEntry]:
            return []

    node = RaftNode(RaftConfig(1, [2, 3]), Broken([1], HardState(1)), deferred_sync=deferred_sync)
    node.feed(Receive(AppendEntries(1, 2, 1, 1, (), 1)))
    for _ in range(2):
        with pytest.raises(StorageError, match="Input/output error"):
            node.drain()


@pytest.mark.parametrize("message", [RequestVote(9, 2, 9, 9), PreVote(9, 2, 9, 9)], ids=repr)
def test_whom_a_follower_does_not_listen_to(message: Message) -> None:
    node = follower()
    receive(node, message)
    assert (node.term, node.leader) == (1, 3)
