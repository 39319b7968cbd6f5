"""Which membership is in force: recovered, adopted as it is appended, rolled back, replaced by a snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import (
    MEMBERSHIP,
    TracingLog,
    ack,
    ask,
    campaign,
    compacted_log,
    default_leader,
    drain,
    elect,
    entries_of,
    feed,
    heartbeat,
    leader,
    log_of,
    membership_entry,
    only,
    receive,
    sent,
    step,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    ChangeMembership,
    HardState,
    InstallSnapshot,
    LogEntry,
    Membership,
    MembershipChanged,
    MemoryLog,
    PreVote,
    Propose,
    RaftConfig,
    RaftNode,
    Receive,
    RequestVote,
    Role,
    Snapshot,
    SnapshotTaken,
    StorageError,
    Tick,
    TransferLeadership,
)
from raft_io.core import adoption

pytestmark = pytest.mark.core

FIRST = Membership([1, 2, 3])
A, B, C = Membership([1, 2, 3, 4]), Membership([1, 2], [3]), Membership([1, 5], [], [1, 2])


def log_with(*places: tuple[int, Membership], last: int = 6) -> MemoryLog:
    """A log of term 1 with memberships at some of its places."""
    log = MemoryLog()
    held = dict(places)
    for index in range(1, last + 1):
        log.append(
            [membership_entry(1, index, held[index])] if index in held else entries_of([1], first=index)
        )
    log.set_hard_state(HardState(1))
    return log


def follower(log: MemoryLog | None = None) -> RaftNode:
    return RaftNode(RaftConfig(1, [2, 3]), log)


def changes(actions: object) -> list[Membership]:
    assert isinstance(actions, list)
    return [action.membership for action in only(actions, MembershipChanged)]


def truncate(node: RaftNode, first: int) -> list[Membership]:
    """A leader of a later term replaces everything from `first` on. Returns what was told of memberships."""
    prev = first - 1
    prev_term = node.log.term_at(prev)
    assert prev_term is not None
    term = node.term + 1
    return changes(receive(node, AppendEntries(term, 2, prev, prev_term, [LogEntry(term, first)], 0)))


# At the start.


def test_without_anything_in_the_log_it_is_the_configurations() -> None:
    assert follower().membership == FIRST
    assert follower(log_with()).membership == FIRST
    assert RaftNode(RaftConfig.single(7)).membership == Membership([7])


def test_who_joins_has_none() -> None:
    node = RaftNode(RaftConfig.joining(7))
    assert node.membership == Membership(())
    assert node.status.membership == Membership(())


def test_the_last_entry_of_the_log_counts_committed_or_not() -> None:
    assert follower(log_with((2, A), (5, B))).membership == B
    assert RaftNode(RaftConfig.joining(1), log_with((2, A))).membership == A


def test_a_snapshot_counts_where_no_entry_follows() -> None:
    assert follower(compacted_log(Snapshot(4, 1, A, b""))).membership == A
    log = compacted_log(Snapshot(4, 1, A, b""), [1])
    log.append([membership_entry(1, 6, B)])
    assert follower(log).membership == B


def test_what_was_adopted_before_a_restart_is_not_told_again() -> None:
    node = follower(log_with((2, A)))
    assert node.drain() == []
    assert not node.pending


def test_an_entry_that_holds_no_membership_is_a_storage_error() -> None:
    log = log_of([1])
    log.append([LogEntry(1, 2, b"nonsense", MEMBERSHIP)])
    with pytest.raises(
        StorageError, match="while adopting the log: an entry that holds no membership"
    ) as caught:
        follower(log)
    assert isinstance(caught.value.__cause__, ValueError)


# As entries are appended.


def test_a_follower_adopts_a_membership_as_it_appends_it() -> None:
    node = follower()
    entry = membership_entry(1, 1, A)
    assert changes(receive(node, AppendEntries(1, 2, 0, 0, [entry], 0))) == [A]
    assert (node.membership, node.commit_index) == (A, 0)


def test_of_several_in_one_message_each_is_told_and_the_last_counts() -> None:
    node = follower()
    entries = [membership_entry(1, 1, A), *entries_of([1], first=2), membership_entry(1, 3, B)]
    assert changes(receive(node, AppendEntries(1, 2, 0, 0, entries, 0))) == [A, B]
    assert node.membership == B


def test_an_entry_that_is_there_already_changes_nothing() -> None:
    node = follower()
    message = AppendEntries(1, 2, 0, 0, [membership_entry(1, 1, A)], 0)
    receive(node, message)
    assert changes(receive(node, message)) == []


@pytest.mark.parametrize("command", [b"", b"nonsense", b"\x01" + bytes(12)])
def test_what_holds_no_membership_or_no_voters_is_dropped_with_its_message(command: bytes) -> None:
    node = follower()
    entries = [*entries_of([1]), LogEntry(1, 2, command, MEMBERSHIP)]
    assert receive(node, AppendEntries(1, 2, 0, 0, entries, 2)) == []
    assert (node.log.last_index(), node.membership) == (0, FIRST)


def test_the_bytes_of_a_membership_in_another_kind_of_entry_mean_nothing() -> None:
    node = follower()
    entry = LogEntry(1, 1, membership_entry(1, 1, A).command)
    assert changes(receive(node, AppendEntries(1, 2, 0, 0, [entry], 0))) == []
    assert node.membership == FIRST


def test_it_decides_at_once_whose_votes_count() -> None:
    node = follower()
    receive(node, AppendEntries(1, 2, 0, 0, [membership_entry(1, 1, C)], 0))
    campaign(node)
    assert node.role is Role.CANDIDATE
    assert node._state.voters == [1, 5] and node._state.outgoing == [1, 2]


def test_a_notice_comes_before_everything_that_it_brings_about() -> None:
    node = leader((2, 3))
    step(node, Propose(b"x"))
    for peer in (2, 3):
        ack(node, peer, 1)
    actions = step(node, ChangeMembership([1, 2, 3, 4]))
    assert actions[0] == MembershipChanged(A)
    assert len(sent(actions, AppendEntries)) == 2, "the new member hears of it with the next heartbeat"


# Rolled back.


def test_truncating_the_last_returns_to_the_one_before() -> None:
    node = follower(log_with((2, A), (5, B)))
    assert truncate(node, 5) == [A]
    assert node.membership == A


@pytest.mark.parametrize(("first", "expected"), [(6, B), (5, A), (3, A), (2, FIRST), (1, FIRST)])
def test_several_levels_deep(first: int, expected: Membership) -> None:
    node = follower(log_with((2, A), (5, B), (6, C)))
    assert truncate(node, first) == [expected], "told once, however many were removed"
    assert node.membership == expected


def test_what_removes_no_membership_tells_nothing() -> None:
    node = follower(log_with((2, A)))
    assert truncate(node, 4) == []
    assert node.membership == A


def test_a_snapshots_membership_is_the_furthest_way_back() -> None:
    log = compacted_log(Snapshot(4, 1, A, b""))
    log.append([membership_entry(1, 5, B), membership_entry(1, 6, C)])
    node = follower(log)
    assert truncate(node, 5) == [A]


def test_a_rollback_and_what_replaces_it_are_both_told() -> None:
    node = follower(log_with((5, B)))
    message = AppendEntries(2, 2, 4, 1, [membership_entry(2, 5, A)], 0)
    assert changes(receive(node, message)) == [FIRST, A]


def test_who_was_removed_by_a_change_that_is_rolled_back_votes_and_campaigns_again() -> None:
    node = follower(log_with((6, Membership([2, 3]))))
    truncate(node, 6)
    assert node._state.votes
    campaign(node)
    assert node.role is Role.CANDIDATE


# Snapshots.


def test_an_installed_snapshot_brings_its_membership() -> None:
    node = follower()
    actions = receive(node, InstallSnapshot(1, 2, 9, 1, A, 0, b"state", True))
    assert changes(actions) == [A]
    assert node.membership == A


def test_one_that_brings_the_same_tells_nothing() -> None:
    node = follower()
    assert changes(receive(node, InstallSnapshot(1, 2, 9, 1, FIRST, 0, b"state", True))) == []
    assert node.membership == FIRST


def test_one_that_replaces_a_log_takes_its_memberships_with_it() -> None:
    node = follower(log_with((2, A), (5, B)))
    assert changes(receive(node, InstallSnapshot(2, 2, 9, 2, A, 0, b"state", True))) == [A]
    assert [adopted.membership for adopted in node._state.history] == [A]


def test_a_taken_snapshot_holds_the_membership_as_of_its_index() -> None:
    for index, expected in ((1, FIRST), (2, A), (4, A), (5, B), (6, B)):
        node = RaftNode(RaftConfig(1, [2, 3]), log_with((2, A), (5, B)))
        heartbeat(node, prev=(6, 1), commit=6)
        step(node, SnapshotTaken(index, b"state"))
        saved = node.log.snapshot()
        assert saved is not None
        assert (saved.index, saved.membership) == (index, expected)
        assert node.membership == B, "what is in force has not changed"


def test_after_a_snapshot_the_way_back_begins_at_it() -> None:
    node = follower(log_with((2, A), (5, B), (6, C)))
    heartbeat(node, prev=(6, 1), commit=5)
    step(node, SnapshotTaken(5, b"state"))
    assert [adopted.membership for adopted in node._state.history] == [B, C]
    assert truncate(node, 6) == [B]


def test_as_of_an_index_is_what_the_entries_through_it_bring() -> None:
    state = follower(log_with((2, A), (5, B)))._state
    assert [adoption.as_of(state, index) for index in range(8)] == [FIRST, FIRST, A, A, A, B, B, B]


@given(st.lists(st.tuples(st.sampled_from([A, B, C, FIRST, None]), st.booleans()), max_size=12), st.data())
def test_any_truncation_leaves_what_the_log_says(
    plan: list[tuple[Membership | None, bool]], data: st.DataObject
) -> None:
    """However entries come and go, the membership is that of the last entry that is left."""
    node = follower()
    for membership, cut in plan:
        last = node.log.last_index()
        if cut and last:
            truncate(node, data.draw(st.integers(1, last)))
        else:
            entry = LogEntry(max(node.term, 1), last + 1)
            if membership is not None:
                entry = membership_entry(max(node.term, 1), last + 1, membership)
            prev_term = node.log.term_at(last)
            assert prev_term is not None
            receive(node, AppendEntries(max(node.term, 1), 2, last, prev_term, [entry], 0))
        again = RaftNode(RaftConfig(1, [2, 3]), node.log)
        assert node.membership == again.membership
        assert [a.index for a in node._state.history] == [a.index for a in again._state.history]


# Who may stand for election.


def test_voters_may_and_so_may_who_is_on_its_way_out() -> None:
    for membership, may in (
        (FIRST, True),
        (Membership([2, 3], [], [1, 2]), True),
        (Membership([2, 3], [1], [1, 2]), True),
        (Membership([2, 3], [1]), False),
        (Membership([2, 3]), False),
    ):
        node = follower(compacted_log(Snapshot(4, 1, membership, b"")))
        assert adoption.may_lead(node._state) is may, membership


def test_who_is_no_voter_never_campaigns_and_only_notices_that_its_leader_is_gone() -> None:
    node = follower(compacted_log(Snapshot(4, 1, Membership([2, 3], [1]), b"")))
    heartbeat(node, term=1, sender=2, prev=(4, 1))
    assert node.leader == 2
    for _ in range(200):
        assert step(node, Tick()) == []
    assert (node.role, node.term) == (Role.FOLLOWER, 1)
    assert node.status.leader is None


def test_who_joins_never_campaigns() -> None:
    node = RaftNode(RaftConfig.joining(1))
    for _ in range(200):
        assert step(node, Tick()) == []
    assert (node.role, node.term) == (Role.FOLLOWER, 0)


def test_who_joined_campaigns_once_it_is_told_that_it_votes() -> None:
    node = RaftNode(RaftConfig.joining(1))
    entries = [membership_entry(1, 1, Membership([2], [1])), membership_entry(1, 2, Membership([1, 2]))]
    receive(node, AppendEntries(1, 2, 0, 0, entries[:1], 1))
    for _ in range(50):
        assert step(node, Tick()) == []
    receive(node, AppendEntries(1, 2, 1, 1, entries[1:], 1))
    assert sent(ask(node), PreVote) == [PreVote(2, 1, 2, 1)]


def test_who_an_uncommitted_change_removes_may_still_stand_but_does_not_count_itself() -> None:
    node = follower(log_with((6, Membership([2]))))
    assert adoption.may_lead(node._state)
    actions = campaign(node)
    assert [m.candidate for m in sent(actions, PreVote)] == [1]
    assert sent(actions, RequestVote) == [RequestVote(2, 1, 6, 1)], "2 alone is asked"
    assert not node.is_leader


def test_once_that_change_is_committed_it_may_no_more() -> None:
    node = follower(log_with((6, Membership([2]))))
    heartbeat(node, term=1, sender=2, prev=(6, 1), commit=6)
    assert not adoption.may_lead(node._state)
    for _ in range(100):
        assert step(node, Tick()) == []


def test_a_learner_that_was_never_a_voter_may_not_whatever_is_uncommitted() -> None:
    node = follower(log_with((4, Membership([2, 3], [1])), (6, Membership([2], [1, 3]))))
    assert not adoption.may_lead(node._state)


def test_who_was_outgoing_before_an_uncommitted_final_membership_may() -> None:
    node = follower(log_with((4, Membership([2, 3], [], [1])), (6, Membership([2, 3]))))
    assert adoption.may_lead(node._state)


# What a leader keeps of its followers.


def test_a_change_of_others_does_not_end_a_transfer() -> None:
    node = leader((2, 3), log_of([1]))
    feed(node, ChangeMembership([1, 2]), TransferLeadership(2))
    ack(node, 3, 2)
    assert node.membership == Membership([1, 2])
    assert node.status.transfer_target == 2


def test_a_leader_gets_a_follower_for_each_new_member_and_keeps_what_it_knows() -> None:
    node = leader((2, 3))
    step(node, Propose(b"x"))
    ack(node, 3, 1)
    step(node, ChangeMembership([1, 3, 4], [5]))
    assert [(f.id, f.match_index, f.part) for f in node.status.followers] == [
        (2, 0, "outgoing"),
        (3, 1, "voter"),
        (4, 0, "voter"),
        (5, 0, "learner"),
    ]


def test_who_is_removed_is_forgotten() -> None:
    node = leader((2, 3))
    step(node, Propose(b"x"))
    ack(node, 3, 1)
    step(node, ChangeMembership([1, 3]))
    assert [f.id for f in node.status.followers] == [3]
    assert receive(node, AppendEntriesReply(1, True, 2, 1)) == [], "nor heard"


def test_a_learner_that_is_promoted_keeps_what_is_known_of_it() -> None:
    node = leader((2, 3))
    step(node, Propose(b"x"))
    ack(node, 3, 1)
    step(node, ChangeMembership([1, 2, 3], [4]))
    ack(node, 3, 2)
    ack(node, 4, 2)
    step(node, ChangeMembership([1, 2, 3, 4]))
    promoted = node.status.followers[2]
    assert (promoted.id, promoted.match_index, promoted.part) == (4, 2, "voter")


def test_a_voter_that_becomes_a_learner_is_asked_anew_what_it_has() -> None:
    """Its disk may be a new one."""
    node = leader((2, 3))
    step(node, Propose(b"x"))
    for peer in (2, 3):
        ack(node, peer, 1)
    step(node, ChangeMembership([1, 2], [3]))
    demoted = node.status.followers[1]
    assert (demoted.id, demoted.match_index, demoted.state, demoted.part) == (3, 0, "probe", "learner")


def test_a_new_member_is_sent_everything_from_where_it_agrees() -> None:
    node = default_leader((2, 3))
    for _ in range(3):
        step(node, Propose(b"x"))
    ack(node, 2, 3)
    step(node, ChangeMembership([1, 2, 3], [4]))
    (probe,) = sent(receive(node, AppendEntriesReply(1, False, 4, 0, 1, 0)), AppendEntries)
    assert [entry.index for entry in probe.entries] == [1, 2, 3, 4]


def test_a_rolled_back_change_costs_a_leader_nothing() -> None:
    """A leader never truncates its own log: it is a follower again before it does."""
    node = leader((2, 3))
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 2, 3], [4]))
    message = AppendEntries(2, 2, 1, 1, [LogEntry(2, 2)], 1)
    assert changes(receive(node, message)) == [FIRST]
    assert list(node.status.followers) == []
    elect(node)
    assert [member.id for member in node.status.followers] == [2, 3]


def test_deferred_a_membership_counts_before_it_is_durable() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), deferred_sync=True)
    feed(node, Receive(AppendEntries(1, 2, 0, 0, [membership_entry(1, 1, A)], 0)))
    assert node.membership == A
    assert drain(node)[0] == MembershipChanged(A)


def test_a_log_without_snapshots_has_memberships_all_the_same() -> None:
    log = TracingLog([1, 1], HardState(1))
    log.held[1] = membership_entry(1, 2, A)
    assert RaftNode(RaftConfig(1, [2, 3]), log).membership == A
