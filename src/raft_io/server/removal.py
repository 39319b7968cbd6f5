"""How a node finds that it is no member any more, and that it may end; and how those who leave are told.

Sans-I/O: whoever drives this keeps the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, final

from raft_io.core.actions import Action, MembershipCommitted
from raft_io.core.config import RaftConfig
from raft_io.core.node import RaftNode
from raft_io.core.types import Index, NodeId
from raft_io.server.membership import Members, everyone, membership_index

__all__ = ["PARTING", "Removal"]

LOOKS: Final = 4
"""How long a node waits, in times of `Removal.patience`, that has it from its own log alone: it may be
catching up, past a change that a later one has taken back."""

PARTING: Final = 0.1
"""Seconds for which a node that was removed, and those who are rid of it, still talk."""


@final
class Removal:
    """Of one life of a node. `tick_interval` in seconds."""

    def __init__(self, node: RaftNode, members: Members, config: RaftConfig, tick_interval: float) -> None:
        self._node = node
        self._members = members
        ticks = max(config.heartbeat_interval, config.election_timeout[1])
        self.patience = max(ticks * tick_interval, PARTING)
        """Seconds to wait before `look`. A leader that is removed tells the others of it first, with its last
        heartbeat; and who asked this very node for its removal gets the answer. Who was added again since,
        and does not know it yet, hears from the leader within an election timeout."""
        self.index: Index = 0
        """The entry by which this node is no member, as it is said; `0`: nobody says so."""
        self.pieces = 0
        """Pieces of snapshots that have arrived: whoever drives this counts them."""
        self._witness: NodeId | None = None
        self._is_waiting = False
        self._arrived = (0, 0)
        self._looks = LOOKS
        """How often nothing must have come from a leader."""
        self._silent = 0

    def committed(self, changes: Iterable[Action]) -> bool:
        """Look through what a turn has changed. Returns what `told` does."""
        told = False
        for change in changes:
            if isinstance(change, MembershipCommitted) and self._node.id not in everyone(change.membership):
                told = self.told(change.index) or told
        return told

    def farewells(self) -> dict[NodeId, bytes]:
        """The frames for those who have left, if the last membership is committed and this node leads. The
        connections to them stay for `PARTING`, then `Members.part` ends them: one of them may have asked
        for it, and waits for the answer."""
        node = self._node
        index = membership_index(node.log)
        if node.membership.outgoing or index > node.commit_index:
            return {}
        return self._members.committed(index)

    def told(self, index: Index, witness: NodeId | None = None) -> bool:
        """It is said that this node is no member by the entry at `index`: its log says so, or a witness.
        Returns whether `look` is to be called after `patience`."""
        known = self._members
        if index < self.index or not known.is_removed(index) or not known.believes(witness):
            return False
        if index > self.index:
            self.index, self._witness, self._looks = index, None, LOOKS
        if witness is not None:
            self._witness, self._looks = witness, 1
        self._silent = 0
        if self._is_waiting:
            return False
        self._wait()
        return True

    def _wait(self) -> None:
        self._is_waiting = True
        self._arrived = (self._node.log.last_index(), self.pieces)

    def look(self) -> Literal["stay", "wait", "end"]:
        """Whether to end. `"wait"`: look again after `patience`."""
        self._is_waiting = False
        known = self._members
        if not known.is_removed(self.index) or not known.believes(self._witness):
            self.index = 0
            return "stay"
        # Nobody leads a node that is no member, nor sends it entries: one that is led will know better.
        led = self._node.leader not in (None, self._node.id, self._witness)
        if led or self._arrived != (self._node.log.last_index(), self.pieces):
            self._silent = 0
        else:
            self._silent += 1
        if self._silent >= self._looks:
            return "end"
        self._wait()
        return "wait"
