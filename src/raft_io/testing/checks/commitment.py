"""What is committed: on the disks of a quorum, and in the log of every later leader."""

from __future__ import annotations

from typing import ClassVar

from raft_io import Index, Membership, NodeId, Snapshot, Term
from raft_io.testing.checks.base import Check
from raft_io.testing.process import Process
from raft_io.testing.quorums import is_quorum
from raft_io.testing.world import World

__all__ = ["Commitment"]


class Commitment(Check):
    """State machine safety by the logs, and leader completeness (paper, sections 5.3 and 5.4). The disks of
    all nodes are looked at, those that are down included."""

    name = "leader completeness"
    rules: ClassVar = {
        9: "The same entry is committed at an index, by whatever node.",
        10: (
            "The first to commit is the leader of its term, up to an entry of that term that is on the "
            "disks of a quorum."
        ),
        11: "Every leader of a later term has what is committed.",
        12: "A snapshot stands for committed entries, and takes none away.",
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.commit: dict[NodeId, Index] = {}
        self.leads: dict[NodeId, Term] = {}
        """In which term each node leads; of one that stepped down in this turn, in which it did."""
        self.went_by: dict[NodeId, Membership] = {}
        """The membership after each node's last turn: what was committed early in a turn was so by that."""

    def started(self, process: Process) -> None:
        self.commit[process.id] = 0
        self.leads.pop(process.id, None)
        self.went_by[process.id] = self.world.membership_of(process)
        node = process.driver.node
        if node.commit_index:
            self._commits(process, node.commit_index)

    def turned(self, process: Process) -> None:
        node = process.driver.node
        if node.is_leader and self.leads.get(process.id) != node.term:
            self.leads[process.id] = node.term
            self._complete(process, node.term)
        commit = node.commit_index
        if commit > self.commit[process.id]:
            self._commits(process, commit)
        if not node.is_leader:
            self.leads.pop(process.id, None)
        self.went_by[process.id] = self.world.membership_of(process)

    def _commits(self, process: Process, commit: Index) -> None:
        history, image = self.world.history, process.log.now
        for index in range(max(self.commit[process.id], image.base) + 1, min(commit, history.known) + 1):
            if not image.holds(index, history.terms[index - 1]):
                self.fail(9, f"node {process.id} commits another entry at {index} than others")
        if commit > history.known:
            self._first(process, commit)
        self.commit[process.id] = commit

    def _first(self, process: Process, commit: Index) -> None:
        history, image = self.world.history, process.log.now
        term = self.leads.get(process.id, 0)
        if not term:
            self.fail(
                10, f"node {process.id} commits {commit}, but only {history.known} is known to be committed"
            )
        if commit > image.last:
            self.fail(10, f"node {process.id} commits {commit}; its log ends at {image.last}")
        if not image.holds(commit, term):
            self.fail(10, f"leader {process.id} of term {term} commits {commit}, of an old term, by counting")
        membership = self.world.membership_of(process)
        history.changes += [change for change in image.changes if history.known < change[0] <= commit]
        for index in range(history.known + 1, commit + 1):
            entry_term = image.terms[index - image.base - 1]
            history.terms.append(entry_term)
            history.known_in.append(term)
        have = self.world.holders(commit, term)
        before = self.went_by[process.id]
        if not is_quorum(membership, have) and not is_quorum(before, have):
            self.fail(
                10, f"entry {commit} is committed by {membership}, but only nodes {sorted(have)} hold it"
            )
        for other in self.world.running:
            node = other.driver.node
            if node.is_leader:
                self._complete(other, node.term)

    def _complete(self, process: Process, term: Term) -> None:
        """The last entry that was committed in an earlier term will do: with it comes all that precedes
        it."""
        history = self.world.history
        index = history.known
        while index and history.known_in[index - 1] >= term:
            index -= 1
        if index and not process.log.now.holds(index, history.terms[index - 1]):
            self.fail(11, f"leader {process.id} of term {term} lacks entry {index}, which is committed")

    def saving(self, process: Process, snapshot: Snapshot) -> None:
        history = self.world.history
        if not history.agrees(snapshot.index, snapshot.term):
            self.fail(12, f"node {process.id} takes in {snapshot}, which is not committed")
        image = process.log.now
        if image.holds(snapshot.index, snapshot.term):
            return
        for index in range(snapshot.index + 1, min(image.last, history.known) + 1):
            if image.holds(index, history.terms[index - 1]):
                self.fail(12, f"node {process.id} loses entry {index}, which is committed, to {snapshot}")

    def ended(self) -> None:
        """Brute force: every committed entry, on the disks of every member."""
        history = self.world.history
        for process in self.world.members:
            image = process.log.now
            for index in range(image.base + 1, history.known + 1):
                if index <= process.driver.node.commit_index and not image.holds(
                    index, history.terms[index - 1]
                ):
                    self.fail(9, f"node {process.id} has another entry at {index}, which is committed")
