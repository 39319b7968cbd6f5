"""A cluster on a network and on disks that do their worst, one operation at a time."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.sim.checks import Checker
from tests.sim.member import Member, Mode

from raft_io import (
    Message,
    NodeId,
    NotLeaderError,
    OverloadedError,
    Propose,
    RaftConfig,
    Receive,
    Send,
    Synced,
    wire,
)

MOST_IN_FLIGHT = 200
"""More than this are not under way: the network loses the oldest."""

MOST_DELAYED = 50
"""More than this are not held back for long: the network loses the oldest."""

CALM = {"election_timeout": (10, 20), "heartbeat_interval": 3}
"""Timing under which a healed cluster must make progress."""

PATIENCE = 200
"""Ticks within which a healed cluster elects and commits: ten times the longest election timeout."""

ANEW = b"anew"
"""The command that a healed cluster must commit."""


class Op(enum.IntEnum):
    """What can happen next. Each takes two numbers that pick among what there is."""

    TICK = 0
    TICK_ALL = 1
    TIME_OUT = 2
    DELIVER = 3
    DELIVER_NEXT = 4
    DROP = 5
    DUPLICATE = 6
    FLOW = 7
    PROPOSE = 8
    DRAIN = 9
    SYNC = 10
    STALE_SYNC = 11
    CUT = 12
    ISOLATE = 13
    HEAL = 14
    CRASH = 15
    RESTART = 16
    BREAK_DISK = 17
    CRASH_ALL = 18
    REST = 19
    SPLIT = 20
    DELAY = 21
    RELEASE = 22


class Move(NamedTuple):
    """One operation and its two numbers, `0 .. 255`."""

    op: Op
    a: int
    b: int


@dataclass(frozen=True)
class Setup:
    """What a run starts from. Node `i` has the mode `modes[i - 1]`."""

    modes: tuple[Mode, ...]
    options: tuple[tuple[str, object], ...] = ()
    over_wire: bool = False
    seed: int = 0


class Packet(NamedTuple):
    sender: NodeId
    to: NodeId
    message: Message


class Cluster:
    """The nodes and what is under way between them; every step is checked."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.checker = Checker()
        self.in_flight: list[Packet] = []
        self.delayed: list[Packet] = []
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        self.proposed = 0
        ids = range(1, len(setup.modes) + 1)
        for node_id, mode in zip(ids, setup.modes, strict=True):
            config = RaftConfig(node_id, ids).replace(seed=setup.seed * 16 + node_id, **dict(setup.options))
            self.checker.members[node_id] = Member(config, mode, self.checker, self.post)
        self.members = list(self.checker.members.values())
        for member in self.members:
            member.start()

    def post(self, sender: NodeId, send: Send) -> None:
        """The network takes a message."""
        message = send.message
        if self.setup.over_wire:
            message = wire.decode(wire.encode(message))
        self.in_flight.append(Packet(sender, send.to, message))
        if len(self.in_flight) > MOST_IN_FLIGHT:
            del self.in_flight[0]

    def run(self, moves: Sequence[Move]) -> None:
        """Do all of `moves`."""
        for move in moves:
            self.do(move)

    def do(self, move: Move) -> None:
        """Do one thing. What cannot be done now does nothing."""
        op, a, b = move
        member = self.members[a % len(self.members)]
        match op:
            case Op.TICK:
                self._ticks(member, 1 + b % 4)
            case Op.TICK_ALL:
                for each in self.members:
                    self._ticks(each, 1 + b % 8)
            case Op.TIME_OUT:
                self._ticks(member, member.config.election_timeout[1])
            case Op.DELIVER | Op.DELIVER_NEXT | Op.DROP | Op.DUPLICATE | Op.DELAY:
                self._network(op, a)
            case Op.RELEASE:
                if self.delayed:
                    self.in_flight.insert(0, self.delayed.pop(a % len(self.delayed)))
            case Op.FLOW:
                self._flow(4 + a, syncing=b % 2 == 0)
            case Op.PROPOSE:
                self._propose(a, b)
            case Op.DRAIN:
                member.drain()
                self._observe(member)
            case Op.SYNC:
                member.finish_sync(b % max(len(member.tickets), 1), feed_first=b >= 128)
                self._observe(member)
            case Op.STALE_SYNC:
                self._stale_sync(member, b)
            case Op.CUT:
                self.cuts.add((member.id, self.members[b % len(self.members)].id))
            case Op.ISOLATE:
                self._isolate(member)
            case Op.SPLIT:
                self._split(a)
            case Op.HEAL:
                self.cuts.clear()
            case Op.CRASH:
                self._crash(member, b)
            case Op.RESTART:
                self._restart(member, b)
            case Op.BREAK_DISK:
                member.log.broken = member.up
            case Op.CRASH_ALL:
                for each in self.members:
                    self._crash(each, b)
                    self._restart(each, a)
            case Op.REST:
                pass

    def _observe(self, member: Member) -> None:
        self.checker.observe(member)

    def _ticks(self, member: Member, count: int) -> None:
        for _ in range(count):
            if member.up:
                member.tick()
                self._observe(member)

    def _network(self, op: Op, a: int) -> None:
        if not self.in_flight:
            return
        place = a % len(self.in_flight)
        if op is Op.DELIVER:
            self._deliver(self.in_flight.pop(place))
        elif op is Op.DELIVER_NEXT:
            self._deliver(self.in_flight.pop(0))
        elif op is Op.DROP:
            del self.in_flight[place]
        elif op is Op.DELAY:
            self.delayed.append(self.in_flight.pop(place))
            del self.delayed[:-MOST_DELAYED]
        else:
            self.in_flight.append(self.in_flight[place])

    def _deliver(self, packet: Packet) -> None:
        member = self.checker.members[packet.to]
        if (packet.sender, packet.to) in self.cuts or not member.up:
            return
        assert member.node is not None
        before = member.node.status if packet.message.term < member.node.term else None
        self.checker.delivered(packet.to, packet.message)
        member.take(Receive(packet.message))
        self.checker.heeded(member, packet.message, before)
        self._observe(member)

    def _flow(self, limit: int, *, syncing: bool) -> None:
        """Deliver in order until nothing moves, at most `limit` messages; drains and, if `syncing`, syncs."""
        for _ in range(limit):
            if not self.in_flight:
                self._settle(syncing=syncing)
                if not self.in_flight:
                    return
            self._deliver(self.in_flight.pop(0))

    def _settle(self, *, syncing: bool) -> None:
        """Drain everybody, and finish every sync."""
        for member in self.members:
            while member.node is not None and (member.node.pending or (syncing and member.tickets)):
                member.drain()
                self._observe(member)
                if syncing and member.tickets:
                    member.finish_sync(len(member.tickets) - 1, feed_first=True)
                    self._observe(member)

    def _propose(self, a: int, b: int) -> None:
        """To a leader if there is one, else to anybody; now and then to anybody all the same."""
        up = [member for member in self.members if member.node is not None]
        leaders = [member for member in up if member.node is not None and member.node.is_leader]
        candidates = leaders if leaders and b % 16 else up
        if candidates:
            self.propose(candidates[a % len(candidates)], b"%d" % self.proposed * (b % 4))

    def propose(self, member: Member, command: bytes) -> bool:
        """Returns whether the node took the command; a refusal changes nothing."""
        node = member.node
        assert node is not None
        self.proposed += 1
        before = node.status
        try:
            index = member.take(Propose(command))
        except NotLeaderError:
            self.checker.refused(member, before, leads=False)
            return False
        except OverloadedError:
            self.checker.refused(member, before, leads=True)
            self.checker.overload(member, len(command), refused=True)
            return False
        if member.node is None:
            return False
        assert index == before.last_index + 1
        self.checker.overload(member, len(command), refused=False)
        self._observe(member)
        return True

    def _stale_sync(self, member: Member, b: int) -> None:
        """A ticket that is settled already, or was never given."""
        oldest = member.tickets[0].number if member.tickets else 1
        if member.up:
            member.take(Synced(oldest - 1 if b % 2 else oldest + 1000))
            self._observe(member)

    def _isolate(self, member: Member) -> None:
        for other in self.members:
            self.cuts.add((member.id, other.id))
            self.cuts.add((other.id, member.id))

    def _split(self, a: int) -> None:
        """Two sides that hear each other no more; `a` has a bit for each node."""
        for left in self.members:
            for right in self.members:
                if (a >> left.id & 1) != (a >> right.id & 1):
                    self.cuts.add((left.id, right.id))

    def _crash(self, member: Member, b: int) -> None:
        """Most often everything unsynced is gone; at times the disk had already got some of it."""
        if member.up:
            member.crash(keep=b // 4 if b % 4 == 0 else 0)

    def _restart(self, member: Member, b: int) -> None:
        if not member.up:
            member.start(member.machine if b % 2 else 0)
            self._observe(member)

    # Healing.

    def heal(self) -> None:
        """The network and the disks work again, everybody is up, with timing that can work; then see that
        the cluster elects a leader, commits a new command and agrees, within `PATIENCE` ticks."""
        self.cuts.clear()
        self.in_flight.clear()
        self.delayed.clear()
        for member in self.members:
            if member.log.broken or self.is_frantic(member.config):
                member.crash()
                member.config = member.config.replace(**CALM)
            if not member.up:
                member.start(member.machine)
        for _ in range(PATIENCE):
            for member in self.members:
                self._ticks(member, 1)
            limit = 50 * len(self.members) * (len(self.checker.committed) + 20)
            self._flow(limit, syncing=True)
            assert not self.in_flight, "the messages never stop"
            if self._agreed():
                return
            self._propose_anew()
        raise AssertionError(f"no agreement within {PATIENCE} ticks: {self._story()}")

    def _propose_anew(self) -> None:
        for member in self.members:
            leads = member.node is not None and member.node.is_leader
            if leads and not any(entry.command == ANEW for entry in member.log.held):
                self.propose(member, ANEW)

    def _agreed(self) -> bool:
        logs = [member.log.held for member in self.members]
        return any(entry.command == ANEW for entry in self.checker.committed) and all(
            member.node is not None
            and member.node.last_applied == len(member.log.disk) == len(member.log.held)
            and member.log.held == logs[0]
            for member in self.members
        )

    def _story(self) -> list[object]:
        return [member.node and member.node.status for member in self.members]

    @staticmethod
    def is_frantic(config: RaftConfig) -> bool:
        """Whether elections need not succeed under this timing."""
        low, high = config.election_timeout
        return low == high or config.heartbeat_interval >= low
