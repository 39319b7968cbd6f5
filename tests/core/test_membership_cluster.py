"""Changes of membership in a whole cluster: growing, replacing, crashes in the middle, old members."""

from __future__ import annotations

import pytest
from tests.support import Cluster, compacted_log, log_of, membership_entry

from raft_io import (
    ChangeMembership,
    HardState,
    LogEntry,
    Membership,
    MemoryLog,
    PreVote,
    PreVoteReply,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    Snapshot,
)

pytestmark = pytest.mark.core


def cluster(*ids: int, **options: object) -> Cluster:
    logs: dict[int, RaftLog] = {id_: log_of([]) for id_ in ids}
    nodes = Cluster(logs, **{"pre_vote": True, "check_quorum": True, **options})
    nodes.elect(ids[0])
    return nodes


def leader_of(nodes: Cluster) -> int:
    (leader,) = [id_ for id_, node in nodes.nodes.items() if node.is_leader]
    return leader


def change(nodes: Cluster, voters: list[int], learners: list[int] | None = None) -> None:
    """Make the change and let it be done."""
    at = leader_of(nodes)
    nodes.step(at, ChangeMembership(voters, learners or []))
    nodes.settle()
    nodes.tick(count=30)
    target = Membership(voters, learners or [])
    assert all(nodes.nodes[id_].membership == target for id_ in target.voters | target.learners)


def write(nodes: Cluster, command: bytes) -> None:
    at = leader_of(nodes)
    nodes.step(at, Propose(command))
    nodes.settle()
    assert nodes.applied[at][-1][1] == command, "acknowledged"


# Growing and replacing.


def test_from_one_to_five_at_once_while_it_writes() -> None:
    nodes = cluster(1)
    for number in range(10):
        write(nodes, b"%d" % number)
    for id_ in (2, 3, 4, 5):
        nodes.join(id_)
    change(nodes, [1], [2, 3, 4, 5])
    change(nodes, [1, 2, 3, 4, 5])
    write(nodes, b"all")
    nodes.tick(count=6)
    assert all(nodes.applied[id_] == nodes.applied[1] for id_ in (2, 3, 4, 5))


def test_every_member_is_replaced_one_by_one() -> None:
    nodes = cluster(1, 2, 3)
    members = [1, 2, 3]
    for old, new in ((1, 4), (2, 5), (3, 6)):
        write(nodes, b"before %d" % new)
        nodes.join(new)
        change(nodes, members, [new])
        members = [new if id_ == old else id_ for id_ in members]
        at = leader_of(nodes)
        nodes.step(at, ChangeMembership(members))
        nodes.settle()
        nodes.tick(count=100)
        del nodes.nodes[old]
        assert nodes.nodes[leader_of(nodes)].membership == Membership(members)
    write(nodes, b"after")
    nodes.tick(count=6)
    commands = [command for _, command in nodes.applied[6]]
    assert commands == [b"before 4", b"before 5", b"before 6", b"after"]


def test_all_of_them_at_once() -> None:
    nodes = cluster(1, 2, 3)
    write(nodes, b"x")
    for id_ in (4, 5, 6):
        nodes.join(id_)
    nodes.step(1, ChangeMembership([4, 5, 6]))
    nodes.settle()
    nodes.tick(count=100)
    assert leader_of(nodes) in (4, 5, 6)
    write(nodes, b"y")
    assert [nodes.nodes[id_].role for id_ in (1, 2, 3)] == [Role.FOLLOWER] * 3


# A crash in the middle.


@pytest.mark.parametrize("rounds", range(10))
@pytest.mark.parametrize("target", [(1, 2), (2, 3), (1, 2, 3, 4), (1, 4, 5), (2, 4, 5)])
def test_a_leader_that_dies_at_any_moment_of_a_change_leaves_a_cluster_that_decides(
    target: tuple[int, ...], rounds: int
) -> None:
    nodes = cluster(1, 2, 3)
    write(nodes, b"x")
    for id_ in (4, 5):
        nodes.join(id_)
    nodes.step(1, ChangeMembership(target))
    for _ in range(rounds):
        batch, nodes.queue = nodes.queue, []
        for to, message in batch:
            nodes.step(to, Receive(message))
    log = nodes.nodes[1].log
    del nodes.nodes[1]
    nodes.settle()
    nodes.tick(count=60)
    nodes.nodes[1] = RaftNode(RaftConfig(1, [2, 3]), log)
    nodes.applied[1] = []
    nodes.tick(count=200)
    membership = nodes.nodes[leader_of(nodes)].membership
    assert membership in (Membership([1, 2, 3]), Membership(target)), "one or the other, never between"
    write(nodes, b"y")


