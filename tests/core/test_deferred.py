"""`deferred_sync` for what came after entries and votes: snapshots, memberships, hanging disks."""

from __future__ import annotations

import pytest
from tests.support import (
    BARE,
    TracingLog,
    applied,
    drain,
    entries_of,
    feed,
    log_of,
    membership_entry,
    only,
    sent,
    settle,
    split,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    ChangeMembership,
    HardState,
    InstallSnapshot,
    InstallSnapshotReply,
    Membership,
    MembershipChanged,
    MembershipCommitted,
    MemoryLog,
    Propose,
    RaftConfig,
    RaftNode,
    ReadIndex,
    ReadIndexReply,
    ReadReady,
    Receive,
    RequestVoteReply,
    RestoreSnapshot,
    Role,
    Send,
    Snapshot,
    SnapshotData,
    SnapshotMeta,
    SnapshotTaken,
    StorageError,
    Sync,
    Synced,
    SyncFailed,
    TakeSnapshot,
    Tick,
)

pytestmark = pytest.mark.core

MEMBERS = Membership([1, 2, 3])
STATE = b"0123456789"
WHOLE = Snapshot(9, 1, MEMBERS, STATE)


def follower(terms: list[int] | None = None, **options: int) -> RaftNode:
    """Follows 2 in term 1, all of it durable."""
    config = RaftConfig(1, [2, 3]).replace(**options)
    node = RaftNode(config, log_of(terms or [], term=1), deferred_sync=True)
    feed(node, Receive(AppendEntries(1, 2, 0, 0, (), 0)))
    settle(node, drain(node))
    return node


def deferring_leader(peers: tuple[int, ...] = (2, 3), **options: int) -> RaftNode:
    """Leads term 1 with one committed entry, all of it durable, nothing to drain."""
    node = RaftNode(RaftConfig(1, peers, **BARE).replace(**options), deferred_sync=True)
    while node.term == 0:
        node.feed(Tick())
    settle(node, drain(node))
    feed(node, *[Receive(RequestVoteReply(1, True, peer)) for peer in peers], Propose(b"x"))
    settle(node, drain(node))
    feed(node, *[Receive(AppendEntriesReply(1, True, peer, 1)) for peer in peers])
    settle(node, drain(node))
    assert (node.last_applied, node.pending) == (1, False)
    return node


def piece(offset: int, size: int, term: int = 1) -> InstallSnapshot:
    part = STATE[offset : offset + size]
    done = offset + len(part) == len(STATE)
    return InstallSnapshot(term, 2, 9, 1, MEMBERS, offset, part, done, len(STATE), 77)


def whole(index: int = 9, data: bytes = STATE, term: int = 1) -> InstallSnapshot:
    return InstallSnapshot(term, 2, index, 1, MEMBERS, 0, data, True, len(data), index)


def acknowledged(actions: list[Action]) -> list[int]:
    return [reply.match_index for reply in sent(actions, AppendEntriesReply) if reply.success]


# A snapshot that arrives.


def test_a_piece_is_answered_without_a_sync() -> None:
    node = follower()
    feed(node, Receive(piece(0, 4)))
    before, ticket, after = split(drain(node))
    assert (ticket, after) == (0, [])
    assert sent(before, InstallSnapshotReply) == [InstallSnapshotReply(1, 1, 9, 4)]


def test_in_a_term_that_is_not_durable_not_even_that() -> None:
    node = follower()
    feed(node, Receive(piece(0, 4, term=2)))
    before, ticket, after = split(drain(node))
    assert sent(before, InstallSnapshotReply) == []
    assert (ticket > 0, len(sent(after, InstallSnapshotReply))) == (True, 1)


def test_the_whole_is_acknowledged_and_restored_only_once_it_is_durable() -> None:
    node = follower([1, 1])
    feed(node, Receive(piece(0, 10)))
    assert (node.commit_index, node.last_applied) == (9, 0)
    before, ticket, after = split(drain(node))
    assert (only(before, RestoreSnapshot), ticket > 0) == ([], True)
    assert acknowledged(after) == [9]
    assert not node.pending
    feed(node, Synced(ticket))
    assert drain(node) == [RestoreSnapshot(WHOLE)]
    assert node.last_applied == 9


