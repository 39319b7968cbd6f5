"""Section 6 of the Raft paper (extended version): cluster membership changes, rule by rule."""

from __future__ import annotations

import pytest
from tests.support import (
    MEMBERSHIP,
    Cluster,
    ack,
    campaign,
    elect,
    heartbeat,
    leader,
    log_of,
    membership_entry,
    paper,
    receive,
    reply_of,
    sent,
    step,
)

from raft_io import (
    AppendEntries,
    ChangeMembership,
    Membership,
    MembershipChanged,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    RequestVote,
    RequestVoteReply,
    Role,
    Tick,
    decode_membership,
)

pytestmark = pytest.mark.core

OLD, NEW = Membership([1, 2, 3]), Membership([3, 4, 5])
JOINT = Membership([3, 4, 5], [], [1, 2, 3])


def changing() -> RaftNode:
    """The leader, 1, has created C_old,new and stores it at index 2."""
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([3, 4, 5]))
    return node


def test_the_cluster_first_switches_to_a_transitional_configuration_joint_consensus() -> None:
    node = changing()
    entry = node.log.entry(2)
    assert entry is not None and entry.kind is MEMBERSHIP
    assert decode_membership(entry.command) == JOINT


def test_log_entries_are_replicated_to_all_servers_in_both_configurations() -> None:
    node = changing()
    for member in (2, 3, 4, 5):
        ack(node, member, 1)
    messages = sent(step(node, Propose(b"y")), AppendEntries)
    assert len(messages) == 4
    assert [follower.id for follower in node.status.followers] == [2, 3, 4, 5]


@pytest.mark.parametrize("id_", [1, 4])
def test_any_server_from_either_configuration_may_serve_as_leader(id_: int) -> None:
    log = log_of([1])
    log.append([membership_entry(1, 2, JOINT)])
    node = RaftNode(paper(id_, [2, 3]), log)
    campaign(node)
    for voter in (2, 3, 4, 5, 1):
        receive(node, RequestVoteReply(node.term, True, voter))
    assert node.is_leader


@pytest.mark.parametrize(
    ("votes", "won"),
    [((2, 3), False), ((4, 5), False), ((3,), False), ((2, 4), False), ((2, 3, 4), True), ((3, 5), True)],
)
def test_election_requires_separate_majorities_from_both(votes: tuple[int, ...], won: bool) -> None:
    log = log_of([1])
    log.append([membership_entry(1, 2, JOINT)])
    node = RaftNode(paper(1, [2, 3]), log)
    campaign(node)
    for voter in votes:
        receive(node, RequestVoteReply(node.term, True, voter))
    assert node.is_leader is won


@pytest.mark.parametrize(
    ("acks", "agreed"), [((2, 3), False), ((4, 5), False), ((2, 4), False), ((3, 4), True), ((2, 4, 5), True)]
)
def test_entry_commitment_requires_separate_majorities_from_both(acks: tuple[int, ...], agreed: bool) -> None:
    node = changing()
    for member in acks:
        ack(node, member, 2)
    assert (node.commit_index == 2) is agreed


def test_a_server_uses_the_latest_configuration_in_its_log_whether_or_not_it_is_committed() -> None:
    node = RaftNode(RaftConfig(2, [1, 3]))
    entry = membership_entry(1, 1, JOINT)
    assert MembershipChanged(JOINT) in receive(node, AppendEntries(1, 1, 0, 0, [entry], 0))
    assert (node.commit_index, node.membership) == (0, JOINT)


def test_once_c_old_new_is_committed_the_leader_creates_c_new() -> None:
    node = changing()
    ack(node, 3, 2)
    assert node.membership == JOINT
    ack(node, 4, 2)
    assert node.membership == NEW
    entry = node.log.entry(3)
    assert entry is not None and decode_membership(entry.command) == NEW


def test_c_new_is_committed_under_its_own_rules() -> None:
    node = changing()
    for member in (3, 4):
        ack(node, member, 2)
    ack(node, 3, 3)
    assert node.commit_index == 2, "the leader, 1, is not in it"
    ack(node, 5, 3)
    assert node.commit_index == 3


def test_there_is_no_time_when_old_and_new_can_both_decide_alone() -> None:
    """Figure 11: whoever has C_new in its log got it after C_old,new was committed."""
    logs: dict[int, RaftLog] = {id_: log_of([]) for id_ in (1, 2, 3)}
    nodes = Cluster(logs)
    nodes.elect(1)
    nodes.step(1, Propose(b"x"))
    nodes.settle()
    for id_ in (4, 5):
        nodes.join(id_)
    nodes.cut = {2}
    nodes.step(1, ChangeMembership([3, 4, 5]))
    nodes.settle()
    nodes.tick(1, 3, 4, 5, count=10)
    holders = [id_ for id_, node in nodes.nodes.items() if node.membership == NEW]
    assert holders
    joint_at = 2
    assert all(nodes.nodes[id_].commit_index >= joint_at for id_ in holders)
    nodes.cut = {3, 4, 5}
    for id_ in (1, 2):
        nodes.tick(id_, count=100)
    assert not nodes.nodes[2].is_leader, "C_old alone decides nothing any more"


# The three issues of section 6.


def test_issue_1_new_servers_join_as_non_voting_members_first() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 2, 3], [4]))
    assert [follower.id for follower in node.status.followers] == [2, 3, 4]
    ack(node, 4, 2)
    assert node.commit_index == 1, "not considered for majorities"
    ack(node, 2, 2)
    assert node.commit_index == 2


def test_issue_2_a_leader_that_is_not_part_of_c_new_steps_down_once_c_new_is_committed() -> None:
    node = changing()
    for member in (3, 4):
        ack(node, member, 2)
    ack(node, 3, 3)
    assert node.is_leader, "it manages a cluster that does not include itself"
    ack(node, 4, 3)
    assert node.role is Role.FOLLOWER


def test_issue_2_it_does_not_count_itself_in_majorities() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([2, 3]))
    ack(node, 2, 2)
    assert node.commit_index == 1
    ack(node, 3, 2)
    assert node.commit_index == 2


def test_issue_3_servers_disregard_request_vote_when_they_believe_a_current_leader_exists() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    heartbeat(node, term=4, sender=2)
    assert receive(node, RequestVote(9, 3, 99, 9)) == []
    assert node.term == 4, "it does not update its term or grant its vote"


def test_issue_3_this_does_not_affect_normal_elections() -> None:
    """Each server waits at least a minimum election timeout before it starts one."""
    node = RaftNode(RaftConfig(1, [2, 3]))
    heartbeat(node, term=4, sender=2)
    for _ in range(RaftConfig(1).election_timeout[0]):
        step(node, Tick())
    assert reply_of(node, RequestVote(5, 3, 99, 9)).vote_granted


def test_figure_10_switching_directly_would_be_unsafe_so_that_it_is_not_done() -> None:
    """From three servers to five, all new ones voters at once: never in one entry."""
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 2, 3, 4, 5]))
    assert node.membership.outgoing == {1, 2, 3}


def test_a_candidate_outside_of_the_configuration_that_it_knows_is_voted_for_all_the_same() -> None:
    """The voter may lack the entry that made it a member."""
    node = RaftNode(RaftConfig(1, [2, 3]))
    assert reply_of(node, RequestVote(1, 9, 0, 0)).vote_granted


def test_the_configuration_is_the_last_in_the_log_over_a_restart() -> None:
    node = changing()
    again = RaftNode(RaftConfig(1, [2, 3]), node.log)
    assert again.membership == JOINT
    elect(again)
    assert again.is_leader
