"""Changes of the membership."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from raft_io import EntryKind, Index, LogEntry, Snapshot, decode_membership
from raft_io.server.membership import everyone
from raft_io.testing.checks.base import Check
from raft_io.testing.process import Process
from raft_io.testing.quorums import decides

__all__ = ["Changes"]


class Changes(Check):
    """Joint consensus (paper, section 6; thesis, chapter 4)."""

    name = "membership"
    rules: ClassVar = {
        19: "A leader begins a change only when the one before is committed, and an entry of its own term.",
        20: "Between two memberships that differ in more than one voter lies a joint one of both.",
        21: "A node goes by the last membership in its log; a snapshot has the one that was in force there.",
        22: "Once its removal is committed a leader steps down; only who was removed ends for it.",
    }

    def appending(self, process: Process, entries: Sequence[LogEntry]) -> None:
        node = process.driver.node
        if not node.is_leader:
            return
        image, world = process.log.now, self.world
        for entry in entries:
            if entry.kind is not EntryKind.MEMBERSHIP:
                continue
            after = decode_membership(entry.command)
            before = world.membership_of(process)
            commit = max(node.commit_index, world.history.known)
            if image.changes and image.changes[-1][0] > commit:
                self.fail(19, f"leader {process.id} begins {after} before {before} is committed")
            own = any(index and image.holds(index, node.term) for index in (node.commit_index, commit))
            if not own and not _alone(before, process.id):
                self.fail(19, f"leader {process.id} begins {after}, and has committed nothing in its term")
            if before.outgoing:
                if after.outgoing or after.voters != before.voters:
                    self.fail(20, f"leader {process.id} goes from {before} to {after}")
            elif after.outgoing:
                if after.outgoing != before.voters:
                    self.fail(
                        20,
                        f"leader {process.id} goes from {before} to {after}: not from the voters there were",
                    )
            elif len(after.voters ^ before.voters) > 1:
                self.fail(20, f"leader {process.id} goes from {before} to {after} without a joint membership")

    def saving(self, process: Process, snapshot: Snapshot) -> None:
        there = self.world.history.membership(snapshot.index)
        if snapshot.membership != there:
            self.fail(21, f"node {process.id} takes in {snapshot}, but the membership there was {there}")

    def retired(self, process: Process, index: Index) -> None:
        history = self.world.history
        if index > history.known or process.id in everyone(history.membership(index)):
            self.fail(22, f"node {process.id} ends as it was removed by entry {index}, but it was not")

    def turned(self, process: Process) -> None:
        node = process.driver.node
        image = process.log.now
        held = self.world.membership_of(process)
        if node.membership != held and image.last:
            self.fail(21, f"node {process.id} goes by {node.membership}; the last in its log is {held}")
        if node.is_leader and not decides(held, process.id):
            since = image.changes[-1][0] if image.changes else image.base
            if since <= node.commit_index:
                self.fail(22, f"node {process.id} leads on after its removal by {held} was committed")


def _alone(membership: object, node: int) -> bool:
    return getattr(membership, "voters", None) == {node}
