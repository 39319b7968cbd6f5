"""The kinds of faults: what each does to the cluster, and what is done about it when its time is over.

A kind is a function of the world and a fault. It returns what undoes it, or `None`. One that cannot happen,
as there is no leader, or as it would not be survivable, does nothing.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from raft_io import Membership, NodeId, TransferLeadership
from raft_io.server.membership import everyone
from raft_io.testing.network import Connection
from raft_io.testing.plan import Fault
from raft_io.testing.process import Process
from raft_io.testing.timeline import stream

if TYPE_CHECKING:
    from raft_io.testing.world import World

__all__ = ["KINDS", "inflict"]

FORGIVEN: Final = 10.0
"""Seconds after a fault of its disk for which a node may still die of it."""

Undo = Callable[[], object] | None
Pairs = list[tuple[NodeId, NodeId]]


def inflict(world: World, fault: Fault) -> None:
    """Let `fault` happen."""
    undo = KINDS[fault.kind](world, fault)
    if undo is not None:
        world.undo_later(fault, undo)


def _node(world: World, who: int) -> Process | None:
    """Whom a fault is about: `0` is the leader."""
    if who:
        return world.processes[1 + (who - 1) % len(world.processes)]
    return world.leader


def _cut(world: World, pairs: Iterable[tuple[NodeId, NodeId]]) -> Undo:
    cut = list(pairs)
    for source, target in cut:
        world.network.cut(source, target)

    def mend() -> None:
        for source, target in cut:
            world.network.mend(source, target)

    return mend


def _both(a: NodeId, b: NodeId) -> Pairs:
    return [(a, b), (b, a)]


# The network.


def partition(world: World, fault: Fault) -> Undo:
    """Two sides; node 1 is on that of bit 1 of `amount`, node 2 on that of bit 2, and so on."""
    mask = int(fault.amount)
    nodes = world.plan.nodes
    return _cut(world, [(a, b) for a in nodes for b in nodes if (mask >> a & 1) != (mask >> b & 1)])


def one_way(world: World, fault: Fault) -> Undo:
    """As `partition`, but one side still hears the other."""
    mask = int(fault.amount)
    nodes = world.plan.nodes
    return _cut(world, [(a, b) for a in nodes for b in nodes if mask >> a & 1 and not mask >> b & 1])


def isolate(world: World, fault: Fault) -> Undo:
    """One node alone."""
    node = _node(world, fault.who)
    if node is None:
        return None
    return _cut(world, [pair for b in world.plan.nodes if b != node.id for pair in _both(node.id, b)])


def deaf(world: World, fault: Fault) -> Undo:
    """One node hears nobody."""
    node = _node(world, fault.who)
    return None if node is None else _cut(world, [(b, node.id) for b in world.plan.nodes if b != node.id])


def mute(world: World, fault: Fault) -> Undo:
    """One node is heard by nobody."""
    node = _node(world, fault.who)
    return None if node is None else _cut(world, [(node.id, b) for b in world.plan.nodes if b != node.id])


def bridge(world: World, fault: Fault) -> Undo:
    """Two sides that only one node connects."""
    node = _node(world, fault.who)
    if node is None:
        return None
    others = [b for b in world.plan.nodes if b != node.id]
    half = len(others) // 2
    return _cut(world, [pair for a in others[:half] for b in others[half:] for pair in _both(a, b)])


def cut_link(world: World, fault: Fault) -> Undo:
    """Two nodes hear each other no more."""
    node, other = _node(world, fault.who), _node(world, fault.whom or 1)
    if node is None or other is None or node is other:
        return None
    return _cut(world, _both(node.id, other.id))


def flap(world: World, fault: Fault) -> Undo:
    """A link goes and comes, again and again."""
    node, other = _node(world, fault.who), _node(world, fault.whom or 1)
    if node is None or other is None or node is other:
        return None
    pairs = _both(node.id, other.id)
    times = 6
    for step in range(times):
        world.timeline.after(fault.lasts * step / times, _flap_once, world, pairs, fault.lasts / times / 2)
    return None


def _flap_once(world: World, pairs: Pairs, lasts: float) -> None:
    if world.healed:
        return
    mend = _cut(world, pairs)
    assert mend is not None
    world.timeline.after(lasts, world.unless_healed(mend))


def _worsen(connections: Iterable[Connection], amount: float, *names: str) -> Undo:
    """Add `amount` to these numbers of connections, and take it away again: what overlaps adds up."""
    worse = list(connections)

    def add(more: float) -> None:
        for connection in worse:
            for name in names:
                setattr(connection, name, getattr(connection, name) + more)

    add(amount)
    return lambda: add(-amount)


def _touching(world: World, node: Process) -> Iterable[Connection]:
    return [connection for pair, connection in world.network.connections.items() if node.id in pair]


def slow_link(world: World, fault: Fault) -> Undo:
    """Everything to and from a node takes `amount` seconds longer."""
    node = _node(world, fault.who)
    if node is None:
        return None
    return _worsen(_touching(world, node), fault.amount, "slow")


def slow_way(world: World, fault: Fault) -> Undo:
    """Everything from one node to another, and only that way, takes `amount` seconds longer."""
    node, other = _node(world, fault.who), _node(world, fault.whom or 1)
    if node is None or other is None or node is other:
        return None
    return _worsen([world.network.connections[node.id, other.id]], fault.amount, "slow")


def echo(world: World, fault: Fault) -> Undo:
    """Some of what a node sends and is sent arrives again, up to `amount` seconds later."""
    node = _node(world, fault.who)
    if node is None:
        return None
    return _worsen(_touching(world, node), fault.amount, "echo")


def lossy(world: World, fault: Fault) -> Undo:
    """A share of all frames is lost, doubled, and overtaken."""
    return _worsen(world.network.connections.values(), fault.amount, "lost", "doubled", "late")


def reconnect(world: World, fault: Fault) -> Undo:
    """A connection breaks and is made anew."""
    node, other = _node(world, fault.who), _node(world, fault.whom or 1)
    if node is not None and other is not None and node is not other:
        world.network.reconnect(node.id, other.id)
    return None


# Processes.


def _hold_down(world: World, fault: Fault, process: Process) -> Undo:
    """It comes back when its operator sees it, or, where somebody watches over it, at once."""
    process.held_down += 1
    watched = stream(world.plan.seed, "watched", fault.at).random() < 0.5

    def undo() -> None:
        process.held_down -= 1
        if watched and not process.up:
            world.operator.revive(process)

    return undo


def crash(world: World, fault: Fault) -> Undo:
    """The power of a node fails."""
    node = _node(world, fault.who)
    if node is None or not node.up:
        return None
    node.stop(power=True)
    return _hold_down(world, fault, node)


def kill(world: World, fault: Fault) -> Undo:
    """The process of a node is killed."""
    node = _node(world, fault.who)
    if node is None or not node.up:
        return None
    node.stop(power=False)
    return _hold_down(world, fault, node)


def crash_between(world: World, fault: Fault) -> Undo:
    """The power of a node fails between two writes to its disk, `amount` writes from now."""
    node = _node(world, fault.who)
    if node is not None and node.up:
        node.disk.lose_power_after(int(fault.amount))
    return None


def kill_between(world: World, fault: Fault) -> Undo:
    """The process of a node is killed between two writes to its disk, and soon after its restart the power
    fails: `amount` is 8 times the writes before the first, and those before the second."""
    node = _node(world, fault.who)
    if node is not None and node.up:
        first, then = divmod(int(fault.amount), 8)
        node.disk.kill_after(first, then)
    return None


def crash_all(world: World, fault: Fault) -> Undo:
    """The power fails everywhere."""
    for node in world.processes.values():
        node.stop(power=True)
    return None


def rolling(world: World, fault: Fault) -> Undo:
    """Every node is restarted, one after the other."""
    for place, node in enumerate(world.processes.values()):
        world.timeline.after(fault.lasts * place / len(world.processes), _restart_once, world, node)
    return None


def _restart_once(world: World, node: Process) -> None:
    if not world.healed:
        node.stop(power=False)


def reconfigure(world: World, fault: Fault) -> Undo:
    """Every node is restarted, one after the other, with pre-votes (`amount` 1) or without."""
    world.options["pre_vote"] = fault.amount > 0
    return rolling(world, fault)


def pause(world: World, fault: Fault) -> Undo:
    """A process stands still for a while; its clock does not."""
    node = _node(world, fault.who)
    if node is None or not node.up or node.paused:
        return None
    node.pause(paused=True)
    life = node.life

    def undo() -> None:
        if node.life == life:
            node.pause(paused=False)

    return undo


def wipe(world: World, fault: Fault) -> Undo:
    """The disk of a node is lost. It comes back as one that joins."""
    node = _node(world, fault.who)
    if node is None or not node.up or not world.may_lose(node):
        return None
    node.stop(power=True)
    node.wipe()
    world.operator.wanted.add(node.id)
    return _hold_down(world, fault, node)


# Clocks.


def drift(world: World, fault: Fault) -> Undo:
    """A node's clock runs at `amount` times the usual rate."""
    node = _node(world, fault.who)
    if node is None:
        return None
    clock = node.clock
    clock.change(world.now, clock.rate * fault.amount)
    return lambda: clock.change(world.now, clock.rate / fault.amount)


