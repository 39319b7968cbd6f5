"""A whole cluster in one process: its nodes, what is between them, its clients, its operator and its time."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from raft_io import Index, LogEntry, Membership, NodeId, Snapshot, StorageError, Term, wire
from raft_io.core.messages import Message
from raft_io.server import StateMachine, frames
from raft_io.server.membership import everyone
from raft_io.testing.checks.base import CALM, CRASH, Check, Hooks, ViolationError, told
from raft_io.testing.clients import Call, Clients
from raft_io.testing.disk import SuddenEndError
from raft_io.testing.faults import inflict
from raft_io.testing.history import History
from raft_io.testing.machine import Ledger
from raft_io.testing.network import Network
from raft_io.testing.operator import Operator
from raft_io.testing.plan import Fault, Plan
from raft_io.testing.process import Process
from raft_io.testing.quorums import is_quorum
from raft_io.testing.timeline import Timeline, stream
from raft_io.testing.watched import Image
from raft_io.testing.watcher import Watcher
from raft_io.testing.workload import Workload

__all__ = ["World"]

PROMISES: Final = frozenset({1, 2, 3, 4, 7, 9})
"""The messages that promise something, by their number on the wire (`raft_io.wire`): all but pre-votes, reads
and the answers to the pieces of a snapshot."""

CAMPAIGNS: Final = frozenset({1, 5})
"""The messages by which a node stands for election, likewise."""

ASKING: Final = frozenset({3})
"""Those by which a leader asks for a lease: requests to append."""

_SENT: Final = struct.Struct("<dII")
_TOLD: Final = struct.Struct("<dQ")

BLOCK: Final = 1000
"""Pieces that the digest takes in at a time."""

REDIAL: Final = 0.5
"""Seconds after which a node that was refused dials again."""


class World:
    """One run of `plan`. `checks` are told of everything; the first violation ends the run, as an
    exception."""

    def __init__(
        self,
        plan: Plan,
        machine: Callable[[], StateMachine],
        workload: Workload,
        checks: Sequence[Callable[[World], Check]],
        watcher: Any = None,
    ) -> None:
        self.plan = plan
        self.workload = workload
        self.has_leases = bool(plan.options.get("lease_reads"))
        self.timeline = Timeline()
        self.ledger = Ledger()
        self.initial = Membership(range(1, plan.voters + 1))
        self.history = History(self.initial)
        self.healed = False
        self.options = dict(plan.options)
        """What nodes are configured with that start now."""
        self.injected = 0
        """Faults that have happened."""
        self.watcher: Any = watcher if watcher is not None else Watcher()
        """A `Watcher`, or anything else that has its methods."""
        self._hash = hashlib.blake2b(digest_size=16)
        self._unhashed: list[bytes] = []
        """What the digest has yet to take in: in blocks that is cheaper."""
        self._machine = machine
        self._undo: dict[int, Callable[[], object]] = {}
        self._undone = 0
        """Counts what was to be undone."""
        self.resting = False
        """Whether all is well, so that nobody may stand for election."""
        self.network = Network(
            self.timeline,
            stream(plan.seed, "network"),
            plan.network,
            plan.nodes,
            self._deliver,
            self._restored,
        )
        if watcher is not None:
            self.network.saw = self._saw
        self.processes = {node: Process(self, node) for node in plan.nodes}
        self.operator = Operator(self)
        self.checks = [check(self) for check in checks]
        self.hooks = Hooks(self.checks)
        for process in self.processes.values():
            if not process.joins:
                process.start()
        self.clients = Clients(self)
        for fault in plan.faults:
            self.timeline.at(fault.at, self._inflict, fault)

    # What happens when.

    @property
    def now(self) -> float:
        """Simulated seconds since the beginning."""
        return self.timeline.now

    def run(self, seconds: float) -> None:
        """Let time pass. Raises `ViolationError`."""
        self.timeline.run_until(self.timeline.now + seconds)

    def _inflict(self, fault: Fault) -> None:
        if not self.healed:
            self.injected += 1
            self.watcher.fault(self.now, fault)
            inflict(self, fault)

    def undo_later(self, fault: Fault, undo: Callable[[], object]) -> None:
        """Undo a fault when its time is over."""
        self._undone += 1
        self._undo[self._undone] = undo
        self.timeline.after(fault.lasts, self._undo_now, self._undone)

    def _undo_now(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None and not self.healed:
            undo()

    def unless_healed(self, action: Callable[[], object]) -> Callable[[], object]:
        """`action`, as long as there are faults at all."""
        return lambda: None if self.healed else action()

    def heal(self) -> None:
        """No more faults: everything that was done is undone, and everybody is started."""
        self.healed = True
        self._undo.clear()
        self.network.heal()
        self.operator.hasty = True
        self.clients.hurry = 0
        for process in self.processes.values():
            process.held_down = 0
            ends = process.disk.fails or process.disk.delay == math.inf
            process.disk.calm()
            process.clock.change(self.now, 1.0)
            if ends:
                process.stop(power=True)
            if process.paused:
                process.pause(paused=False)

    def leave_out(self, first: NodeId) -> list[Process]:
        """Keep down as many nodes as the cluster can do without, `first` before others if it is one. If it
        is 0, let the power of the leader fail, and keep it down, as its successor has to commit what it
        leaves behind, or others."""
        rng = stream(self.plan.seed, "missing")
        order = list(self.processes.values())
        rng.shuffle(order)
        leader = self.leader
        if first:
            order.sort(key=lambda process: (process.id != first, process is leader))
        elif leader is not None:
            leader.stop(power=True)
            if rng.random() < 0.5:
                order.sort(key=lambda process: process is not leader)
        out: list[Process] = []
        whole = {process.id for process in order if not process.is_lost}
        for process in order:
            if self._is_enough(whole - {process.id}):
                whole.discard(process.id)
                out.append(process)
                process.held_down += 1
                process.stop(power=False)
        return out

    @property
    def digest(self) -> str:
        """Stands for everything that was sent, when and between whom, and for what clients were told."""
        self._take_in()
        return self._hash.hexdigest()

    def _take_in(self) -> None:
        self._hash.update(b"".join(self._unhashed))
        self._unhashed.clear()

    # What the parts of it ask.

    @property
    def running(self) -> list[Process]:
        """The processes that run."""
        return [process for process in self.processes.values() if process.up]

    @property
    def serving(self) -> list[Process]:
        """Those that clients may ask: they know that they are members."""
        return [process for process in self.running if not process.members.is_joining]

    @property
    def leader(self) -> Process | None:
        """The leader of the highest term."""
        leading = [process for process in self.running if process.driver.node.is_leader]
        return max(leading, key=lambda process: process.driver.node.term, default=None)

    @property
    def members(self) -> list[Process]:
        """The members, as the leader knows them; nobody without one."""
        leader = self.leader
        if leader is None:
            return []
        membership = leader.driver.node.membership
        return [self.processes[node] for node in sorted(everyone(membership))]

    def machine(self) -> StateMachine:
        """A new replica."""
        return self._machine()

    def membership_of(self, process: Process) -> Membership:
        """The last membership in a node's log, by which it goes."""
        return process.log.now.latest_membership(Membership(()) if process.joins else self.initial)

    def disks_of(self, process: Process) -> list[Image]:
        """What a node's disk holds, and what it held before it was replaced: that counts until the node is
        let in anew."""
        found = [image for image in (process.image, process.lost) if image is not None]
        return [*found, process.log.disk] if hasattr(process, "log") else found

    def holders(self, index: Index, term: Term) -> set[NodeId]:
        """The nodes on whose disk an entry is."""
        found = set()
        for process in self.processes.values():
            if any(index <= disk.last and disk.holds(index, term) for disk in self.disks_of(process)):
                found.add(process.id)
        return found

    def may_lose(self, process: Process) -> bool:
        """Whether what is committed, and the cluster, survive the loss of this node's disk: in every
        membership that may be in force the others that are whole are a quorum, and hold what is committed."""
        history = self.history
        whole = {other.id for other in self.processes.values() if other is not process and not other.is_lost}
        if history.known:
            whole &= self.holders(history.known, history.terms[-1])
        return self._is_enough(whole)

    def _is_enough(self, nodes: set[NodeId]) -> bool:
        """Whether `nodes` are a quorum in every membership that may be in force."""
        memberships = self.operator.pending
        for process in self.processes.values():
            if hasattr(process, "log") and not process.fresh and not process.broken:
                first = Membership(()) if process.joins else self.initial
                memberships.append(process.log.now.latest_membership(first))
                memberships.append(process.log.disk.latest_membership(first))
        return all(is_quorum(membership, nodes) for membership in memberships if membership.voters)

    # What is told by the nodes.

    def started(self, process: Process) -> None:
        """A node has recovered."""
        log = process.log
        log.appending = lambda entries: self._appending(process, entries)
        log.truncating = lambda first: self._truncating(process, first)
        log.saving = lambda snapshot: self._saving(process, snapshot)
        for check in self.hooks.started:
            check.started(process)
        self.watcher.started(self.now, process.id)
        for peer in self.plan.nodes:
            if peer != process.id:
                self.network.reconnect(process.id, peer)
                self.network.reconnect(peer, process.id)

    def stopped(self, process: Process, *, power: bool) -> None:
        """A node is gone."""
        self.watcher.stopped(self.now, process.id, power)
        if hasattr(process, "log"):
            for check in self.hooks.stopped:
                check.stopped(process, power)
        self.network.lost_node(process.id)
        self.clients.lost(process)

    def retired(self, process: Process, index: Index) -> None:
        """A node ends, as it was removed by the entry at `index`."""
        self.watcher.note(self.now, process.id, f"was removed by the entry at {index}")
        for check in self.hooks.retired:
            check.retired(process, index)

    def refused(self, process: Process, error: Exception) -> None:
        """A node cannot start."""
        self.watcher.note(self.now, process.id, f"does not start: {error}")
        if process.disk.fails:
            return
        if not process.may_be_broken:
            self.crashed(f"node {process.id} does not start: {error}")
        process.broken = str(error)

    def died(self, process: Process, error: Exception) -> None:
        """A node has stopped by itself."""
        self.watcher.note(self.now, process.id, f"dies: {error}")
        if not (process.dying and isinstance(error, StorageError)):
            raise ViolationError.of_run(CRASH, f"node {process.id} died: {told(error)}", self.now) from error
        process.stop(power=True)

    def crashed(self, text: str) -> None:
        """Something happened that must not, whatever the faults."""
        raise ViolationError.of_run(CRASH, text, self.now)

    def report(self, node: NodeId, text: str) -> None:
        """A node tells its operator something."""
        self.watcher.note(self.now, node, text)

    def note(self, node: NodeId, text: str) -> None:
        """Something that a reader of the trace should know."""
        self.watcher.note(self.now, node, text)

    def _appending(self, process: Process, entries: Sequence[LogEntry]) -> None:
        for check in self.hooks.appending:
            check.appending(process, entries)

    def _truncating(self, process: Process, first: Index) -> None:
        for check in self.hooks.truncating:
            check.truncating(process, first)

    def _saving(self, process: Process, snapshot: Snapshot) -> None:
        for check in self.hooks.saving:
            check.saving(process, snapshot)

    def synced(self, process: Process) -> None:
        """A node's log is durable."""
        for check in self.hooks.synced:
            check.synced(process)

    def sends(self, process: Process, target: NodeId, batch: list[bytes]) -> None:
        """A node sends frames to another."""
        if target not in self.processes:
            return
        checks = self.hooks.sending
        for frame in batch:
            if frame[4] == frames.MESSAGE and frame[6] in PROMISES:
                message: Message = wire.decode(frame[5:])
                for check in checks:
                    check.sending(process, target, message)
            if self.resting and frame[4] == frames.MESSAGE and frame[6] in CAMPAIGNS:
                text = f"node {process.id} stands for election, though all was well"
                raise ViolationError.of_run(CALM, text, self.now)
            self._unhashed.append(_SENT.pack(self.now, process.id, target))
            self._unhashed.append(frame)
        if len(self._unhashed) > BLOCK:
            self._take_in()
        self.network.send(process.id, target, batch)

    def turned(self, process: Process) -> None:
        """A node has taken a turn."""
        for check in self.hooks.turned:
            check.turned(process)
        self.watcher.turned(self.now, process)

    def members_changed(self, process: Process) -> None:
        """A node knows of other members: some may be strangers to it now, others no more."""
        for other in self.running:
            if other is process or other.paused or not self.network.joins(process.id, other.id):
                continue
            was = other.id in process.strangers
            welcome = process.greet(other)
            if welcome and was:
                self.network.reconnect(other.id, process.id)
            elif not (welcome or was):
                self._redial_later(other, process)

    def acknowledged(self, call: Call) -> None:
        """A client has got its answer."""
        for check in self.hooks.acknowledged:
            check.acknowledged(call)

    def told_call(self, call: Call) -> None:
        """A client asks for something."""
        self.watcher.called(self.now, call)

    def told_return(self, call: Call) -> None:
        """A client is done with it."""
        told = call.result if isinstance(call.result, bytes) else repr(call.result).encode()
        head = f"{call.tag.hex()} {call.outcome} {len(told)}".encode()
        self._unhashed += (_TOLD.pack(self.now, call.place), head, told)
        self.watcher.returned(self.now, call)

    # Connections.

    def _saw(self, source: NodeId, target: NodeId, frame: bytes, arrival: float | None) -> None:
        self.watcher.sent(self.now, source, target, frame, arrival)

    def _deliver(self, source: NodeId, target: NodeId, batch: list[bytes]) -> None:
        process = self.processes[target]
        if self.has_leases and process.up:
            for frame in batch:
                if frame[4] == frames.MESSAGE and frame[6] in ASKING:
                    message: Message = wire.decode(frame[5:])
                    for check in self.hooks.arriving:
                        check.arriving(process, message)
        process.arrive(source, batch)

    def _restored(self, source: NodeId, target: NodeId) -> None:
        ours, theirs = self.processes[source], self.processes[target]
        if not (ours.up and theirs.up):
            return
        try:
            welcome = theirs.greet(ours)
        except SuddenEndError as end:
            theirs.stop(power=end.power)
            return
        if welcome:
            ours.connected(target)
        else:
            self._redial_later(ours, theirs)

    def _redial_later(self, ours: Process, theirs: Process) -> None:
        self.timeline.after(REDIAL, self._redial, ours, ours.life, theirs, theirs.life)

    def _redial(self, ours: Process, life: int, theirs: Process, their_life: int) -> None:
        """Who was refused dials again, unless it was let in meanwhile."""
        if (ours.life, theirs.life) == (life, their_life) and ours.id in theirs.strangers:
            self.network.reconnect(ours.id, theirs.id)

    def ended(self) -> None:
        """Everything has healed: compare everything."""
        for check in self.hooks.ended:
            check.ended()
