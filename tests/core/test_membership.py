"""Changes of membership, from the leader's side (paper, section 6; thesis, chapter 4)."""

from __future__ import annotations

import pytest
from tests.support import (
    MEMBERSHIP,
    NOOP,
    TOP,
    ack,
    caught_up_leader,
    drain,
    elect,
    feed,
    heartbeat,
    leader,
    log_of,
    membership_entry,
    only,
    paper,
    receive,
    sent,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    ChangeMembership,
    LogEntry,
    Membership,
    MembershipChanged,
    MembershipChangeInProgressError,
    MembershipCommitted,
    NotLeaderError,
    OverloadedError,
    Propose,
    RaftConfig,
    RaftNode,
    RequestVoteReply,
    Role,
    Tick,
    TransferInProgressError,
    TransferLeadership,
    decode_membership,
)
from raft_io.core import membership

pytestmark = pytest.mark.core


def ready(peers: tuple[int, ...] = (2, 3)) -> RaftNode:
    """A leader that has committed an entry of its term, which everybody has."""
    node = leader(peers)
    step(node, Propose(b"x"))
    for peer in peers:
        ack(node, peer, 1)
    return node


def memberships(node: RaftNode) -> list[tuple[int, Membership]]:
    """What the log says of memberships."""
    entries = node.log.entries(1, node.log.last_index())
    return [(entry.index, decode_membership(entry.command)) for entry in entries if entry.kind is MEMBERSHIP]


def committed(actions: list[Action]) -> list[tuple[Membership, int]]:
    return [(action.membership, action.index) for action in only(actions, MembershipCommitted)]


# One entry, or two.


@pytest.mark.parametrize(
    ("voters", "learners"),
    [
        ((1, 2, 3, 4), ()),  # one more
        ((1, 2), ()),  # one less
        ((1, 2, 3), (4, 5, 6)),  # learners, as many as one likes
        ((1, 2), (3,)),  # a voter becomes a learner
        ((2, 3), ()),  # the leader leaves
        ((1, 2, 3), ()),  # what is already so
    ],
)
def test_where_at_most_one_voter_differs_it_takes_one_entry(
    voters: tuple[int, ...], learners: tuple[int, ...]
) -> None:
    node = ready()
    target = Membership(voters, learners)
    actions = step(node, ChangeMembership(voters, learners))
    assert memberships(node) == [(2, target)]
    assert only(actions, MembershipChanged) == [MembershipChanged(target)]
    assert committed(actions) == []


@pytest.mark.parametrize(
    ("voters", "learners"),
    [
        ((1, 2, 3, 4, 5), ()),
        ((1,), ()),
        ((1, 2, 4), ()),  # one is replaced by another
        ((4, 5, 6), (1,)),
        ((1, 2, 4), (3, 5)),
    ],
)
def test_where_more_differ_it_goes_through_a_joint_phase(
    voters: tuple[int, ...], learners: tuple[int, ...]
) -> None:
    node = ready()
    step(node, ChangeMembership(voters, learners))
    assert memberships(node) == [(2, Membership(voters, learners, [1, 2, 3]))]
    assert node.membership == Membership(voters, learners, [1, 2, 3])


def test_feed_returns_the_index_of_the_entry() -> None:
    node = ready()
    assert node.feed(ChangeMembership([1, 2])) == 2


def test_it_is_committed_by_the_new_membership_and_said_so() -> None:
    node = ready()
    step(node, ChangeMembership([1, 2, 3, 4]))
    assert committed(ack(node, 4, 2)) == [], "2 of 4"
    assert committed(ack(node, 3, 2)) == [(Membership([1, 2, 3, 4]), 2)]
    assert node.commit_index == 2


def test_a_majority_of_fewer_voters_commits_sooner() -> None:
    node = ready((2, 3, 4))
    step(node, ChangeMembership([1, 2, 3]))
    assert committed(ack(node, 2, 2)) == [(Membership([1, 2, 3]), 2)]


# The joint phase.


def joint() -> RaftNode:
    """Moving from 1, 2, 3 to 1, 4, 5."""
    node = ready()
    step(node, ChangeMembership([1, 4, 5]))
    return node


