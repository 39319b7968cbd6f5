"""What a cluster must do once nothing goes wrong any more: elect, commit, serve, agree, and keep calm."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.sim import requests
from tests.sim.cluster import Cluster
from tests.sim.member import Member
from tests.sim.quorums import members_of

from raft_io import ChangeMembership, Membership, NodeId, RaftConfig, Receive

CALM = {"election_timeout": (10, 20), "heartbeat_interval": 3}
"""Timing under which a healed cluster must make progress."""

PATIENCE = 200
"""Ticks within which a healed cluster elects and commits: ten times the longest election timeout."""

QUIET = 25
"""Ticks through which nothing may happen, where all is well; now and then it is `LONG_QUIET`."""

LONG_QUIET = 400

ANEW = b"anew"
"""The command that a healed cluster must commit."""


def heal(cluster: Cluster) -> None:
    """The network and the disks work again, everybody is up, with timing that can work."""
    cluster.cuts.clear()
    cluster.in_flight.clear()
    cluster.delayed.clear()
    for member in cluster.members:
        member.log.damage = 0
        _restart(cluster, member)
    leader = _progress(cluster, ANEW)
    _reads(cluster, leader)
    rng = random.Random(cluster.setup.seed)
    _keeps_calm(cluster, QUIET if rng.random() < 0.95 else LONG_QUIET)
    rng.choice(DEEDS)(cluster, rng)
    for member in cluster.members:
        assert member.machine == cluster.checker.history.commands(member.applied)


def _restart(cluster: Cluster, member: Member) -> None:
    config = member.config
    if is_frantic(config):
        config = config.replace(**CALM)
    if cluster.setup.mixed:
        config = config.replace(pre_vote=True, check_quorum=True)
    if member.up and (member.log.broken or config != member.config):
        member.crash()
    member.config = config
    if not member.up:
        member.start(member.applied)


def is_frantic(config: RaftConfig) -> bool:
    """Whether elections need not succeed under this timing, or not last."""
    low, high = config.election_timeout
    drift = config.lease_margin if config.lease_reads else 0
    return low == high or config.heartbeat_interval + drift >= low


def _stop_disturbers(cluster: Cluster) -> None:
    """Without pre-vote and check-quorum nothing keeps who was removed from disturbing: it is stopped, once
    its removal is committed."""
    if any(member.config.pre_vote or member.config.check_quorum for member in cluster.members):
        return
    leader = leader_of(cluster)
    if leader is None or leader.node is None:
        return
    change = leader.log.now.change()
    committed = leader.node.commit_index
    if change is not None and change.index > committed:
        return
    membership = leader.membership
    own = cluster.checker.history.agrees(committed, leader.node.term)
    if membership.outgoing or not (own or committed == leader.log.last_index()):
        return
    for member in cluster.members:
        if member.up and member.id not in members_of(membership):
            member.crash()


def _pass(cluster: Cluster) -> None:
    """One tick for everybody, and all that follows from it."""
    cluster.pass_time(1)
    for member in cluster.members:
        while member.captures:
            member.answer(*member.captures.pop())
    cluster.flow(100 * (cluster.checker.history.known + 50) * len(cluster.members), syncing=True)
    assert not cluster.in_flight, "the messages never stop"
    _stop_disturbers(cluster)


def _until(cluster: Cluster, done: Callable[[], bool], what: str, patience: int = PATIENCE) -> None:
    for _ in range(patience):
        _pass(cluster)
        if done():
            return
    story = [member.node and member.node.status for member in cluster.members]
    raise AssertionError(f"not within {patience} ticks: {what}: {story}")


def leader_of(cluster: Cluster) -> Member | None:
    """The leader of the latest term."""
    leaders = [m for m in cluster.members if m.node is not None and m.node.is_leader]
    return max(leaders, key=lambda member: member.node.term if member.node else 0, default=None)


def _progress(cluster: Cluster, command: bytes) -> Member:
    """A leader is elected, `command` is committed, and everybody who takes part has everything."""

    def done() -> bool:
        leader = leader_of(cluster)
        if leader is None:
            return False
        if any(entry.command == command for entry in cluster.checker.history.committed):
            return agreed(cluster, leader)
        node = leader.node
        assert node is not None
        if node.status.transfer_target is None and not any(e.command == command for e in leader.log.held):
            cluster.propose(leader, command)
        return False

    _until(cluster, done, "agreement")
    leader = leader_of(cluster)
    assert leader is not None
    return leader


def agreed(cluster: Cluster, leader: Member) -> bool:
    """Whether all who take part have applied all of one log, and made it durable."""
    membership = leader.membership
    last = leader.log.last_index()
    if membership.outgoing or last != cluster.checker.history.known:
        return False
    present = [cluster.checker.members.get(who) for who in members_of(membership)]
    return all(
        member is not None
        and member.node is not None
        and member.node.last_applied == last == member.log.disk.last_index()
        and not member.log.unsynced
        and member.membership == membership
        and member.machine == leader.machine
        for member in present
        if member is not None
    )


def _reads(cluster: Cluster, leader: Member) -> None:
    """Everybody who takes part is served."""
    reads = cluster.checker.reads
    before = reads.ready_count
    readers = [cluster.checker.members[who] for who in members_of(leader.membership)]
    for member in readers:
        assert requests.read(cluster.checker, member) is not None, f"node {member.id} knows no leader"

    def done() -> bool:
        return not any(reads.open.get(member.id) for member in readers)

    _until(cluster, done, "reads", 25)
    assert reads.ready_count >= before + len(readers), "reads failed, though all is well"


def _keeps_calm(cluster: Cluster, ticks: int, without: NodeId = -1) -> None:
    """Nobody who is well stands for election, whatever those do who were removed, or cut off (`without`)."""
    leader = leader_of(cluster)
    assert leader is not None and leader.node is not None
    term = leader.node.term
    members = [cluster.checker.members[who] for who in members_of(leader.membership) if who != without]
    for _ in range(ticks):
        _pass(cluster)
        for member in members:
            assert member.node is not None
            shown = (member.node.leader, member.node.term)
            assert shown == (leader.id, term), f"node {member.id} leaves {leader.id} of {term} for {shown}"
    for member in members:
        overdue = cluster.checker.reads.overdue(member, 25)
        assert not overdue, f"node {member.id} never answered {overdue}"


# What is asked of a cluster that is well.


def _hands_over(cluster: Cluster, rng: random.Random) -> None:
    """A transfer is done within an election timeout, and commands are taken again. Without pre-vote one who
    was removed, and who is ahead in terms, may come between."""
    leader = leader_of(cluster)
    assert leader is not None
    targets = sorted(leader.membership.voters - {leader.id})
    if not targets:
        return
    target = rng.choice(targets)
    assert requests.transfer(leader, target)

    def done() -> bool:
        now = leader_of(cluster)
        return now is not None and now.id == target

    if leader.config.pre_vote:
        _until(cluster, done, f"{target} takes over from {leader.id}", leader.config.election_timeout[1])
    _progress(cluster, b"handed over")


def _gives_up(cluster: Cluster, rng: random.Random) -> None:
    """A target that does not get the order is given up; the order does no harm when it comes after all."""
    leader = leader_of(cluster)
    assert leader is not None and leader.node is not None
    targets = sorted(leader.membership.voters - {leader.id})
    if not targets:
        return
    target = rng.choice(targets)
    sent = len(cluster.orders)
    cluster.withholds_orders = True
    assert requests.transfer(leader, target)
    node = leader.node
    patience = leader.config.election_timeout[1] + leader.config.lease_margin
    _until(cluster, lambda: node.status.transfer_target is None, f"giving up {target}", patience)
    cluster.withholds_orders = False
    for _ in range(leader.config.heartbeat_interval):
        _pass(cluster)
    for packet in cluster.orders[sent:]:
        member = cluster.checker.members[packet.to]
        member.take(Receive(packet.message))
    _keeps_calm(cluster, QUIET)


def _changes_members(cluster: Cluster, rng: random.Random) -> None:
    """A change goes through, also one that brings back who was removed, or removes the leader."""
    leader = leader_of(cluster)
    assert leader is not None
    running = [member.id for member in cluster.members if member.up]
    voters = set(rng.sample(running, rng.randint(1, min(5, len(running)))))
    learners: set[NodeId] = {who for who in running if rng.random() < 0.3} - voters
    assert requests.change(leader, ChangeMembership(voters, learners))

    def done() -> bool:
        now = leader_of(cluster)
        if now is None or not agreed(cluster, now):
            return False
        return now.membership == Membership(voters, learners)

    _until(cluster, done, f"a change to {sorted(voters)} and {sorted(learners)}")
    _progress(cluster, b"changed")
    _keeps_calm(cluster, QUIET)


def _is_cut_off(cluster: Cluster, rng: random.Random) -> None:
    """One that hears nobody, or is not heard either, disturbs nobody: not then, and not when it is back."""
    leader = leader_of(cluster)
    assert leader is not None
    others = sorted(leader.membership.voters - {leader.id})
    config = leader.config
    if len(others) < 2 or not config.pre_vote:
        return
    deaf = rng.choice(others)
    silent = rng.random() < 0.5
    for member in cluster.members:
        cluster.cuts.add((member.id, deaf))
        if silent:
            cluster.cuts.add((deaf, member.id))
    _keeps_calm(cluster, 2 * config.election_timeout[1] + QUIET, without=deaf)
    cluster.cuts.clear()
    _pass(cluster)
    _pass(cluster)
    _progress(cluster, b"undisturbed")
    _keeps_calm(cluster, QUIET)
    assert leader_of(cluster) is leader, "the leader was disturbed"


def _compacts(cluster: Cluster, rng: random.Random) -> None:
    """The leader compacts; everybody still has everything after the next command, and after a restart."""
    leader = leader_of(cluster)
    assert leader is not None
    requests.take_snapshot(leader, 1)
    members = [cluster.checker.members[who] for who in sorted(members_of(leader.membership))]
    member = rng.choice(members)
    member.crash()
    member.start(0)
    _progress(cluster, b"compacted")


DEEDS: tuple[Callable[[Cluster, random.Random], None], ...] = (
    _hands_over,
    _gives_up,
    _changes_members,
    _is_cut_off,
    _compacts,
)
