"""A cluster of drivers in one thread: virtual time, a network that loses, disks that sync late and crash.

Everything that happens is drawn from one seed. `Cluster.run` plays a schedule of trouble while callers work,
`Cluster.settle` heals it and lets it finish; `tests.server.callers` judges what the callers were told.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable

from tests.server.replica import TICK, Machine, Node, Trouble

from raft_io import ChangeMembership, Membership, NodeId, TransferLeadership
from raft_io.core.events import Event
from raft_io.server.requests import Request

__all__ = ["TICK", "Cluster", "Machine", "Node", "Trouble"]


class Cluster:
    """The nodes, the network between them and the time."""

    def __init__(self, size: int, seed: int, trouble: Trouble) -> None:
        self.rng = random.Random(seed)
        self.trouble = trouble
        self.now = 1000.0
        self.first = list(range(1, size + 1))
        """The members that the cluster began with."""
        self.ids = list(range(1, size + trouble.spare + 1))
        self.calm = False
        self.told: dict[str, int] = {}
        """What became of the operator's wishes."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._links: dict[tuple[NodeId, NodeId], int] = {}
        self._last: dict[tuple[NodeId, NodeId], float] = {}
        self._cut: set[tuple[NodeId, NodeId]] = set()
        self.on_lost: list[Callable[[Node], None]] = []
        self.nodes = {node: Node(self, node) for node in self.ids}
        for node in self.nodes.values():
            node.start()

    # Time.

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end

    def trace(self, *what: object) -> None:
        self._digest.update(repr((round(self.now, 9), what)).encode())

    @property
    def digest(self) -> str:
        """Stands for everything that has happened."""
        return self._digest.hexdigest()

    # The network: connections that keep order, and end.

    def send(self, source: NodeId, target: NodeId, data: bytes) -> None:
        link = (source, target)
        if link in self._cut or (not self.calm and self.rng.random() < self.trouble.frame_loss):
            return
        epoch = self._links.setdefault(link, 0)
        when = max(self._last.get(link, 0.0), self.now + self.rng.uniform(0.0002, self.trouble.latency))
        self._last[link] = when
        self.trace("send", link, hashlib.blake2b(data, digest_size=8).hexdigest())
        life = self.nodes[target].life
        self.at(when, lambda: self._deliver(link, epoch, life, data))

    def _deliver(self, link: tuple[NodeId, NodeId], epoch: int, life: int, data: bytes) -> None:
        source, target = link
        node = self.nodes[target]
        if not node.up or node.life != life:
            return
        if self._links[link] != epoch:
            fate = self.rng.random()
            if fate < 0.3:
                return
            if fate < 0.9:
                # What an old connection still held may be read long after the new one was made.
                self.after(self.rng.uniform(0, 4), lambda: self._deliver(link, epoch, life, data))
                return
        node.inbox.append((source, data))
        node.schedule()

    def reconnect(self, source: NodeId, target: NodeId) -> None:
        """The connection breaks, with what was under way, and is made anew."""
        link = (source, target)
        self._links[link] = self._links.get(link, 0) + 1
        self._cut.discard(link)
        self._last.pop(link, None)
        node = self.nodes[source]
        if node.up and self.nodes[target].up:
            node.driver.link_restored(target)
            node.schedule()

    def break_link(self, source: NodeId, target: NodeId) -> None:
        link = (source, target)
        self._links[link] = self._links.get(link, 0) + 1
        self._cut.add(link)

    def _heal(self) -> None:
        for source, target in sorted(self._cut):
            self.reconnect(source, target)

    def node_lost(self, node: Node) -> None:
        for other in self.ids:
            if other != node.id:
                self._links[node.id, other] = self._links.get((node.id, other), 0) + 1
                self._links[other, node.id] = self._links.get((other, node.id), 0) + 1
        for callback in self.on_lost:
            callback(node)

    def restart(self, node: Node) -> None:
        if node.up:
            return
        node.start()
        for other in self.ids:
            if other != node.id:
                self.reconnect(node.id, other)
                self.reconnect(other, node.id)

    # Trouble.

    def run(self, seconds: float) -> None:
        """Play trouble for a while."""
        for _ in range(int(seconds / 0.01)):
            self._trouble()
            self.advance(0.01)

    def _trouble(self) -> None:
        rng = self.rng
        trouble = self.trouble
        node = self.nodes[rng.choice(self.ids)]
        down = [other for other in self.nodes.values() if not other.up]
        if down and rng.random() < 0.02:
            self.restart(rng.choice(down))
        if node.up and rng.random() < trouble.crash:
            node.stop(power=True)
        elif node.up and rng.random() < trouble.kill:
            node.stop(power=False)
        if rng.random() < trouble.partition:
            self._partition()
        elif self._cut and rng.random() < 0.03:
            self._heal()
        if len(self.ids) > 1 and rng.random() < trouble.reconnect:
            source, target = rng.sample(self.ids, 2)
            self.reconnect(source, target)
        if rng.random() < trouble.pause:
            node.paused_until = self.now + rng.uniform(0.05, 2.0)
        if node.up and rng.random() < trouble.disk_fault:
            node.faulty = True
        self._operate()

    def _partition(self) -> None:
        side = {node for node in self.ids if self.rng.random() < 0.5}
        one_way = self.rng.random() < 0.3
        for a in self.ids:
            for b in self.ids:
                if (a in side) and (b not in side):
                    self.break_link(a, b)
                    if not one_way:
                        self.break_link(b, a)

    # An operator, who asks whoever leads.

    def _operate(self) -> None:
        rng = self.rng
        trouble = self.trouble
        node = self.nodes[rng.choice(self.ids)]
        if node.up and rng.random() < trouble.snapshot:
            node.driver.request_snapshot()
            node.schedule()
        leader = self.leader
        if leader is None:
            return
        members = leader.driver.node.membership
        if rng.random() < trouble.transfer:
            self.operate(leader, TransferLeadership(rng.choice(sorted(members.voters))))
        if rng.random() < trouble.change:
            self.operate(leader, self._change(members))

    def _change(self, members: Membership) -> ChangeMembership:
        """Any other membership: one node more or less, a learner, or entirely different ones."""
        voters, learners = set(members.voters), set(members.learners)
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            node = self.rng.choice(self.ids)
            kind = self.rng.choice((voters, voters, learners, set[int]()))
            voters.discard(node)
            learners.discard(node)
            kind.add(node)
        return ChangeMembership(voters or members.voters, learners - (voters or members.voters))

    def operate(self, node: Node, event: Event) -> None:
        """Have `node` carry out an operator's event."""

        def done(error: Exception | None) -> None:
            name = type(event).__name__ if error is None else type(error).__name__
            self.told[name] = self.told.get(name, 0) + 1
            self.trace("operated", node.id, repr(event), name)

        node.driver.operate(event, done)
        node.schedule()

    def settle(self, seconds: float = 20.0) -> None:
        """No more trouble: everything is repaired and given time."""
        self.calm = True
        self.trouble.slow_disk = 0.0
        for node in self.nodes.values():
            node.paused_until = 0.0
            if node.up and node.faulty:
                node.stop(power=True)
        for node in self.nodes.values():
            self.restart(node)
        self._heal()
        self.advance(seconds)
        assert all(node.up for node in self.nodes.values())

    # What tests ask.

    @property
    def members(self) -> list[Node]:
        """Who takes part, as the leader knows it; whoever may, without one."""
        leader = self.leader
        if leader is None:
            return list(self.nodes.values())
        members = leader.driver.node.membership
        return [self.nodes[node] for node in sorted(members.voters | members.learners | members.outgoing)]

    def reported(self, what: str) -> int:
        """How often any node has reported something of this kind."""
        return sum([what in report for node in self.nodes.values() for report in node.reports])

    @property
    def leader(self) -> Node | None:
        """The leader of the highest term."""
        leading = [node for node in self.nodes.values() if node.up and node.driver.node.is_leader]
        return max(leading, key=lambda node: node.driver.node.term, default=None)

    def submit(self, node: Node, request: Request) -> None:
        """A caller asks `node`. Raises what the driver raises."""
        assert node.up
        node.driver.request(request)
        node.schedule()