@pytest.mark.parametrize(
    ("acks", "index"), [((2,), 1), ((4,), 1), ((2, 3), 1), ((4, 5), 1), ((2, 4), 2), ((3, 5), 2)]
)
def test_while_joint_both_majorities_commit(acks: tuple[int, ...], index: int) -> None:
    node = joint()
    for peer in acks:
        ack(node, peer, 2)
    assert node.commit_index == index


def test_it_is_left_as_soon_as_it_is_committed() -> None:
    node = joint()
    ack(node, 2, 2)
    actions = ack(node, 4, 2)
    final = Membership([1, 4, 5])
    assert memberships(node) == [(2, Membership([1, 4, 5], [], [1, 2, 3])), (3, final)]
    assert only(actions, MembershipChanged) == [MembershipChanged(final)]
    assert committed(actions) == [], "not its joint phase"
    assert committed(ack(node, 2, 3)) == [], "who has left does not count"
    assert committed(ack(node, 5, 3)) == [(final, 3)]


def test_the_learners_of_the_target_come_with_both_phases() -> None:
    node = ready()
    step(node, ChangeMembership([1, 4, 5], [2, 9]))
    assert node.membership == Membership([1, 4, 5], [2, 9], [1, 2, 3])
    ack(node, 2, 2)
    ack(node, 4, 2)
    assert node.membership == Membership([1, 4, 5], [2, 9])


def test_a_learner_that_is_still_outgoing_counts_there() -> None:
    node = ready()
    step(node, ChangeMembership([1, 4, 5], [2, 3]))
    ack(node, 4, 2)
    assert node.commit_index == 1
    ack(node, 2, 2)
    assert node.commit_index == 2


def test_proposals_are_taken_in_every_phase() -> None:
    node = joint()
    assert node.feed(Propose(b"a")) == 3
    drain(node)
    for peer in (2, 4):
        ack(node, peer, 3)
    assert node.commit_index == 3
    assert node.feed(Propose(b"b")) == 5
    drain(node)
    ack(node, 4, 5)
    assert node.commit_index == 5


def test_a_change_may_go_from_one_to_five_and_back() -> None:
    node = leader(())
    step(node, Propose(b"x"))
    actions = step(node, ChangeMembership([1, 2, 3, 4, 5]))
    for peer in (2, 3, 4):
        actions += ack(node, peer, 2)
    for peer in (2, 3, 4):
        actions += ack(node, peer, 3)
    assert committed(actions) == [(Membership([1, 2, 3, 4, 5]), 3)]
    actions = step(node, ChangeMembership([1]))
    for peer in (2, 3):
        actions += ack(node, peer, 4)
    assert committed(actions) == [(Membership([1]), 5)], "and alone it commits the rest by itself"
    assert node.commit_index == 5


# Not before an entry of its own term is committed (raft-dev, 2015).


def test_a_leader_that_has_committed_nothing_of_its_term_commits_a_noop_first() -> None:
    node = caught_up_leader()
    assert node.log.last_index() == 0, "a fresh cluster"
    actions = step(node, ChangeMembership([1, 2]))
    assert node.log.entry(1) == LogEntry(1, 1, b"", NOOP)
    assert (node.log.last_index(), only(actions, MembershipChanged)) == (1, [])
    actions = ack(node, 3, 1)
    assert memberships(node) == [(2, Membership([1, 2]))]
    assert only(actions, MembershipChanged) == [MembershipChanged(Membership([1, 2]))]


def test_one_that_has_such_an_entry_under_way_waits_for_it() -> None:
    node = caught_up_leader()
    step(node, Propose(b"x"))
    assert node.feed(ChangeMembership([1, 2])) == 0, "it waits: no entry was made"
    drain(node)
    assert node.log.last_index() == 1
    ack(node, 3, 1)
    assert memberships(node) == [(2, Membership([1, 2]))]


def test_the_noop_of_an_election_will_do() -> None:
    node = leader(log=log_of([1, 1]))
    assert node.feed(ChangeMembership([1, 2])) == 0
    ack(node, 2, 2)
    assert memberships(node) == []
    ack(node, 2, 3)
    assert memberships(node) == [(4, Membership([1, 2]))]