def test_a_removed_leader_that_alone_knows_of_it_does_not_deadlock_the_cluster() -> None:
    """Thesis, section 4.2.2: it may be the only one that can bring about the commit of its removal."""
    nodes = cluster(1, 2)
    write(nodes, b"x")
    nodes.cut = {2}
    nodes.step(1, ChangeMembership([2]))
    log = nodes.nodes[1].log
    nodes.nodes[1] = RaftNode(RaftConfig(1, [2]), log)
    nodes.cut = set()
    nodes.tick(count=300)
    assert leader_of(nodes) == 2
    assert nodes.nodes[2].membership == Membership([2])
    write(nodes, b"y")


# Who votes, and who does not yet know that it may.


def test_a_promoted_learner_that_does_not_know_it_yet_still_votes() -> None:
    learner = RaftNode(RaftConfig.joining(4))
    assert learner.step(Receive(PreVote(6, 2, 9, 5))) == [Send(2, PreVoteReply(6, True, 4))]
    assert learner.step(Receive(RequestVote(6, 2, 9, 5))) == [Send(2, RequestVoteReply(6, True, 4))]
    log = log_of([1])
    log.append([membership_entry(1, 2, Membership([1, 2, 3], [4]))])
    learner = RaftNode(RaftConfig.joining(4), log)
    assert learner.step(Receive(RequestVote(6, 2, 9, 5))) == [Send(2, RequestVoteReply(6, True, 4))]


def test_a_cluster_that_needs_the_vote_of_such_a_learner_elects() -> None:
    old, new = Membership([1, 2], [3]), Membership([1, 2, 3])
    behind = compacted_log(Snapshot(4, 1, old, b""))
    ahead = compacted_log(Snapshot(4, 1, old, b""))
    ahead.append([membership_entry(1, 5, new)])
    nodes = Cluster({1: ahead, 3: behind}, pre_vote=True, check_quorum=True)
    assert not nodes.nodes[3]._state.votes, "2 is down, and 3 does not know that it decides"
    nodes.elect(1)
    nodes.tick(1, 3, count=6)
    assert nodes.nodes[3].membership == new


def test_learners_cannot_keep_a_leader_nor_elect_one() -> None:
    nodes = cluster(1, 2, 3)
    write(nodes, b"x")
    for id_ in (4, 5, 6):
        nodes.join(id_)
    change(nodes, [1, 2, 3], [4, 5, 6])
    nodes.cut = {2, 3}
    nodes.tick(count=200)
    assert not any(node.is_leader for node in nodes.nodes.values())
    assert {nodes.nodes[id_].role for id_ in (4, 5, 6)} == {Role.FOLLOWER}
    assert {nodes.nodes[id_].term for id_ in (4, 5, 6)} == {1}


def test_without_the_old_majority_a_joint_change_waits_and_nobody_is_elected_by_the_new_one() -> None:
    nodes = cluster(1, 2, 3)
    write(nodes, b"x")
    for id_ in (4, 5):
        nodes.join(id_)
    nodes.cut = {2, 3}
    nodes.step(1, ChangeMembership([1, 4, 5]))
    nodes.settle()
    nodes.tick(1, 4, 5, count=10)
    assert nodes.nodes[4].membership.outgoing == {1, 2, 3}
    assert nodes.nodes[1].commit_index == 1
    nodes.tick(count=200)
    assert not any(node.is_leader for node in nodes.nodes.values())
    nodes.cut = set()
    nodes.tick(count=200)
    membership = nodes.nodes[leader_of(nodes)].membership
    assert membership in (Membership([1, 2, 3]), Membership([1, 4, 5]))


