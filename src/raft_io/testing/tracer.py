"""Writes down what happens in a world, for the trace page."""

from __future__ import annotations

from typing import Final, Literal, final

from raft_io import AppendEntries, AppendEntriesReply, Index, InstallSnapshot, Membership, NodeId, Role, wire
from raft_io.core.messages import Message
from raft_io.server import frames
from raft_io.testing.checks.base import ViolationError
from raft_io.testing.clients import Call
from raft_io.testing.plan import BETWEEN, Fault, Plan
from raft_io.testing.process import Process
from raft_io.testing.trace import (
    Called,
    Event,
    LifeChanged,
    MembersChanged,
    MessageSent,
    Progressed,
    Returned,
    RoleChanged,
    Trace,
    Violated,
)
from raft_io.testing.trace import Fault as ShownFault
from raft_io.testing.watcher import Watcher

__all__ = ["Tracer"]

LONGEST: Final = 2000
"""Characters of a message that are shown, at most."""

Shown = Literal["follower", "pre_candidate", "candidate", "leader", "learner"]

_ROLES: Final[dict[Role, Shown]] = {
    Role.FOLLOWER: "follower",
    Role.CANDIDATE: "candidate",
    Role.LEADER: "leader",
}


@final
class Tracer(Watcher):
    """Collects the events of a run; `since`: those from that simulated second on, and what was so before."""

    def __init__(self, since: float = 0.0) -> None:
        self._since = since
        self._events: list[Event] = []
        self._roles: dict[NodeId, tuple[Shown, int]] = {}
        self._done: dict[NodeId, tuple[int, int]] = {}
        self._restores: dict[NodeId, tuple[int, int]] = {}
        self._members: dict[NodeId, Membership] = {}
        self._up: dict[NodeId, bool] = {}
        self._begun = False

    def trace(self, plan: Plan, end: float, failure: ViolationError | None) -> Trace:
        """What was collected, of a run of `plan` that took `end` seconds."""
        if failure is not None:
            self._add(Violated(failure.at, str(failure)))
        title = f"seed {plan.seed}: {plan.voters} voter{'s' * (plan.voters != 1)}"
        title += f", {plan.spares} spare{'s' * (plan.spares != 1)}" if plan.spares else ""
        text = None if failure is None else str(failure)
        return Trace(title, plan.seed, plan.nodes, end, text, self._events)

    def _add(self, event: Event) -> None:
        if event.at >= self._since:
            if not self._begun:
                self._begun = True
                self._begin()
            self._events.append(event)

    def _begin(self) -> None:
        """How things are when the trace begins."""
        at = self._since
        for node in [node for node, up in self._up.items() if up]:
            self._events.append(LifeChanged(at, node, "start", "it runs already"))
        for node, (role, term) in self._roles.items():
            if self._up.get(node):
                self._events.append(RoleChanged(at, node, role, term))

    # `Watcher`.

    def fault(self, now: float, fault: Fault) -> None:
        nodes = tuple(node for node in (fault.who, fault.whom if fault.kind in BETWEEN else 0) if node)
        self._add(ShownFault(now, now + fault.lasts, fault.text, nodes))

    def note(self, now: float, node: NodeId, text: str) -> None:
        self._add(MembersChanged(now, node, text))

    def started(self, now: float, node: NodeId) -> None:
        self._add(LifeChanged(now, node, "start"))
        self._up[node] = True
        self._roles.pop(node, None)

    def stopped(self, now: float, node: NodeId, power: bool) -> None:
        self._add(LifeChanged(now, node, "crash" if power else "kill"))
        self._up[node] = False

    def paused(self, now: float, node: NodeId, paused: bool) -> None:
        self._add(LifeChanged(now, node, "pause" if paused else "resume"))

    def sent(self, now: float, source: NodeId, target: NodeId, frame: bytes, arrival: float | None) -> None:
        if now < self._since:
            return
        what, text, heartbeat = _described(frame)
        lost: Literal["lost"] | None = "lost" if arrival is None else None
        self._add(MessageSent(now, source, target, what, arrival, text, lost, heartbeat=heartbeat))

    def turned(self, now: float, process: Process) -> None:
        node = process.driver.node
        role = _ROLES[node.role]
        if node.role is Role.FOLLOWER and process.id in node.membership.learners:
            role = "learner"
        if self._roles.get(process.id) != (role, node.term):
            self._add(RoleChanged(now, process.id, role, node.term))
            self._roles[process.id] = (role, node.term)
        done = (node.commit_index, node.last_applied)
        before = self._done.get(process.id, (0, 0))
        if done != before:
            if done[0] != before[0]:
                self._add(Progressed(now, process.id, "commit", done[0]))
            if done[1] != before[1]:
                self._add(Progressed(now, process.id, "apply", done[1]))
            self._done[process.id] = done
        restores = (process.life, process.machine.restores)
        if restores[1] and restores != self._restores.get(process.id):
            snapshot = process.log.snapshot()
            index = 0 if snapshot is None else snapshot.index
            self._add(Progressed(now, process.id, "snapshot restored", index))
            self._restores[process.id] = restores
        if self._members.get(process.id) != node.membership:
            self._add(MembersChanged(now, process.id, str(node.membership)))
            self._members[process.id] = node.membership

    def captured(self, now: float, node: NodeId, index: Index) -> None:
        self._add(Progressed(now, node, "snapshot taken", index))

    def called(self, now: float, call: Call) -> None:
        self._add(Called(now, call.client, call.operation.text, int.from_bytes(call.tag, "big")))

    def returned(self, now: float, call: Call) -> None:
        result = f"{call.result!r} at {call.place}" if call.outcome == "acknowledged" else None
        text = result if call.outcome != "refused" else "refused"
        self._add(Returned(now, call.client, text, int.from_bytes(call.tag, "big")))


def _described(frame: bytes) -> tuple[str, str, bool]:
    """What a frame is, what it says, and whether it is a heartbeat or the answer to one."""
    kind, body = frame[4], frame[5:]
    if kind == frames.FORWARD:
        return "Forward", f"{len(body)} bytes of commands", False
    if kind != frames.MESSAGE:
        return {frames.REFUSED: "Refused", frames.MEMBERS: "Members"}.get(kind, f"frame {kind}"), "", False
    message: Message = wire.decode(body)
    heartbeat = isinstance(message, AppendEntriesReply) and message.success
    if isinstance(message, AppendEntries):
        heartbeat = not message.entries
    if isinstance(message, InstallSnapshot):
        text = (
            f"index {message.index} of term {message.snapshot_term}, {len(message.data)} bytes at "
            f"{message.offset}, {message.membership}"
        )
        return "InstallSnapshot", text, False
    return type(message).__name__, str(message)[:LONGEST], heartbeat