def test_what_waits_is_dropped_with_leadership() -> None:
    node = leader(log=log_of([1, 1]))
    feed(node, ChangeMembership([1, 2]))
    receive(node, RequestVoteReply(5, False, 2))
    elect(node)
    for peer in (2, 3):
        ack(node, peer, node.log.last_index())
    assert memberships(node) == []
    assert not membership.in_progress(node._state)


def test_what_was_appended_is_not_dropped_but_decided_by_the_next_leader() -> None:
    node = ready()
    step(node, ChangeMembership([1, 2]))
    receive(node, RequestVoteReply(5, False, 2))
    elect(node)
    assert node.membership == Membership([1, 2])
    assert committed(ack(node, 2, node.log.last_index())) == [(Membership([1, 2]), 2)]


def test_a_new_leader_leaves_the_joint_phase_that_another_began() -> None:
    """It does not know whether the joint membership is committed: first its NOOP tells."""
    log = log_of([1, 1])
    log.append([membership_entry(1, 3, Membership([1, 4, 5], [], [1, 2, 3]))])
    node = RaftNode(paper(1, [2, 3]), log, applied=2)
    elect(node)
    assert node.log.entry(4) == LogEntry(2, 4, b"", NOOP)
    ack(node, 2, 3)
    ack(node, 4, 3)
    assert len(memberships(node)) == 1, "by entries of an earlier term nothing is decided"
    ack(node, 2, 4)
    ack(node, 4, 4)
    assert memberships(node)[1:] == [(5, Membership([1, 4, 5]))]


def test_even_where_it_knows_the_joint_membership_to_be_committed() -> None:
    log = log_of([1, 1])
    log.append([membership_entry(1, 3, Membership([1, 4, 5], [], [1, 2, 3]))])
    node = RaftNode(paper(1, [2, 3]), log, applied=3)
    elect(node)
    assert node.log.entry(4) == LogEntry(2, 4, b"", NOOP), "made for this alone"
    ack(node, 2, 4)
    ack(node, 4, 4)
    assert memberships(node)[1:] == [(5, Membership([1, 4, 5]))]


# One at a time.


def test_a_second_change_is_refused_until_the_first_is_committed() -> None:
    node = ready()
    step(node, ChangeMembership([1, 2]))
    before = node.status
    with pytest.raises(MembershipChangeInProgressError):
        node.feed(ChangeMembership([1, 2, 3]))
    assert node.status == before and not node.pending
    ack(node, 2, 2)
    assert node.feed(ChangeMembership([1, 2, 3])) == 3


def test_while_one_waits_a_second_is_refused() -> None:
    node = caught_up_leader()
    node.feed(ChangeMembership([1, 2]))
    with pytest.raises(MembershipChangeInProgressError):
        node.feed(ChangeMembership([1, 3]))
    drain(node)
    with pytest.raises(MembershipChangeInProgressError):
        node.feed(ChangeMembership([1, 3]))
    ack(node, 3, 1)
    assert memberships(node) == [(2, Membership([1, 2]))], "the first it was"


def test_throughout_a_joint_change_a_second_is_refused() -> None:
    node = joint()
    for index, peers in ((2, (2, 4)), (3, (4,))):
        with pytest.raises(MembershipChangeInProgressError):
            node.feed(ChangeMembership([1, 2, 3]))
        for peer in peers:
            ack(node, peer, index)
    assert node.feed(ChangeMembership([1, 2, 3])) == 4


def test_a_new_leader_refuses_while_anothers_change_is_not_committed() -> None:
    log = log_of([1])
    log.append([membership_entry(1, 2, Membership([1, 2, 3], [4]))])
    node = RaftNode(paper(1, [2, 3]), log, applied=1)
    elect(node)
    with pytest.raises(MembershipChangeInProgressError):
        node.feed(ChangeMembership([1, 2]))
    ack(node, 2, 3)
    assert node.feed(ChangeMembership([1, 2])) == 4


# What is refused.


