"""The operator of the cluster: starts what has died, replaces what is broken, lets in who wants to join."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from raft_io import ChangeMembership, Membership, NodeId
from raft_io.core.events import Event
from raft_io.server.envelope import Member
from raft_io.server.membership import everyone
from raft_io.server.requests import Request
from raft_io.testing.process import Process
from raft_io.testing.quorums import is_quorum
from raft_io.testing.timeline import stream

if TYPE_CHECKING:
    from raft_io.testing.world import World

__all__ = ["Operator"]

ROUND: Final = 0.25
"""Seconds between two looks."""

CLOSE: Final = 20
"""Entries by which a learner may be behind when it becomes a voter."""


@final
class _Nobody:
    """Waits for what the operator does not wait for: it looks again."""

    def succeeded(self, value: Any) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass


@final
class Operator:
    """Looks at the cluster every now and then, and takes the next step. `voters`: how many there should
    be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.voters = world.plan.voters
        self.wanted: set[NodeId] = set()
        """Spares that are to join."""
        self._seated: set[tuple[NodeId, int]] = set()
        """Who has been a member, and in which life of its disk: who was removed since does not come back."""
        self.told: dict[str, int] = {}
        """What became of what was asked for, by name."""
        self._asked = (0, 0, 0)
        """Whom a change was asked of last: the leader, which life of it, and its term."""
        self._wanted: list[Membership] = []
        """All that it was asked for."""
        self.hasty = False
        """After the faults: who is down is started at once."""
        self._rng = stream(world.plan.seed, "operator")
        world.timeline.after(ROUND, self._look)

    def _look(self) -> None:
        self.world.timeline.after(ROUND, self._look)
        for process in self.world.processes.values():
            if not process.up and (self.hasty or self._rng.random() < 0.3):
                self.revive(process)
        leader = self.world.leader
        if leader is not None and not leader.paused:
            self._step(leader)

    def revive(self, process: Process) -> None:
        """Start a node, on a new disk if the one that it has is broken and others can do without it. Spares
        that nobody wants stay down."""
        if process.held_down or (process.joins and process.fresh and process.id not in self.wanted):
            return
        if process.broken:
            if not self.world.may_lose(process):
                return
            process.wipe()
            self.wanted.add(process.id)
        process.start()

    def _step(self, leader: Process) -> None:
        """One step towards the membership that is wanted: who joins is let in, as the server does it."""
        node = leader.driver.node
        now = node.membership
        if not leader.is_settled:
            return
        for process in self.world.running:
            who, joins = (process.id, process.incarnation), process.members.is_joining
            if process.id in everyone(now):
                if not joins:
                    self._seated.add(who)
            elif who not in self._seated:
                # Its address may have come into the log, and what makes it a member been lost with a leader.
                joins = True
            if joins and process.id in self.wanted and self._admit(leader, now, process):
                return
        if len(now.voters) < self.voters:
            for learner in sorted(now.learners):
                if self._is_level(leader, learner):
                    self.change(leader, Membership(now.voters | {learner}, now.learners - {learner}))
                    return

    def _admit(self, leader: Process, now: Membership, process: Process) -> bool:
        """The next step for a node that wants to join; whether there was one."""
        who, row = process.id, leader.members.row(process.id)
        known = 0 if row is None else row[1]
        if who in everyone(now) and known != process.incarnation:
            # Whoever comes without its data must not count as the one that has voted and acknowledged.
            if now.voters == {who}:
                return False
            self.change(leader, Membership(now.voters - {who}, now.learners - {who}))
        elif row != (process.address, process.incarnation):
            member = (who, Member(process.address, process.incarnation))
            deadline = leader.clock.read(self.world.now) + 2.0
            leader.driver.request(Request(_Nobody(), deadline, None, member=member))
            leader.schedule()
        elif who not in everyone(now):
            self.change(leader, Membership(now.voters, now.learners | {who}))
        else:
            return False
        return True

    def _is_level(self, leader: Process, learner: NodeId) -> bool:
        status = leader.driver.node.status
        return any(
            follower.id == learner and 0 < follower.match_index >= status.last_index - CLOSE
            for follower in status.followers
        )

    def change(self, leader: Process, wanted: Membership) -> None:
        """Ask the leader for another membership, as the server does: only if a quorum of it is there."""
        there = {process.id for process in self.world.running if not process.is_lost or process is leader}
        if not is_quorum(wanted, there):
            return
        who = (leader.id, leader.life, leader.driver.node.term)
        if who != self._asked:
            self._asked = who
            self._wanted = []
        self._wanted.append(wanted)
        self.ask(leader, ChangeMembership(wanted.voters, wanted.learners))

    @property
    def pending(self) -> list[Membership]:
        """What the leader was asked for in its term: some of it may be yet to come, and is in no log then."""
        leader = self.world.processes.get(self._asked[0])
        if leader is None or not leader.up:
            return []
        now = (leader.id, leader.life, leader.driver.node.term)
        return list(self._wanted) if now == self._asked else []

    def ask(self, process: Process, event: Event) -> None:
        """Have a node carry out an operator's event."""

        def done(error: Exception | None) -> None:
            name = type(event).__name__ if error is None else type(error).__name__
            self.told[name] = self.told.get(name, 0) + 1

        process.driver.operate(event, done)
        self.world.note(process.id, f"asked for {event}")
        process.schedule()
