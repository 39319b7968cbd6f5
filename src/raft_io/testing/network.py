"""The network between the nodes: connections that keep order, until they are made to do their worst."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final, final

from raft_io import NodeId
from raft_io.server import frames
from raft_io.testing.plan import Network as Conditions
from raft_io.testing.timeline import Timeline

__all__ = ["Connection", "Network"]

STALE: Final = 2.0
"""Seconds, at most, for which what a broken connection still held may be read."""

KIND: Final = 4
"""Where a frame says what it is."""

REPEATED: Final = frozenset({frames.MESSAGE, frames.MEMBERS})
"""What may arrive twice. Raft minds no message that does; a request that is passed on, and its refusal, go by
the order of a connection, on which nothing comes twice."""

ECHOED: Final = 0.3
"""Share of the frames that arrive a second time, on a connection that echoes."""

Batch = list[bytes]


@final
class Connection:
    """From one node to another. Faults add to its numbers and take away again what they added."""

    __slots__ = ("cuts", "doubled", "echo", "epoch", "last", "late", "life", "lost", "slow")

    def __init__(self, conditions: Conditions) -> None:
        self.cuts = 0
        """Faults that cut it now."""
        self.slow = 0.0
        self.lost = conditions.lost
        self.doubled = conditions.doubled
        self.late = conditions.late
        self.echo = 0.0
        """Seconds, at most, after which some frames arrive a second time; `0`: none does."""
        self.epoch = 0
        """Counts the connections that were made, one after the other."""
        self.life = 0
        """Counts the disks that its ends have had, one after the other."""
        self.last = 0.0
        """When the last frame arrives."""


@final
class Network:
    """All connections. `deliver(source, target, frames)` is called where frames arrive, and `restored(source,
    target)` when a connection was made anew; `saw(source, target, frame, arrival)` is told of everything
    sent: an arrival of `None` is a loss."""

    def __init__(
        self,
        timeline: Timeline,
        rng: random.Random,
        conditions: Conditions,
        nodes: Iterable[NodeId],
        deliver: Callable[[NodeId, NodeId, Batch], None],
        restored: Callable[[NodeId, NodeId], None],
    ) -> None:
        self._timeline = timeline
        self._rng = rng
        self._conditions = conditions
        self._deliver = deliver
        self._restored = restored
        nodes = list(nodes)
        self.connections = {(a, b): Connection(conditions) for a in nodes for b in nodes if a != b}
        self.saw: Callable[[NodeId, NodeId, bytes, float | None], None] | None = None
        self.delivered = 0
        """Frames that have arrived."""
        self.under_way = 0
        """Frames that have not."""

    def send(self, source: NodeId, target: NodeId, batch: Batch) -> None:
        """Frames leave, in order."""
        connection = self.connections[source, target]
        random = self._rng.random
        for frame in batch:
            if connection.cuts or (connection.lost and random() < connection.lost):
                if self.saw is not None:
                    self.saw(source, target, frame, None)
                continue
            self._send(source, target, connection, frame)
            if frame[KIND] not in REPEATED:
                continue
            if connection.doubled and random() < connection.doubled:
                self._send(source, target, connection, frame)
            if connection.echo and random() < ECHOED:
                self._echo(source, target, connection, frame)

    def _send(self, source: NodeId, target: NodeId, connection: Connection, frame: bytes) -> None:
        conditions = self._conditions
        now = self._timeline.now
        delay = conditions.fastest + (conditions.slowest - conditions.fastest) * self._rng.random()
        when = now + delay + connection.slow
        if connection.late and self._rng.random() < connection.late:
            when += 20 * delay
        else:
            when = connection.last = max(when, connection.last)
        if self.saw is not None:
            self.saw(source, target, frame, when)
        self.under_way += 1
        self._timeline.at(when, self._arrive, source, target, connection.epoch, connection.life, frame)

    def _echo(self, source: NodeId, target: NodeId, connection: Connection, frame: bytes) -> None:
        when = self._timeline.now + connection.echo * self._rng.random()
        if self.saw is not None:
            self.saw(source, target, frame, when)
        self.under_way += 1
        self._timeline.at(when, self._arrive, source, target, connection.epoch, connection.life, frame)

    def _arrive(self, source: NodeId, target: NodeId, epoch: int, life: int, frame: bytes) -> None:
        connection = self.connections[source, target]
        if connection.life != life:
            # A node that comes with another disk introduces itself anew, on connections of its own.
            self.under_way -= 1
            return
        if connection.epoch != epoch:
            fate = self._rng.random()
            if fate < 0.5:
                self.under_way -= 1
                return
            if fate < 0.8:
                later = self._timeline.now + STALE * self._rng.random()
                self._timeline.at(later, self._arrive, source, target, epoch, life, frame)
                return
        self.under_way -= 1
        self.delivered += 1
        self._deliver(source, target, [frame])

    def cut(self, source: NodeId, target: NodeId) -> None:
        """Nothing gets through any more. What is under way may, or may not."""
        connection = self.connections[source, target]
        connection.cuts += 1
        connection.epoch += 1

    def joins(self, one: NodeId, other: NodeId) -> bool:
        """Whether two nodes hear each other."""
        return not (self.connections[one, other].cuts or self.connections[other, one].cuts)

    def mend(self, source: NodeId, target: NodeId) -> None:
        """One cut less; without any the connection is made anew."""
        connection = self.connections[source, target]
        connection.cuts -= 1
        assert connection.cuts >= 0, "mended what was not cut"
        if not connection.cuts:
            self.reconnect(source, target)

    def reconnect(self, source: NodeId, target: NodeId) -> None:
        """The connection breaks and is made anew, unless it is cut."""
        connection = self.connections[source, target]
        connection.epoch += 1
        connection.last = 0.0
        if not connection.cuts:
            self._restored(source, target)

    def lost_node(self, node: NodeId) -> None:
        """A node is gone, and its connections with it."""
        for (source, target), connection in self.connections.items():
            if node in (source, target):
                connection.epoch += 1
                connection.last = 0.0

    def replaced_disk(self, node: NodeId) -> None:
        """A node is another one now: nothing that it sent, or was sent, before arrives any more."""
        for pair, connection in self.connections.items():
            if node in pair:
                connection.life += 1

    def heal(self) -> None:
        """No cut, no loss, no delay: every connection is made anew."""
        for (source, target), connection in self.connections.items():
            connection.cuts = 0
            connection.slow = connection.lost = connection.doubled = connection.late = 0.0
            connection.echo = 0.0
            self.reconnect(source, target)