def test_a_change_that_only_a_minority_has_seen_is_rolled_back() -> None:
    nodes = cluster(1, 2, 3)
    write(nodes, b"x")
    nodes.cut = {1}
    nodes.nodes[1].step(ChangeMembership([1, 2, 3, 4]))
    assert nodes.nodes[1].membership == Membership([1, 2, 3, 4])
    nodes.tick(2, 3, count=100)
    write_at = next(id_ for id_ in (2, 3) if nodes.nodes[id_].is_leader)
    nodes.step(write_at, Propose(b"y"))
    nodes.settle()
    nodes.cut = set()
    nodes.tick(count=100)
    assert nodes.nodes[1].membership == Membership([1, 2, 3])
    assert nodes.applied[1] == nodes.applied[write_at]


def test_two_leaders_that_change_it_by_one_each_never_have_disjoint_majorities() -> None:
    """Raft-dev, 2015: S1 appends a change and is replaced; S2 changes it otherwise and commits; S1 must not
    be able to commit its own with a majority that S2's does not meet."""
    nodes = cluster(1, 2, 3, 4)
    nodes.join(5)
    write(nodes, b"x")
    nodes.cut = {2, 3, 4}
    nodes.step(1, ChangeMembership([1, 2, 3, 4, 5]))
    nodes.queue.clear()
    log = nodes.nodes[1].log
    nodes.cut = {1, 5}
    nodes.tick(2, 3, 4, count=100)
    second = next(id_ for id_ in (2, 3, 4) if nodes.nodes[id_].is_leader)
    rest = [id_ for id_ in (2, 3, 4) if id_ != second]
    nodes.step(second, ChangeMembership([second, *rest]))
    nodes.settle()
    assert nodes.nodes[second].membership == Membership([2, 3, 4]), "committed without 1"
    assert nodes.nodes[second].commit_index > 1
    nodes.nodes[1] = RaftNode(RaftConfig(1, [2, 3, 4]), log)
    nodes.cut = set(rest) | {second}
    nodes.tick(1, 5, count=300)
    assert not nodes.nodes[1].is_leader, "1 and 5 are no majority of its five"
    nodes.cut = set()
    nodes.tick(count=100)
    assert nodes.nodes[leader_of(nodes)].membership == Membership([2, 3, 4])


# Nodes that come back.


def test_a_node_whose_disk_was_lost_comes_back_as_a_learner_and_then_as_a_voter() -> None:
    nodes = cluster(1, 2, 3)
    for number in range(5):
        write(nodes, b"%d" % number)
    nodes.join(3, MemoryLog())
    change(nodes, [1, 2], [3])
    assert nodes.applied[3] == nodes.applied[1]
    change(nodes, [1, 2, 3])
    write(nodes, b"x")


def test_a_node_that_was_removed_and_added_again_takes_part() -> None:
    nodes = cluster(1, 2, 3)
    write(nodes, b"x")
    change(nodes, [1, 2])
    write(nodes, b"y")
    change(nodes, [1, 2, 3])
    write(nodes, b"z")
    nodes.tick(count=6)
    assert nodes.applied[3] == nodes.applied[1]


def test_a_node_restarts_with_the_membership_in_its_log_not_with_the_configurations() -> None:
    nodes = cluster(1, 2, 3)
    write(nodes, b"x")
    nodes.join(4)
    change(nodes, [1, 2, 3, 4])
    again = RaftNode(RaftConfig(4, [7, 8, 9]), nodes.nodes[4].log)
    assert again.membership == Membership([1, 2, 3, 4])


def test_a_log_that_begins_with_a_membership_needs_no_configuration() -> None:
    log = MemoryLog()
    log.append([membership_entry(1, 1, Membership([1])), LogEntry(1, 2, b"x")])
    log.set_hard_state(HardState(1, 1))
    nodes = Cluster({1: log})
    nodes.nodes[1] = RaftNode(RaftConfig.joining(1), log)
    nodes.elect(1)
    assert nodes.applied[1] == [(2, b"x")]