def test_a_piece_that_comes_twice_is_not_acknowledged_early() -> None:
    node = follower()
    feed(node, Receive(piece(0, 10)))
    _, first, _ = split(drain(node))
    feed(node, Receive(piece(0, 10)))
    before, second, after = split(drain(node))
    assert (acknowledged(before), acknowledged(after)) == ([], [9])
    assert second > first
    feed(node, Synced(first))
    drain(node)
    feed(node, Receive(piece(0, 10)))
    assert acknowledged(drain(node)) == [9]


def test_what_was_committed_before_it_is_not_applied_after_it() -> None:
    node = follower()
    feed(node, Receive(AppendEntries(1, 2, 0, 0, entries_of([1, 1]), 2)))
    drain(node)
    feed(node, Receive(piece(0, 10)))
    _, ticket, _ = split(drain(node))
    feed(node, Synced(ticket))
    actions = drain(node)
    assert (applied(actions), only(actions, RestoreSnapshot)) == ([], [RestoreSnapshot(WHOLE)])


def test_entries_behind_it_are_applied_after_it_and_when_they_are_durable() -> None:
    node = follower()
    feed(node, Receive(piece(0, 10)))
    _, first, _ = split(drain(node))
    feed(node, Receive(AppendEntries(1, 2, 9, 1, entries_of([1, 1], first=10), 11)))
    _, second, _ = split(drain(node))
    feed(node, Synced(first))
    assert drain(node) == [RestoreSnapshot(WHOLE)]
    feed(node, Synced(second))
    assert drain(node) == [Apply(10, 1, b"1.10"), Apply(11, 1, b"1.11")]


def test_a_ticket_from_before_it_does_not_vouch_for_it() -> None:
    """The entries that it covers are replaced by the snapshot, at the same indexes."""
    node = follower()
    feed(node, Receive(AppendEntries(1, 2, 0, 0, entries_of([1] * 12), 0)))
    _, early, _ = split(drain(node))
    other = InstallSnapshot(2, 3, 9, 2, MEMBERS, 0, STATE, True, len(STATE), 77)
    feed(node, Receive(other))
    assert node.log.last_index() == 9
    _, late, _ = split(drain(node))
    feed(node, Synced(early))
    assert node.status.stable_index == 0
    assert only(drain(node), RestoreSnapshot) == []
    feed(node, Synced(late))
    assert only(drain(node), RestoreSnapshot) == [RestoreSnapshot(Snapshot(9, 2, MEMBERS, STATE))]


def test_a_later_one_that_comes_before_the_first_is_restored_takes_its_place() -> None:
    node = follower()
    feed(node, Receive(whole(9)))
    _, first, _ = split(drain(node))
    feed(node, Receive(whole(20, b"later")))
    _, second, _ = split(drain(node))
    feed(node, Synced(first))
    assert only(drain(node), RestoreSnapshot) == []
    feed(node, Synced(second))
    assert drain(node) == [RestoreSnapshot(Snapshot(20, 1, MEMBERS, b"later"))]


def test_until_it_is_restored_no_other_is_taken() -> None:
    node = follower(snapshot_threshold=1)
    feed(node, Receive(piece(0, 10)), SnapshotTaken(9, b"wrong"), SnapshotTaken(5, b"wrong"))
    actions = drain(node)
    assert only(actions, TakeSnapshot) == []
    assert node.log.snapshot() == WHOLE


def test_its_membership_counts_at_once() -> None:
    node = RaftNode(RaftConfig.joining(1), deferred_sync=True)
    feed(node, Receive(piece(0, 10)))
    assert node.membership == MEMBERS
    actions = drain(node)
    assert actions[0] == MembershipChanged(MEMBERS)


