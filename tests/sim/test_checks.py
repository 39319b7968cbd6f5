"""The checks can fail: each is shown a cluster in which one promise was broken by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.sim import requests
from tests.sim.check_contact import before
from tests.sim.checks import Acknowledged
from tests.sim.cluster import Cluster, Move, Op, Setup
from tests.sim.image import Save
from tests.sim.member import Member, Mode

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    Apply,
    ChangeMembership,
    EntryKind,
    HardState,
    InstallSnapshot,
    LogEntry,
    Membership,
    MembershipCommitted,
    Message,
    PreVote,
    RaftNode,
    ReadFailed,
    ReadReady,
    RequestVote,
    RequestVoteReply,
    RestoreSnapshot,
    Send,
    Snapshot,
    TakeSnapshot,
    TransferInProgressError,
    TransferLeadership,
    encode_membership,
)

pytestmark = pytest.mark.core

TRIO = Membership([1, 2, 3])


def cluster() -> Cluster:
    """Node 1 leads term 1 and has committed two entries; node 3 is behind by both."""
    made = Cluster(Setup((Mode.STEP,) * 3, (("pre_vote", False),)))
    made.do(Move(Op.ISOLATE, 2, 0))
    made.do(Move(Op.TIME_OUT, 0, 0))
    made.do(Move(Op.FLOW, 100, 0))
    for command in (b"a", b"b"):
        assert made.propose(made.members[0], command)
        made.do(Move(Op.FLOW, 100, 0))
    assert [entry.command for entry in made.checker.history.committed] == [b"a", b"b"]
    return made


def node_of(made: Cluster, who: int) -> RaftNode:
    node = made.members[who - 1].node
    assert node is not None
    return node


def snapshot_of(made: Cluster, index: int, membership: Membership = TRIO) -> Snapshot:
    return Snapshot(index, 1, membership, made.members[0].capture(index))


def compact(made: Cluster, who: int, index: int) -> Snapshot:
    """Node `who` takes a snapshot."""
    snapshot = snapshot_of(made, index)
    made.members[who - 1].log.save_snapshot(snapshot)
    return snapshot


def sends(member: Member, to: int, message: Message, acknowledged: Acknowledged | None = None) -> None:
    member.checker.sent(member, Send(to, message), acknowledged)


# Log matching, votes, leaders.


def same_place_other_command(made: Cluster) -> None:
    made.members[2].log.append([LogEntry(1, 1, b"other")])


def same_place_other_past(made: Cluster) -> None:
    made.members[1].log.append([LogEntry(2, 3, b"y")])
    made.members[2].log.append([LogEntry(2, 1), LogEntry(2, 2), LogEntry(2, 3, b"y")])


def same_place_other_past_behind_a_snapshot(made: Cluster) -> None:
    compact(made, 2, 2)
    made.members[1].log.append([LogEntry(2, 3, b"y")])
    made.members[2].log.append([LogEntry(2, 1), LogEntry(2, 2), LogEntry(2, 3, b"y")])


def a_committed_entry_removed(made: Cluster) -> None:
    made.members[1].log.truncate(2)


def a_leader_removes(made: Cluster) -> None:
    made.members[0].log.truncate(2)


def two_leaders(made: Cluster) -> None:
    sends(made.members[1], 3, AppendEntries(1, 2, 0, 0, (), 0))


def two_leaders_one_of_whom_sends_a_snapshot(made: Cluster) -> None:
    sends(made.members[1], 3, InstallSnapshot(1, 2, 1, 1, TRIO, 0, b"", False))


def two_votes(made: Cluster) -> None:
    sends(made.members[1], 3, RequestVoteReply(1, True, 2))


def a_leader_lacks_an_entry(made: Cluster) -> None:
    made.checker._complete(made.members[2], 2)


def a_leader_without_votes(made: Cluster) -> None:
    made.checker._elected(made.members[2], 1)


def the_commit_index_falls(made: Cluster) -> None:
    member = made.members[0]
    made.checker.seen[1] = made.checker.seen[1]._replace(commit=3)
    made.checker.observe(member)


# Durability.


def a_vote_not_on_disk(made: Cluster) -> None:
    made.members[2].log.disk.state = HardState(1)
    sends(made.members[2], 1, RequestVoteReply(1, True, 3))


def a_term_not_on_disk(made: Cluster) -> None:
    sends(made.members[2], 1, RequestVote(9, 3, 0, 0))


def an_entry_not_on_disk(made: Cluster) -> None:
    made.members[2].log.disk.state = HardState(1)
    sends(made.members[2], 1, AppendEntriesReply(1, True, 3, 2), Acknowledged(2, 1))


def another_entry_on_disk(made: Cluster) -> None:
    made.members[2].log.disk = made.members[0].log.disk
    sends(made.members[2], 1, AppendEntriesReply(1, True, 3, 2), Acknowledged(2, 9))


def committed_on_one_disk(made: Cluster) -> None:
    made.members[1].log.disk.entries.clear()
    made.checker._is_on_a_quorum(made.checker.history.at(2), TRIO)


def committed_by_one_half(made: Cluster) -> None:
    joint = Membership([1, 2], outgoing=[1, 2, 3, 4, 5])
    made.checker._is_on_a_quorum(made.checker.history.at(2), joint)


def committed_by_learners(made: Cluster) -> None:
    made.checker._is_on_a_quorum(made.checker.history.at(2), Membership([1, 3], [2]))


def committed_though_another_could_win(made: Cluster) -> None:
    made.members[2].log.disk.write(LogEntry(2, 1, b"z"))
    made.checker.survives()


# Snapshots and state machines.


def a_commit_that_is_none(made: Cluster) -> None:
    sends(made.members[0], 2, AppendEntries(1, 1, 0, 0, (), 3))


def applied_twice(made: Cluster) -> None:
    made.checker.machines.applied(made.members[0], Apply(2, 1, b"b"))


def applied_and_skipped(made: Cluster) -> None:
    made.checker.machines.through[1] = 0
    made.checker.machines.applied(made.members[0], Apply(2, 1, b"b"))


def applied_another(made: Cluster) -> None:
    made.members[2].log.disk.entries.append(LogEntry(1, 1, b"a"))
    made.checker.machines.applied(made.members[2], Apply(1, 1, b"c"))


def applied_not_on_disk(made: Cluster) -> None:
    made.checker.machines.applied(made.members[2], Apply(1, 1, b"a"))


def no_membership_is_committed_there(made: Cluster) -> None:
    made.checker.machines.through[1] = 1
    made.checker.machines.membership_committed(made.members[0], MembershipCommitted(TRIO, 2))


def restored_backwards(made: Cluster) -> None:
    made.checker.machines.restored(made.members[0], RestoreSnapshot(snapshot_of(made, 1)))


def restored_before_it_is_durable(made: Cluster) -> None:
    made.checker.machines.restored(made.members[2], RestoreSnapshot(snapshot_of(made, 2)))


def a_snapshot_of_another_state(made: Cluster) -> None:
    made.checker.machines.is_true(Snapshot(2, 1, TRIO, made.members[0].capture(1)))


def a_snapshot_of_another_membership(made: Cluster) -> None:
    made.checker.machines.is_true(snapshot_of(made, 2, Membership([1, 2])))


def a_snapshot_of_what_is_not_committed(made: Cluster) -> None:
    made.members[1].log.save_snapshot(snapshot_of(made, 3))


def a_leader_takes_in_a_snapshot(made: Cluster) -> None:
    made.propose(made.members[0], b"c")
    made.checker.history.commit(made.members[0].log.now.entries[2], 1)
    made.members[0].log.save_snapshot(snapshot_of(made, 3))


def a_snapshot_that_is_not_due(made: Cluster) -> None:
    made.checker.machines.take(made.members[0], TakeSnapshot(2, 1))


def another_piece_under_way(made: Cluster) -> None:
    snapshot = compact(made, 1, 2)
    assert isinstance(snapshot.data, bytes)
    first, rest = snapshot.data[:1], snapshot.data[1:]
    size, checksum = len(snapshot.data), int.from_bytes(snapshot.data, "little") % (2**63 - 25)
    sends(made.members[0], 3, InstallSnapshot(1, 1, 2, 1, TRIO, 0, first, False, size, checksum))
    sends(made.members[0], 3, InstallSnapshot(1, 1, 2, 1, TRIO, 1, rest, True, size, checksum))


def a_piece_of_something_else(made: Cluster) -> None:
    compact(made, 1, 2)
    sends(made.members[0], 3, InstallSnapshot(1, 1, 2, 1, TRIO, 0, b"???", False, 9))


# Reads.


def a_stale_read(made: Cluster) -> None:
    made.checker.reads.asked(made.members[0], b"x")
    made.checker.reads.ready(made.members[0], ReadReady(b"x", 1), 2)


def a_read_that_nobody_asked_for(made: Cluster) -> None:
    made.checker.reads.ready(made.members[0], ReadReady(b"x", 2), 2)


def a_read_that_was_answered(made: Cluster) -> None:
    made.checker.reads.asked(made.members[0], b"x")
    made.checker.reads.failed(made.members[0], ReadFailed(b"x"))
    made.checker.reads.failed(made.members[0], ReadFailed(b"x"))


def a_read_before_it_is_applied(made: Cluster) -> None:
    made.checker.reads.asked(made.members[1], b"x")
    made.checker.reads.ready(made.members[1], ReadReady(b"x", 2), 1)


# Memberships.


def change_to(made: Cluster, membership: Membership) -> None:
    """The leader adds a membership to its log, all by itself."""
    index = made.members[0].log.last_index() + 1
    entry = LogEntry(1, index, encode_membership(membership), EntryKind.MEMBERSHIP)
    made.members[0].log.append([entry])


def a_change_that_nobody_wants(made: Cluster) -> None:
    change_to(made, Membership([1, 2]))


def two_changes_at_once(made: Cluster) -> None:
    made.checker.changes.offered(made.members[0], ChangeMembership([1, 2]))
    change_to(made, Membership([1, 2]))
    made.checker.changes.offered(made.members[0], ChangeMembership([1]))
    change_to(made, Membership([1]))


def a_change_that_should_be_joint(made: Cluster) -> None:
    made.checker.changes.offered(made.members[0], ChangeMembership([1]))
    change_to(made, Membership([1]))


def a_membership_not_taken_on(made: Cluster) -> None:
    made.members[2].log.now.snapshot = Snapshot(1, 1, Membership([3]), b"")
    made.checker.changes.observe(made.members[2], node_of(made, 3))


def a_driver_that_was_not_told(made: Cluster) -> None:
    made.members[2].told = Membership([3])
    made.checker.changes.drained(made.members[2], node_of(made, 3))


def a_leader_that_was_removed(made: Cluster) -> None:
    member = made.members[0]
    gone = Membership([2, 3])
    member.log.now.write(Save(snapshot_of(made, 2, gone), 2))
    member.told = gone
    made.checker.changes.drained(member, node_of(made, 1))


# Contact.


def a_term_is_not_adopted(made: Cluster) -> None:
    message = RequestVoteReply(2, False, 2)
    was = before(made.members[0], node_of(made, 1), message)
    made.checker.contact.heeded(made.members[0], 2, message, was)


def a_leader_is_disturbed(made: Cluster) -> None:
    message = RequestVote(2, 2, 2, 1)
    was = before(made.members[0], node_of(made, 1), message)._replace(term=0)
    made.checker.contact.heeded(made.members[0], 2, message, was)


def a_pre_vote_changes_something(made: Cluster) -> None:
    message = PreVote(2, 2, 2, 1)
    was = before(made.members[0], node_of(made, 1), message)
    made.members[0].take(TransferLeadership(2))
    made.checker.contact.heeded(made.members[0], 2, message, was)


def a_leader_that_hears_nobody(made: Cluster) -> None:
    made.members[0].ticks += 21
    made.checker.contact.ticked(made.members[0], node_of(made, 1))


BROKEN: dict[Callable[[Cluster], None], str] = {
    same_place_other_command: "log matching",
    same_place_other_past: "log matching",
    same_place_other_past_behind_a_snapshot: "log matching",
    a_committed_entry_removed: "removed the committed",
    a_leader_removes: "leader 1 removed entries",
    two_leaders: "has the leaders 1 and 2",
    two_leaders_one_of_whom_sends_a_snapshot: "has the leaders 1 and 2",
    two_votes: "voted for 1 and 3",
    a_leader_lacks_an_entry: "lacks LogEntry",
    a_leader_without_votes: "alone",
    the_commit_index_falls: "commit=3",
    a_vote_not_on_disk: "vote not durable",
    a_term_not_on_disk: "may forget the term",
    an_entry_not_on_disk: "not durable",
    another_entry_on_disk: "not durable",
    committed_on_one_disk: "but only on",
    committed_by_one_half: "but only on",
    committed_by_learners: "but only on",
    committed_though_another_could_win: "could win",
    a_commit_that_is_none: "claims a commit",
    applied_twice: "after 2",
    applied_and_skipped: "skips",
    applied_another: "is not LogEntry",
    applied_not_on_disk: "not durable on node 3",
    no_membership_is_committed_there: "is not LogEntry",
    restored_backwards: "goes back from 2 to 1",
    restored_before_it_is_durable: "before it is durable",
    a_snapshot_of_another_state: "holds another state",
    a_snapshot_of_another_membership: "but the membership there is",
    a_snapshot_of_what_is_not_committed: "is not committed",
    a_leader_takes_in_a_snapshot: "takes in",
    a_snapshot_that_is_not_due: "behind the last snapshot",
    another_piece_under_way: "beside",
    a_piece_of_something_else: "is no piece of",
    a_stale_read: "stale",
    a_read_that_nobody_asked_for: "not open",
    a_read_that_was_answered: "not open",
    a_read_before_it_is_applied: "has not applied",
    a_change_that_nobody_wants: "nobody asked for it",
    two_changes_at_once: "beside LogEntry",
    a_change_that_should_be_joint: "not to Membership",
    a_membership_not_taken_on: "believes in",
    a_driver_that_was_not_told: "was told",
    a_leader_that_was_removed: "it was removed",
    a_term_is_not_adopted: "ignored RequestVoteReply",
    a_leader_is_disturbed: "disturbs 1",
    a_pre_vote_changes_something: "changes nothing, but changed",
    a_leader_that_hears_nobody: "has not heard from",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_noticed(broken: Callable[[Cluster], None]) -> None:
    made = cluster()
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        broken(made)


def test_a_transfer_that_is_never_given_up_is_noticed() -> None:
    made = cluster()
    member = made.members[0]
    assert requests.transfer(member, 3)
    assert member.transfer is not None
    member.transfer = member.transfer._replace(tick=-20)
    with pytest.raises(AssertionError, match="still hands over"):
        member.tick()


def test_proposals_are_refused_while_leadership_is_handed_over() -> None:
    made = cluster()
    assert requests.transfer(made.members[0], 3)
    assert not made.propose(made.members[0], b"c")
    assert made.checker.changes.refusals(made.members[0], ChangeMembership([1])) == {TransferInProgressError}
