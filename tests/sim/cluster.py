"""A cluster on a network and on disks that do their worst, one operation at a time."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.sim import requests
from tests.sim.check_contact import before
from tests.sim.checks import Checker
from tests.sim.member import Member, Mode
from tests.sim.quorums import decides

from raft_io import Membership, Message, NodeId, RaftConfig, Receive, Send, Synced, TimeoutNow, wire

MOST_IN_FLIGHT = 200
"""More than this are not under way: the network loses the oldest."""

MOST_DELAYED = 50
"""More than this are not held back for long: the network loses the oldest."""


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
    READ = 23
    MEMBERS = 24
    TRANSFER = 25
    SNAPSHOT = 26
    ANSWER = 27
    ROUND = 28


class Move(NamedTuple):
    """One operation and its two numbers, `0 .. 255`."""

    op: Op
    a: int
    b: int


@dataclass(frozen=True)
class Setup:
    """What a run starts from. Node `i` has the mode `modes[i - 1]`; the first `voters` of them are the
    cluster, all of them unless told; the others run, empty, and can be added to it.

    `mixed`: every other node has neither pre-vote nor check-quorum. `damage`: one snapshot in so many arrives
    damaged.
    """

    modes: tuple[Mode, ...]
    options: tuple[tuple[str, object], ...] = ()
    over_wire: bool = False
    seed: int = 0
    voters: int = 0
    mixed: bool = False
    damage: int = 0


class Packet(NamedTuple):
    sender: NodeId
    to: NodeId
    message: Message


class Cluster:
    """The nodes and what is under way between them; every step is checked."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        count = len(setup.modes)
        voters = range(1, (setup.voters or count) + 1)
        self.checker = Checker(Membership(voters))
        self.in_flight: list[Packet] = []
        self.delayed: list[Packet] = []
        self.orders: list[Packet] = []
        """`TimeoutNow` that were sent."""
        self.withholds_orders = False
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        self.proposed = 0
        self.clock = random.Random(setup.seed)
        self.debts = dict.fromkeys(range(1, count + 1), 0)
        """With leases all clocks tick alike: by how much each is behind the fastest now."""
        for node_id, mode in zip(range(1, count + 1), setup.modes, strict=True):
            config = RaftConfig(node_id, voters) if node_id in voters else RaftConfig.joining(node_id)
            config = config.replace(seed=setup.seed * 16 + node_id, **dict(setup.options))
            if setup.mixed and node_id % 2:
                config = config.replace(pre_vote=False, check_quorum=False)
            member = Member(config, mode, self.checker, self.post, setup.damage)
            self.checker.members[node_id] = member
        self.members = list(self.checker.members.values())
        self.steady = any(member.config.lease_reads for member in self.members)
        for member in self.members:
            member.start()

    def post(self, sender: NodeId, send: Send) -> None:
        """The network takes a message."""
        message = send.message
        if self.setup.over_wire:
            message = wire.decode(wire.encode(message))
        if isinstance(message, TimeoutNow):
            self.orders.append(Packet(sender, send.to, message))
            if self.withholds_orders:
                return
        if send.to not in self.checker.members:
            return
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
            case Op.TICK | Op.TICK_ALL | Op.TIME_OUT:
                self._time(op, member, b)
            case Op.DELIVER | Op.DELIVER_NEXT | Op.DROP | Op.DUPLICATE | Op.DELAY | Op.RELEASE:
                self._network(op, a)
            case Op.FLOW:
                self.flow(4 + a, syncing=b % 2 == 0)
            case Op.ROUND:
                self.pass_time(1 + a % 3)
                self.flow(20 + b, syncing=True)
            case Op.PROPOSE | Op.READ | Op.MEMBERS | Op.TRANSFER | Op.SNAPSHOT | Op.ANSWER:
                self._request(op, member, a, b)
            case Op.DRAIN | Op.SYNC | Op.STALE_SYNC:
                self._driver(op, member, b)
            case Op.CUT:
                self.cuts.add((member.id, self.members[b % len(self.members)].id))
            case Op.ISOLATE:
                self._isolate(member, a, b)
            case Op.SPLIT:
                self._split(a)
            case Op.HEAL:
                self.cuts.clear()
            case Op.CRASH | Op.RESTART | Op.BREAK_DISK | Op.CRASH_ALL:
                self._fault(op, member, a, b)
            case Op.REST:
                pass
        self.checker.survives()

    # Time.

    def _time(self, op: Op, member: Member, b: int) -> None:
        if self.steady:
            longest = member.config.election_timeout[1]
            self.pass_time({Op.TICK: 1 + b % 2, Op.TICK_ALL: 1 + b % 8, Op.TIME_OUT: longest}[op])
        elif op is Op.TICK_ALL:
            for each in self.members:
                self.ticks(each, 1 + b % 8)
        else:
            self.ticks(member, 1 + b % 4 if op is Op.TICK else member.config.election_timeout[1])

    def ticks(self, member: Member, count: int) -> None:
        for _ in range(count):
            if member.up:
                member.tick()

    def pass_time(self, count: int) -> None:
        """Time passes for everybody. With leases every clock may lag, by half the margin: so in no span do
        two of them differ by more than the margin."""
        for _ in range(count):
            for member in self.members:
                most = member.config.lease_margin // 2 if self.steady else 0
                lag = self.clock.randint(0, most) if most else 0
                due = self.debts[member.id] + 1
                self.ticks(member, max(due - lag, 0))
                self.debts[member.id] = min(due, lag) if member.up else 0

    # The network.

    def _network(self, op: Op, a: int) -> None:
        if op is Op.RELEASE:
            for _ in range(min(1 + a % 4, len(self.delayed))):
                self._deliver(self.delayed.pop(a % len(self.delayed)))
            return
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
            (self.delayed if a % 2 else self.in_flight).append(self.in_flight[place])

    def _deliver(self, packet: Packet) -> None:
        member = self.checker.members[packet.to]
        node = member.node
        if (packet.sender, packet.to) in self.cuts or node is None:
            return
        was = before(member, node, packet.message)
        self.checker.delivered(packet.to, packet.message)
        member.take(Receive(packet.message))
        self.checker.contact.heeded(member, packet.sender, packet.message, was)

    def flow(self, limit: int, *, syncing: bool) -> None:
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
                if syncing and member.tickets:
                    member.finish_sync(len(member.tickets) - 1, feed_first=True)

    def _isolate(self, member: Member, a: int, b: int) -> None:
        """One node, most often a leader; at times learners still hear it, or one other node."""
        leaders = [each for each in self.members if each.node is not None and each.node.is_leader]
        if leaders and b % 4:
            member = leaders[a % len(leaders)]
        near = self.members[b % len(self.members)]
        for other in self.members:
            if (b % 4 == 2 and not decides(member.membership, other.id)) or (b % 4 == 3 and other is near):
                continue
            self.cuts.add((member.id, other.id))
            self.cuts.add((other.id, member.id))

    def _split(self, a: int) -> None:
        """Two sides that hear each other no more; `a` has a bit for each node."""
        for left in self.members:
            for right in self.members:
                if (a >> left.id & 1) != (a >> right.id & 1):
                    self.cuts.add((left.id, right.id))

    # The drivers.

    def _request(self, op: Op, member: Member, a: int, b: int) -> None:
        up = [each for each in self.members if each.node is not None]
        if not up:
            return
        leaders = [each for each in up if each.node is not None and each.node.is_leader]
        leaders.sort(key=lambda each: each.node.term if each.node else 0)
        leader = up[a % len(up)]
        if leaders and b % 16:
            leader = leaders[-1] if a % 4 else leaders[a % len(leaders)]
        match op:
            case Op.PROPOSE:
                self.propose(leader, b"%d" % self.proposed * (b % 4))
            case Op.READ:
                # A leader may be one that was deposed, or one that knows little yet.
                for each in leaders if leaders and b % 2 else [up[a % len(up)]]:
                    requests.read(self.checker, each)
            case Op.MEMBERS:
                ids = list(self.checker.members)
                requests.change(leader, requests.some_change(leader, ids, a * 256 + b))
            case Op.TRANSFER:
                requests.transfer(leader, requests.some_target(leader, b))
            case Op.SNAPSHOT:
                requests.take_snapshot(leader if b % 2 else up[a % len(up)], b)
            case Op.ANSWER if member.captures:
                index, data = member.captures.pop(b % len(member.captures))
                member.answer(index, data)

    def propose(self, member: Member, command: bytes) -> bool:
        """Returns whether the node took the command."""
        self.proposed += 1
        return requests.propose(member, command)

    def _driver(self, op: Op, member: Member, b: int) -> None:
        if op is Op.DRAIN:
            member.drain()
        elif op is Op.SYNC:
            member.finish_sync(b % max(len(member.tickets), 1), feed_first=b >= 128)
        elif member.up:
            # A ticket that is settled already, or was never given.
            oldest = member.tickets[0].number if member.tickets else 1
            member.take(Synced(oldest - 1 if b % 2 else oldest + 1000))

    def _fault(self, op: Op, member: Member, a: int, b: int) -> None:
        match op:
            case Op.CRASH:
                self._crash(member, b)
            case Op.RESTART:
                self._restart(member, b)
            case Op.BREAK_DISK:
                member.log.broken = member.up
            case _:
                for each in self.members:
                    self._crash(each, b)
                    self._restart(each, a)

    def _crash(self, member: Member, b: int) -> None:
        """Most often everything unsynced is gone; at times the disk had already got some of it."""
        if member.up:
            member.crash(keep=b // 4 if b % 4 == 0 else 0, snapshots=b % 8 == 1)

    def _restart(self, member: Member, b: int) -> None:
        """The state machine is restored from the snapshot, or durable itself, at times with a delay."""
        if not member.up:
            member.start((0, member.applied, member.applied * b // 256, member.applied)[b % 4])