def test_a_log_that_keeps_its_entries_acknowledges_those_that_are_durable() -> None:
    node = follower()
    feed(node, Receive(AppendEntries(1, 2, 0, 0, entries_of([1] * 12), 0)))
    _, ticket, _ = split(drain(node))
    feed(node, Receive(piece(0, 10)))
    before, _, after = split(drain(node))
    assert (acknowledged(before), acknowledged(after)) == ([], [9])
    feed(node, Synced(ticket))
    assert applied(drain(node)) == list(range(1, 10))


def test_a_read_waits_for_the_snapshot_to_be_restored() -> None:
    node = follower()
    feed(node, ReadIndex(b"r"), Receive(ReadIndexReply(1, b"r", 5)), Receive(piece(0, 10)))
    _, ticket, _ = split(drain(node))
    assert node.last_applied == 0
    feed(node, Synced(ticket))
    assert drain(node) == [RestoreSnapshot(WHOLE), ReadReady(b"r", 5)]


def test_a_sync_that_fails_restores_nothing() -> None:
    node = follower()
    feed(node, Receive(piece(0, 10)))
    _, ticket, _ = split(drain(node))
    node.feed(SyncFailed(ticket, "EIO"))
    with pytest.raises(StorageError, match="EIO"):
        node.drain()


# A snapshot that was taken.


def test_a_snapshot_that_was_taken_asks_for_a_sync() -> None:
    node = deferring_leader(())
    feed(node, SnapshotTaken(1, b"state"))
    assert drain(node) == [Sync(3)]
    assert node.log.snapshot() == Snapshot(1, 1, Membership([1]), b"state")


def test_nothing_waits_for_it() -> None:
    node = deferring_leader()
    feed(node, SnapshotTaken(1, b"state"), Propose(b"y"))
    before, ticket, after = split(drain(node))
    assert (len(sent(before, AppendEntries)), ticket > 0, after) == (2, True, [])


def test_one_that_is_ignored_asks_for_none() -> None:
    node = deferring_leader()
    feed(node, SnapshotTaken(9, b"state"))
    assert drain(node) == []


def test_a_disk_that_hangs_on_it_makes_a_leader_step_down() -> None:
    node = deferring_leader()
    feed(node, SnapshotTaken(1, b"state"))
    drain(node)
    for _ in range(RaftConfig(1).election_timeout[1]):
        feed(node, Tick())
        drain(node)
    assert node.is_leader
    feed(node, Tick())
    assert node.role is Role.FOLLOWER


def test_it_is_asked_for_while_syncs_are_out() -> None:
    node = follower(snapshot_threshold=2)
    feed(node, Receive(AppendEntries(1, 2, 0, 0, entries_of([1, 1]), 2)))
    _, ticket, _ = split(drain(node))
    feed(node, Synced(ticket), Receive(AppendEntries(1, 2, 2, 1, entries_of([1], first=3), 2)))
    before, later, _ = split(drain(node))
    assert (applied(before), only(before, TakeSnapshot)) == ([1, 2], [TakeSnapshot(2, 1)])
    assert later > ticket


def test_the_node_that_syncs_itself_does_so_after_saving() -> None:
    class Saving(TracingLog):
        saved: Snapshot | None = None

        def snapshot(self) -> Snapshot | None:
            return self.saved

        def save_snapshot(self, snapshot: Snapshot) -> None:
            self.called("save_snapshot")
            self.saved = snapshot

        def receive_snapshot(
            self, meta: SnapshotMeta, offset: int, chunk: bytes
        ) -> bytes | SnapshotData | None:
            return chunk

    log = Saving([1, 1], HardState(1))
    node = RaftNode(RaftConfig(1, [2, 3]), log, applied=2)
    node.step(SnapshotTaken(2, b"state"))
    assert log.calls == ["save_snapshot", "sync"]


# Memberships.


def test_a_change_goes_out_before_the_leaders_own_sync() -> None:
    node = deferring_leader()
    feed(node, ChangeMembership([1, 2, 3, 4]))
    before, ticket, after = split(drain(node))
    assert only(before, MembershipChanged) == [MembershipChanged(Membership([1, 2, 3, 4]))]
    assert (len(sent(before, AppendEntries)), ticket > 0, after) == (2, True, [])


