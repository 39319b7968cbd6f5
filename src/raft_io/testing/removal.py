"""How a node learns that it is no member any more, and ends: as `raft_io.server.cluster` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from raft_io import Index, MembershipCommitted, NodeId
from raft_io.server.membership import everyone, membership_index
from raft_io.testing.plan import TICK

if TYPE_CHECKING:
    from raft_io.server.driver import Output
    from raft_io.testing.process import Process

__all__ = ["Removal"]

PARTING: Final = 0.1
"""Seconds for which a node that was removed, and those who are rid of it, still talk."""


@final
class Removal:
    """Of one life of a process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._life = process.life
        self._index: Index = 0
        self._witness: NodeId | None = None
        self._waits = False
        self._last: Index = 0

    def after_turn(self, output: Output) -> None:
        """The membership has changed, or was committed, in this turn."""
        process = self._process
        node, members = process.driver.node, process.members
        for change in output.changes:
            if isinstance(change, MembershipCommitted) and process.id not in everyone(change.membership):
                self.told(change.index, None)
        index = membership_index(node)
        if node.membership.outgoing or index > node.commit_index:
            return
        farewells = members.committed(index)
        for peer, farewell in farewells.items():
            process.world.network.send(process.id, peer, [farewell])
        if farewells:
            process.world.timeline.after(PARTING, self._parted)

    def _parted(self) -> None:
        if self._process.life == self._life:
            self._process.members.part()

    def told(self, index: Index, witness: NodeId | None) -> None:
        """It is said that this node is no member by the entry at `index`."""
        members = self._process.members
        if index < self._index or not members.is_removed(index) or not members.believes(witness):
            return
        self._index, self._witness = index, witness
        if not self._waits:
            self._arm()

    def _arm(self) -> None:
        process = self._process
        ticks = max(process.config.heartbeat_interval, process.config.election_timeout[1])
        self._waits = True
        self._last = process.log.last_index()
        process.world.timeline.after(max(ticks * TICK, PARTING), self._end)

    def _end(self) -> None:
        process = self._process
        if process.life != self._life:
            return
        self._waits = False
        members = process.members
        if not members.is_removed(self._index) or not members.believes(self._witness):
            self._index = 0
        elif self._last != process.log.last_index():
            # Nobody sends entries to a node that is no member: the one that says so may be yet to come.
            self._arm()
        else:
            process.retire(self._index)