def test_only_a_leader_changes_it() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    with pytest.raises(NotLeaderError) as caught:
        node.feed(ChangeMembership([1]))
    assert caught.value.leader is None
    heartbeat(node, sender=3)
    with pytest.raises(NotLeaderError) as caught:
        node.feed(ChangeMembership([]))
    assert caught.value.leader == 3


@pytest.mark.parametrize(
    ("voters", "learners", "words"),
    [
        ([], [], "needs at least one voter"),
        ([], [4], "needs at least one voter"),
        ([1, 2], [2], "node 2 cannot be both a voter and a learner"),
        ([1, 2, 3], [3, 2], "node 2 cannot be both"),
    ],
)
def test_a_membership_that_makes_no_sense_is_refused(
    voters: list[int], learners: list[int], words: str
) -> None:
    node = ready()
    before = node.status
    with pytest.raises(ValueError, match=words):
        node.feed(ChangeMembership(voters, learners))
    assert node.status == before and not node.pending
    assert node.feed(ChangeMembership([1, 2])) == 2, "and it is in no change's way"


def test_while_leadership_is_handed_over_it_is_refused() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    with pytest.raises(TransferInProgressError):
        node.feed(ChangeMembership([1, 2]))


def test_at_the_end_of_all_indexes_it_is_refused() -> None:
    node = ready()
    node._state.last_index = TOP - 2
    with pytest.raises(OverloadedError, match="the log is full"):
        node.feed(ChangeMembership([1, 2]))


# The leader removes itself.


def test_a_leader_that_removes_itself_does_not_count_itself() -> None:
    node = ready((2, 3, 4))
    step(node, ChangeMembership([2, 3, 4]))
    assert node.is_leader
    ack(node, 2, 2)
    assert node.commit_index == 1, "1 of 3"
    ack(node, 3, 2)
    assert node.commit_index == 2


def test_it_manages_the_cluster_until_its_removal_is_committed_and_then_steps_down() -> None:
    node = ready()
    step(node, ChangeMembership([2, 3]))
    assert node.feed(Propose(b"y")) == 3
    drain(node)
    ack(node, 2, 3)
    actions = ack(node, 3, 3)
    assert committed(actions) == [(Membership([2, 3]), 2)]
    assert (node.role, node.term, node.leader) == (Role.FOLLOWER, 1, None)
    assert node.last_applied == 3


def test_its_last_word_tells_the_others_that_they_are_on_their_own() -> None:
    node = ready()
    step(node, ChangeMembership([2, 3]))
    ack(node, 2, 2)
    words = sent(ack(node, 3, 2), AppendEntries)
    assert [word.leader_commit for word in words] == [2, 2]
    assert not node.is_leader


def test_and_then_it_is_silent_for_good() -> None:
    node = ready()
    step(node, ChangeMembership([2, 3]))
    ack(node, 2, 2)
    ack(node, 3, 2)
    for _ in range(200):
        assert step(node, Tick()) == []
    assert node.role is Role.FOLLOWER


def test_by_a_joint_change_it_leaves_after_the_final_membership_not_before() -> None:
    node = ready()
    step(node, ChangeMembership([4, 5, 6]))
    for peer in (2, 4, 5):
        ack(node, peer, 2)
    assert node.is_leader, "still: in the joint phase it votes among the outgoing"
    assert node.membership == Membership([4, 5, 6])
    actions = ack(node, 4, 3) + ack(node, 5, 3)
    assert committed(actions) == [(Membership([4, 5, 6]), 3)]
    assert node.role is Role.FOLLOWER


def test_a_leader_alone_hands_all_of_it_to_another() -> None:
    node = leader(())
    step(node, Propose(b"x"))
    step(node, ChangeMembership([2]))
    assert node.membership == Membership([2], [], [1])
    ack(node, 2, 2)
    assert node.membership == Membership([2])
    assert node.is_leader
    ack(node, 2, 3)
    assert not node.is_leader


def test_a_leader_becomes_a_learner_like_any_other() -> None:
    node = ready()
    step(node, ChangeMembership([2, 3], [1]))
    ack(node, 2, 2)
    ack(node, 3, 2)
    assert (node.role, node.membership) == (Role.FOLLOWER, Membership([2, 3], [1]))
