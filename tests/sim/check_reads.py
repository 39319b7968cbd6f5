"""Linearizable reads: none is older than what was committed anywhere when it was asked for (thesis, 6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.sim.history import History

from raft_io import NodeId, ReadFailed, ReadReady

if TYPE_CHECKING:
    from tests.sim.member import Member


class Asked(NamedTuple):
    """A read: all that was committed when it was asked for, and when that was by its node's ticks."""

    floor: int
    tick: int


class Reads:
    """Every read, over the whole life of the cluster."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.open: dict[NodeId, dict[bytes, Asked]] = {}
        self.count = 0
        self.ready_count = 0

    def context(self) -> bytes:
        """One that was never used."""
        self.count += 1
        return b"read %d" % self.count

    def asked(self, member: Member, context: bytes) -> None:
        """Before the node is asked. Whatever any node knows to be committed may have been acknowledged."""
        reads = self.open.setdefault(member.id, {})
        reads[context] = Asked(self.history.known, member.ticks)

    def refused(self, member: Member, context: bytes) -> None:
        del self.open[member.id][context]

    def forget(self, member: Member) -> None:
        """The node is gone, and with it whoever waited for it."""
        self.open.pop(member.id, None)

    def ready(self, member: Member, action: ReadReady, through: int) -> None:
        """The node has handed out everything through `through`."""
        asked = self.open.get(member.id, {}).pop(action.context, None)
        assert asked is not None, f"node {member.id} answers {action}, which is not open"
        self.ready_count += 1
        assert action.index >= asked.floor, f"stale: {action} on node {member.id}, but {asked} was committed"
        assert action.index <= self.history.known, f"{action}, but {self.history.known} is committed"
        owed = self.history.owed(through + 1, action.index)
        assert not owed, f"{action} on node {member.id}, which has not applied {owed}"
        assert member.node is not None and member.node.last_applied >= action.index

    def failed(self, member: Member, action: ReadFailed) -> None:
        asked = self.open.get(member.id, {}).pop(action.context, None)
        assert asked is not None, f"node {member.id} answers {action}, which is not open"

    def overdue(self, member: Member, patience: int) -> list[bytes]:
        """Reads that are not answered after that many ticks."""
        reads = self.open.get(member.id, {})
        return [context for context, asked in reads.items() if member.ticks - asked.tick > patience]
