"""The state machines: commands in order, each once, never backwards, over snapshots and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.contents import tells, whole
from tests.sim.history import History
from tests.sim.image import membership_in

from raft_io import Apply, EntryKind, MembershipCommitted, NodeId, RestoreSnapshot, Snapshot, TakeSnapshot

if TYPE_CHECKING:
    from tests.sim.member import Member


class Machines:
    """How far each node's driver was told what is committed, in this life."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.through: dict[NodeId, int] = {}

    def started(self, member: Member, applied: int) -> None:
        self.through[member.id] = applied

    def _next(self, member: Member, index: int, what: object) -> None:
        """`what` is of the committed entry at `index`, the next that the driver is to be told of."""
        last = self.through[member.id]
        assert index > last, f"node {member.id} emits {what} after {last}"
        assert index <= self.history.known, f"{what} is not committed"
        skipped = self.history.owed(last + 1, index - 1)
        assert not skipped, f"node {member.id} skips {skipped}"
        entry = self.history.at(index)
        held = member.log.disk.holds(index, entry.term)
        assert held, f"{what} is not durable on node {member.id}"
        self.through[member.id] = index

    def applied(self, member: Member, action: Apply) -> None:
        self._next(member, action.index, action)
        entry = self.history.at(action.index)
        assert (entry.term, entry.command) == (action.term, action.command), f"{action} is not {entry}"
        assert entry.kind is EntryKind.NORMAL

    def membership_committed(self, member: Member, action: MembershipCommitted) -> None:
        self._next(member, action.index, action)
        entry = self.history.at(action.index)
        assert entry.kind is EntryKind.MEMBERSHIP, f"{action} is not {entry}"
        assert membership_in(entry.command) == action.membership, f"{action} is not {entry}"
        assert not action.membership.outgoing, f"{action} is joint"

    def restored(self, member: Member, action: RestoreSnapshot) -> None:
        """Never backwards; durable here; the state as it was."""
        snapshot = action.snapshot
        last = self.through[member.id]
        assert snapshot.index > last, f"node {member.id} goes back from {last} to {snapshot.index}"
        self.is_true(snapshot)
        durable = member.log.disk.covered
        assert durable >= snapshot.index, f"node {member.id} restores {snapshot} before it is durable"
        self.through[member.id] = snapshot.index

    def is_true(self, snapshot: Snapshot) -> None:
        """It stands for committed entries, and for nothing else."""
        history = self.history
        assert snapshot.index <= history.known, f"{snapshot} is not committed"
        assert history.at(snapshot.index).term == snapshot.term, f"{snapshot} is of another term"
        membership = history.membership(snapshot.index)
        assert snapshot.membership == membership, f"{snapshot}, but the membership there is {membership}"
        data = whole(snapshot.data)
        assert tells(data, history.commands(snapshot.index)), f"{snapshot} holds another state: {data!r}"

    def take(self, member: Member, action: TakeSnapshot) -> None:
        """It is due, and of the state just as it is."""
        threshold = member.config.snapshot_threshold
        distance = action.index - member.log.now.covered
        assert threshold and distance >= threshold, f"{action} is {distance} behind the last snapshot"
        assert self.history.agrees(action.index, action.term), f"{action} is of another term"
        last = self.through[member.id]
        assert last <= action.index, f"{action} after {last}"
        owed = self.history.owed(last + 1, action.index)
        assert not owed, f"{action} before {owed}"

    def drained(self, member: Member, applied: int) -> None:
        """The node has handed out everything through `applied`, says it."""
        owed = self.history.owed(self.through[member.id] + 1, applied)
        assert not owed, f"node {member.id} says that it applied {applied}, but not {owed}"