def wall_jump(world: World, fault: Fault) -> Undo:
    """A node's clock on the wall jumps by `amount` seconds."""
    node = _node(world, fault.who)
    if node is not None:
        node.skew += fault.amount
    return None


# Disks.


def _fails(world: World, fault: Fault, number: int) -> Undo:
    node = _node(world, fault.who)
    if node is None or not node.up:
        return None
    node.disk.fails = number
    node.dying = True
    life = node.life

    def forget() -> None:
        if node.life == life and not node.disk.fails:
            node.dying = False

    def undo() -> None:
        node.disk.fails = 0
        # What failed meanwhile may have yet to come to light.
        world.timeline.after(FORGIVEN, forget)

    return undo


def io_error(world: World, fault: Fault) -> Undo:
    """The disk of a node fails."""
    return _fails(world, fault, errno.EIO)


def full_disk(world: World, fault: Fault) -> Undo:
    """The disk of a node is full."""
    return _fails(world, fault, errno.ENOSPC)


def slow_disk(world: World, fault: Fault) -> Undo:
    """Every sync of a node takes `amount` seconds longer."""
    node = _node(world, fault.who)
    if node is None:
        return None
    node.disk.delay += fault.amount

    def undo() -> None:
        node.disk.delay = max(0.0, node.disk.delay - fault.amount)

    return undo


