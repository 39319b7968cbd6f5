"""Logs: two that hold the same entry are the same up to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from raft_io import EntryKind, Index, LogEntry, Term
from raft_io.testing.checks.base import Check
from raft_io.testing.process import Process
from raft_io.testing.world import World

__all__ = ["Matching"]


class Matching(Check):
    """Log matching (paper, section 5.3). That an entry's index and term fix its content and the term of the
    entry before it, for all entries ever appended, says the same, entry by entry."""

    name = "log matching"
    rules: ClassVar = {
        5: "An index and a term fix an entry and the term of the one before it, so all before it.",
        6: "Along a log indexes follow one another and terms do not decrease.",
        7: "A leader only appends, and entries of its own term.",
        8: "What is committed is never removed from a log.",
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.entries: dict[tuple[Index, Term], tuple[Term, EntryKind, int]] = {}
        """Of each entry the term before it, its kind, and the hash of its command."""

    def appending(self, process: Process, entries: Sequence[LogEntry]) -> None:
        image = process.log.now
        before, last = image.end
        node = process.driver.node
        for entry in entries:
            last += 1
            fact = (before, entry.kind, hash(entry.command))
            known = self.entries.setdefault((entry.index, entry.term), fact)
            if known != fact:
                self.fail(5, f"node {process.id} appends another {entry} after term {before} than others")
            if entry.term < before:
                self.fail(6, f"node {process.id} appends {entry} after an entry of term {before}")
            if entry.index != last:
                self.fail(6, f"node {process.id} appends {entry} at {last}")
            if node.is_leader and entry.term != node.term:
                self.fail(7, f"leader {process.id} of term {node.term} appends {entry}")
            before = entry.term

    def truncating(self, process: Process, first: Index) -> None:
        if process.driver.node.is_leader:
            self.fail(7, f"leader {process.id} removes its entries from {first} on")
        image, history = process.log.now, self.world.history
        for index in range(first, min(image.last, history.known) + 1):
            if image.holds(index, history.terms[index - 1]):
                self.fail(8, f"node {process.id} removes entry {index}, which is committed")
