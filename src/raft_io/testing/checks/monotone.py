"""What only grows: terms, commit indexes, what is applied, and what a leader knows of a follower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from raft_io import EntryKind, FollowerStatus, Index, LogEntry, NodeId, Term
from raft_io.testing.checks.base import Check
from raft_io.testing.process import Process
from raft_io.testing.world import World

__all__ = ["Monotone"]

EVERY = 16
"""Turns of a leader between two looks at its followers, which cost something."""


class Monotone(Check):
    """Within a life of a node, and for its term and vote over all of them."""

    name = "monotone"
    rules: ClassVar = {
        15: (
            "A node's term, its commit index and what it has applied never decrease, and no more is "
            "applied than is committed."
        ),
        16: (
            "What a leader knows of a follower's log never decreases in its term, but when it changes the "
            "members, and is on that follower's disk."
        ),
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.seen: dict[NodeId, tuple[Term, Index, Index, int]] = {}
        self.match: dict[NodeId, tuple[Term, dict[NodeId, Index]]] = {}
        """Of each leader: in what term how far it knew whom to be, since it began to change the members. Of a
        node that leaves, or decides no more, it forgets that."""
        self.turns = 0

    def started(self, process: Process) -> None:
        before = self.seen.get(process.id)
        node = process.driver.node
        if before is not None and not process.fresh and node.term < process.log.disk.state.term:
            self.fail(15, f"node {process.id} starts with term {node.term}")
        self.seen[process.id] = (node.term, node.commit_index, node.last_applied, process.machine.place)

    def appending(self, process: Process, entries: Sequence[LogEntry]) -> None:
        if any(entry.kind is EntryKind.MEMBERSHIP for entry in entries):
            self.match.pop(process.id, None)

    def turned(self, process: Process) -> None:
        node = process.driver.node
        now = (node.term, node.commit_index, node.last_applied, process.machine.place)
        before = self.seen[process.id]
        if now != before:
            if now[0] < before[0] or now[1] < before[1] or now[2] < before[2] or now[3] < before[3]:
                self.fail(
                    15,
                    f"node {process.id} goes from {before} back to {now} (term, commit, applied, commands)",
                )
            if now[2] > now[1]:
                self.fail(15, f"node {process.id} has applied {now[2]}, but {now[1]} is committed")
            self.seen[process.id] = now
        if node.is_leader:
            self.turns += 1
            if self.turns % EVERY == 0:
                self._followers(process)

    def _followers(self, process: Process) -> None:
        status = process.driver.node.status
        term, match = self.match.get(process.id, (0, {}))
        if term != status.term:
            match = {}
            self.match[process.id] = (status.term, match)
        for follower in status.followers:
            index = follower.match_index
            if index < match.get(follower.id, 0):
                self.fail(16, f"leader {process.id} forgets how far {follower.id} is: {follower}")
            match[follower.id] = index
            self._has(process, follower, status.term)

    def _has(self, process: Process, follower: FollowerStatus, term: Term) -> None:
        """The follower's disk holds what the leader counts on."""
        index = follower.match_index
        image = process.log.now
        disks = self.world.disks_of(self.world.processes[follower.id])
        if index <= image.base:
            return
        if index > image.last:
            self.fail(16, f"leader {process.id} believes {follower} to have more than it has itself")
        known = image.terms[index - image.base - 1]
        if not any(
            disk.state.term > term or (index <= disk.last and disk.holds(index, known)) for disk in disks
        ):
            self.fail(
                16, f"leader {process.id} believes {follower}; on its disk the log ends before, or is another"
            )