def hung_disk(world: World, fault: Fault) -> Undo:
    """A sync of a node does not return; the node is killed in the end."""
    node = _node(world, fault.who)
    if node is None or not node.up:
        return None
    node.disk.delay = math.inf

    def undo() -> None:
        node.disk.delay = 0.0
        node.stop(power=False)

    return undo


def rot(world: World, fault: Fault) -> Undo:
    """A bit turns in an old record or a snapshot of a node that is down for a moment."""
    node = _node(world, fault.who)
    if node is None or not node.up or not world.may_lose(node):
        return None
    node.stop(power=False)
    rng = stream(world.plan.seed, "rot", fault.at)
    places = node.disk.old_places("/data/log")
    if places:
        node.may_be_broken = True
        path, offset, size = rng.choice(places)
        node.disk.rot(path, offset + rng.randrange(size))
        world.note(node.id, f"a bit of {path} has turned")
    return _hold_down(world, fault, node)


# Operations.


def change(world: World, fault: Fault) -> Undo:
    """Another membership of those that have joined; `amount` is the seed of which."""
    leader = world.leader
    if leader is None:
        return None
    rng = stream(world.plan.seed, "change", fault.at, fault.amount)
    now = leader.driver.node.membership
    ids = sorted(everyone(now))
    voters, learners = set(now.voters), set(now.learners)
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(ids)
        kind: set[NodeId] = rng.choice((voters, voters, learners, set()))
        voters.discard(node)
        learners.discard(node)
        kind.add(node)
    if voters:
        world.operator.voters = len(voters)
        world.operator.change(leader, Membership(voters, learners))
    return None


def remove(world: World, fault: Fault) -> Undo:
    """A member is taken out."""
    leader, node = world.leader, _node(world, fault.who)
    if leader is not None and node is not None:
        now = leader.driver.node.membership
        world.operator.change(leader, Membership(now.voters - {node.id}, now.learners - {node.id}))
    return None


def join(world: World, fault: Fault) -> Undo:
    """A spare node wants to join, one that was removed too."""
    node = _node(world, fault.who or 1)
    leader = world.leader
    if node is None or leader is None or node.id in everyone(leader.driver.node.membership):
        return None
    if not world.may_lose(node):
        # It may be a member yet, by a removal that is taken back.
        return None
    if node.up and not node.members.is_joining:
        node.stop(power=False)
    if not node.up:
        node.wipe()
        world.operator.wanted.add(node.id)
        world.operator.voters = min(len(leader.driver.node.membership.voters) + 1, 5)
    return None


def transfer(world: World, fault: Fault) -> Undo:
    """Leadership is handed over to a voter, or to anybody that `whom` says."""
    leader, target = world.leader, _node(world, fault.whom or 1)
    if leader is not None and target is not None:
        world.operator.ask(leader, TransferLeadership(target.id))
    return None


def rush(world: World, fault: Fault) -> Undo:
    """Clients are in a hurry."""
    clients = world.clients
    clients.hurry += 1

    def undo() -> None:
        clients.hurry -= 1

    return undo


def snapshot(world: World, fault: Fault) -> Undo:
    """A node is asked for a snapshot."""
    node = _node(world, fault.who)
    if node is not None and node.up:
        node.driver.request_snapshot()
        node.schedule()
    return None


KINDS: Final[dict[str, Callable[[World, Fault], Undo]]] = {
    kind.__name__.replace("_", "-"): kind
    for kind in (
        *(partition, one_way, isolate, deaf, mute, bridge, cut_link, flap, reconnect),
        *(slow_link, slow_way, echo, lossy),
        *(crash, kill, crash_between, kill_between, crash_all, rolling, reconfigure, pause, wipe),
        *(drift, wall_jump),
        *(io_error, full_disk, slow_disk, hung_disk, rot),
        *(change, remove, join, transfer, rush, snapshot),
    )
}
"""All kinds, by name."""