def test_a_leader_counts_itself_for_a_change_only_once_it_is_durable() -> None:
    node = deferring_leader()
    feed(node, ChangeMembership([1, 2, 3, 4]))
    _, ticket, _ = split(drain(node))
    for peer in (2, 3):
        feed(node, Receive(AppendEntriesReply(1, True, peer, 2)))
    assert node.commit_index == 1, "2 of 4: its own copy is not durable"
    feed(node, Synced(ticket))
    assert node.commit_index == 2
    assert only(drain(node), MembershipCommitted) == [MembershipCommitted(Membership([1, 2, 3, 4]), 2)]


def test_a_leader_that_others_have_voted_out_tells_it_only_once_it_is_durable_here() -> None:
    node = deferring_leader()
    feed(node, ChangeMembership([2, 3]))
    _, ticket, _ = split(drain(node))
    for peer in (2, 3):
        feed(node, Receive(AppendEntriesReply(1, True, peer, 2)))
    actions = drain(node)
    assert (node.commit_index, node.role) == (2, Role.FOLLOWER)
    assert [message.leader_commit for message in sent(actions, AppendEntries)] == [2, 2]
    assert only(actions, MembershipCommitted) == []
    feed(node, Synced(ticket))
    assert only(drain(node), MembershipCommitted) == [MembershipCommitted(Membership([2, 3]), 2)]


def test_a_follower_acknowledges_a_membership_only_once_it_is_durable_though_it_counts_at_once() -> None:
    node = follower()
    entry = membership_entry(1, 1, Membership([1, 2, 3, 4]))
    feed(node, Receive(AppendEntries(1, 2, 0, 0, [entry], 1)))
    assert node.membership == Membership([1, 2, 3, 4])
    before, ticket, after = split(drain(node))
    assert only(before, MembershipChanged) == [MembershipChanged(Membership([1, 2, 3, 4]))]
    assert only(before, MembershipCommitted) == []
    assert acknowledged(after) == [1]
    feed(node, Synced(ticket))
    assert drain(node) == [MembershipCommitted(Membership([1, 2, 3, 4]), 1)]


def test_a_rollback_is_told_at_once() -> None:
    node = follower()
    entry = membership_entry(1, 1, Membership([1, 2, 3, 4]))
    feed(node, Receive(AppendEntries(1, 2, 0, 0, [entry], 0)))
    drain(node)
    feed(node, Receive(AppendEntries(2, 3, 0, 0, entries_of([2]), 0)))
    before, _, after = split(drain(node))
    assert only(before, MembershipChanged) == [MembershipChanged(MEMBERS)]
    assert acknowledged(after) == [1]


def test_a_lone_leader_that_adds_another_needs_its_own_sync_and_the_others() -> None:
    node = deferring_leader(())
    feed(node, ChangeMembership([1, 2]))
    _, ticket, _ = split(drain(node))
    feed(node, Synced(ticket))
    assert node.commit_index == 1
    feed(node, Receive(AppendEntriesReply(1, True, 2, 2)))
    assert node.commit_index == 2


def test_a_fresh_log_is_not_shared() -> None:
    one, two = follower(), follower()
    feed(one, Receive(piece(0, 10)))
    assert isinstance(two.log, MemoryLog) and two.log.snapshot() is None


# The order within one drain.


def test_notices_then_sends_then_applies_then_the_snapshot_then_reads_then_the_sync() -> None:
    node = follower(snapshot_threshold=2)
    feed(node, Receive(AppendEntries(1, 2, 0, 0, entries_of([1, 1]), 0)))
    settle(node, drain(node))
    entry = membership_entry(1, 3, Membership([1, 2, 3, 4]))
    feed(
        node,
        ReadIndex(b"r"),
        Receive(ReadIndexReply(1, b"r", 2)),
        Receive(AppendEntries(1, 2, 2, 1, [entry], 2)),
    )
    kinds = [type(action) for action in drain(node)]
    assert kinds == [MembershipChanged, Send, Apply, Apply, TakeSnapshot, ReadReady, Sync, Send]
