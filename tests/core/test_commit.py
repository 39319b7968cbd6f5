"""What a leader commits, and what is handed out as `Apply`, how much at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.support import (
    MEMBERSHIP,
    NOOP,
    TracingLog,
    ack,
    applied,
    drain,
    elect,
    entries_of,
    feed,
    heartbeat,
    leader,
    log_of,
    membership_entry,
    only,
    paper,
    receive,
    sent,
    split,
    step,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    Apply,
    ChangeMembership,
    HardState,
    InstallSnapshot,
    LogEntry,
    Membership,
    MembershipCommitted,
    Propose,
    RaftNode,
    Receive,
    RestoreSnapshot,
    Synced,
    encode_membership,
)

pytestmark = pytest.mark.core


def follower_of(sizes: list[int], **options: int) -> RaftNode:
    """A follower whose log holds uncommitted commands of these sizes."""
    node = RaftNode(paper(1, [2, 3]).replace(**options))
    entries = [LogEntry(1, index, bytes(size)) for index, size in enumerate(sizes, start=1)]
    receive(node, AppendEntries(1, 2, 0, 0, entries, 0))
    return node


# Committing.


def test_a_leader_commits_what_a_majority_has() -> None:
    node = leader([2, 3, 4, 5])
    for _ in range(3):
        step(node, Propose(b"x"))
    ack(node, 2, 3)
    assert node.commit_index == 0
    ack(node, 3, 2)
    assert node.commit_index == 2
    ack(node, 4, 1)
    assert node.commit_index == 2
    ack(node, 4, 3)
    assert node.commit_index == 3


def test_the_same_acknowledgement_twice_counts_once() -> None:
    node = leader([2, 3, 4, 5])
    step(node, Propose(b"x"))
    for _ in range(3):
        ack(node, 2, 1)
    assert node.commit_index == 0


def test_a_leader_alone_commits_at_once() -> None:
    node = leader([])
    assert step(node, Propose(b"x")) == [Apply(1, 1, b"x")]


def test_copies_of_an_earlier_terms_entry_are_not_counted() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 1]))
    elect(node)
    ack(node, 2, 2)
    ack(node, 3, 2)
    assert node.commit_index == 0
    assert applied(ack(node, 2, 3)) == [1, 2]
    assert node.commit_index == 3


def test_an_acknowledgement_of_what_is_committed_changes_nothing() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    assert applied(ack(node, 3, 1)) == []
    assert node.commit_index == 1


def test_what_is_committed_leaves_the_pipeline() -> None:
    node = leader()
    for size in (5, 0, 3):
        step(node, Propose(bytes(size)))
    assert node.status.uncommitted_bytes == 9, "an empty command counts as one byte"
    ack(node, 2, 2)
    assert node.status.uncommitted_bytes == 3
    ack(node, 3, 3)
    assert node.status.uncommitted_bytes == 0


def test_the_noop_takes_no_room_in_the_pipeline() -> None:
    node = leader(log=log_of([1, 1]))
    assert node.status.uncommitted_bytes == 0
    step(node, Propose(b"abc"))
    ack(node, 2, 3)
    assert (node.commit_index, node.status.uncommitted_bytes) == (3, 3)
    ack(node, 2, 4)
    assert (node.commit_index, node.status.uncommitted_bytes) == (4, 0)


# Applying.


def test_only_normal_entries_are_applied() -> None:
    node = RaftNode(paper(1, [2, 3]))
    kinds = [NOOP, LogEntry(1, 2, b"a").kind, MEMBERSHIP, LogEntry(1, 4, b"b").kind, NOOP]
    entries = [LogEntry(1, index, b"%d" % index, kind) for index, kind in enumerate(kinds, start=1)]
    entries[2] = LogEntry(1, 3, encode_membership(Membership([1, 2, 3])), MEMBERSHIP)
    actions = receive(node, AppendEntries(1, 2, 0, 0, entries, 5))
    assert [action for action in actions if isinstance(action, Apply)] == [
        Apply(2, 1, b"2"),
        Apply(4, 1, b"4"),
    ]
    assert node.last_applied == 5


def test_each_index_once_in_increasing_order() -> None:
    node = follower_of([1] * 300)
    seen = []
    for commit in (1, 1, 70, 64, 70, 129, 300, 300):
        seen += applied(heartbeat(node, prev=(300, 1), commit=commit))
        assert node.last_applied == node.commit_index
    assert seen == list(range(1, 301))


def test_a_budget_cuts_what_one_drain_applies() -> None:
    node = follower_of([4] * 10, max_apply_bytes=10)
    feed(node, Receive(AppendEntries(1, 2, 10, 1, (), 10)))
    rounds = [applied(drain(node))]
    while node.pending:
        rounds.append(applied(drain(node)))
    assert rounds == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert drain(node) == []


def test_step_returns_all_of_it_all_the_same() -> None:
    node = follower_of([4] * 10, max_apply_bytes=10)
    assert applied(heartbeat(node, prev=(10, 1), commit=10)) == list(range(1, 11))
    assert not node.pending


def drained(sizes: list[int], budget: int) -> list[list[int]]:
    node = follower_of(sizes, max_apply_bytes=budget)
    feed(node, Receive(AppendEntries(1, 2, len(sizes), 1, (), len(sizes))))
    rounds = []
    while node.pending:
        rounds.append(applied(drain(node)))
    return rounds


@pytest.mark.parametrize(
    ("sizes", "budget", "rounds"),
    [
        ([10, 10, 10], 10, [[1], [2], [3]]),
        ([10, 0, 0, 5], 10, [[1, 2, 3], [4]]),
        ([100, 100], 10, [[1], [2]]),
        ([3, 100, 3], 10, [[1], [2], [3]]),
        ([1, 1, 1], 0, [[1, 2, 3]]),
        ([6, 5], 10, [[1], [2]]),
        ([5, 5, 1], 10, [[1, 2], [3]]),
        ([0] * 5, 1, [[1, 2, 3, 4, 5]]),
    ],
)
def test_the_budget_of_a_drain(sizes: list[int], budget: int, rounds: list[list[int]]) -> None:
    assert drained(sizes, budget) == rounds


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_a_small_budget_does_not_read_the_log_again_and_again(size: int) -> None:
    class Counting(TracingLog):
        read = 0

        def entries(self, first: int, last: int) -> Sequence[LogEntry]:
            found = super().entries(first, last)
            self.read += len(found)
            return found

    log = Counting()
    node = RaftNode(paper(1, [2, 3]).replace(max_apply_bytes=100), log)
    receive(node, AppendEntries(1, 2, 0, 0, [LogEntry(1, index, bytes(size)) for index in range(1, 201)], 0))
    log.read = 0
    assert applied(heartbeat(node, prev=(200, 1), commit=200)) == list(range(1, 201))
    assert log.read < 2 * 200 + 10


def test_a_budget_spent_at_a_page_of_the_log() -> None:
    assert drained([1] * 130, 64) == [
        list(range(1, 65)),
        list(range(65, 129)),
        list(range(129, 131)),
    ]


def test_entries_appended_behind_a_backlog_wait_their_turn() -> None:
    node = leader([], max_apply_bytes=1)
    feed(node, Propose(b"a"), Propose(b"b"))
    assert applied(drain(node)) == [1]
    assert node.pending
    feed(node, Propose(b"c"))
    assert applied(drain(node)) == [2]
    assert applied(drain(node)) == [3]
    assert not node.pending


def test_a_log_that_cannot_give_back_what_is_committed_is_a_bug() -> None:
    class Forgetful(TracingLog):
        def entries(self, first: int, last: int) -> list[LogEntry]:
            return []

    node = RaftNode(paper(1, [2, 3]), Forgetful([1, 1], HardState(1)))
    with pytest.raises(AssertionError, match="the log holds what is committed"):
        node.step(Receive(AppendEntries(1, 2, 2, 1, (), 2)))


def test_a_log_that_gives_back_something_else_is_a_bug() -> None:
    class Muddled(TracingLog):
        def entries(self, first: int, last: int) -> list[LogEntry]:
            return entries_of([1], first=first + 1)

    node = RaftNode(paper(1, [2, 3]), Muddled([1, 1], HardState(1)))
    with pytest.raises(AssertionError, match="the log holds what is committed"):
        node.step(Receive(AppendEntries(1, 2, 2, 1, (), 2)))


def test_an_acknowledgement_beyond_the_log_is_no_acknowledgement() -> None:
    node = leader()
    step(node, Propose(b"x"))
    assert receive(node, AppendEntriesReply(1, True, 2, 2)) == []
    assert node.commit_index == 0


# Memberships and snapshots on the way.


def test_while_joint_a_leader_commits_what_both_majorities_have() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 4, 5]))
    step(node, Propose(b"y"))
    ack(node, 2, 3)
    assert node.commit_index == 1
    ack(node, 5, 3)
    assert node.commit_index == 3


def test_a_final_membership_is_told_in_its_place_among_the_commands() -> None:
    joint, final = Membership([1, 2], [], [1, 2, 3]), Membership([1, 2])
    node = RaftNode(paper(1, [2, 3]))
    entries = [
        LogEntry(1, 1, b"a"),
        membership_entry(1, 2, joint),
        LogEntry(1, 3, b"b"),
        membership_entry(1, 4, final),
        LogEntry(1, 5, b"c"),
    ]
    actions = receive(node, AppendEntries(1, 2, 0, 0, entries, 5))
    told = [action for action in actions if isinstance(action, (Apply, MembershipCommitted))]
    assert told == [Apply(1, 1, b"a"), Apply(3, 1, b"b"), MembershipCommitted(final, 4), Apply(5, 1, b"c")]


def test_memberships_and_noops_take_no_room_in_a_slice() -> None:
    node = RaftNode(paper(1, [2, 3], max_apply_bytes=1))
    entries = [LogEntry(1, 1, b"", NOOP), membership_entry(1, 2, Membership([1, 2])), LogEntry(1, 3, b"long")]
    feed(node, Receive(AppendEntries(1, 2, 0, 0, entries, 3)))
    assert applied(drain(node)) == [3]


def test_what_a_snapshot_stands_for_is_restored_not_applied() -> None:
    node = follower_of([1, 1])
    whole = InstallSnapshot(1, 2, 5, 1, Membership([1, 2, 3]), 0, b"state", True)
    feed(node, Receive(AppendEntries(1, 2, 2, 1, (), 2)), Receive(whole))
    actions = drain(node)
    assert (applied(actions), len(only(actions, RestoreSnapshot))) == ([], 1)
    assert node.last_applied == 5


def test_deferred_a_snapshot_is_restored_once_it_is_durable() -> None:
    node = RaftNode(paper(1, [2, 3]), deferred_sync=True)
    feed(node, Receive(InstallSnapshot(1, 2, 5, 1, Membership([1, 2, 3]), 0, b"state", True)))
    before, ticket, _ = split(drain(node))
    assert (only(before, RestoreSnapshot), node.pending) == ([], False)
    feed(node, Synced(ticket))
    assert len(only(drain(node), RestoreSnapshot)) == 1


def test_a_leader_whose_removal_is_committed_says_so_to_all_at_once() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([2, 3]))
    ack(node, 2, 2)
    actions = ack(node, 3, 2)
    assert [message.leader_commit for message in sent(actions, AppendEntries)] == [2, 2]
    assert not node.is_leader
