"""Persist before you respond; and what is durable is there after a crash."""

from __future__ import annotations

from typing import ClassVar

from raft_io import AppendEntriesReply, Message, NodeId, RequestVote, RequestVoteReply
from raft_io.testing.checks.base import Check
from raft_io.testing.process import Process
from raft_io.testing.watched import Image
from raft_io.testing.world import World

__all__ = ["Durability"]


class Durability(Check):
    """Figure 2 of the paper: terms, votes and entries are on stable storage before anybody hears of them."""

    name = "durability"
    rules: ClassVar = {
        17: "A node's term, vote and entries are durable before a message says so.",
        18: "A log that is opened again holds all that was durable.",
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.left: dict[NodeId, tuple[Image, Image, int]] = {}

    def sending(self, process: Process, target: NodeId, message: Message) -> None:
        state = process.log.disk.state
        if state.term < message.term:
            self.fail(17, f"node {process.id} may forget the term of {message}: {state}")
        if state.term > message.term:
            return
        if isinstance(message, RequestVote):
            if state.voted_for != process.id:
                self.fail(17, f"node {process.id} sends {message} before its own vote is durable: {state}")
        elif isinstance(message, RequestVoteReply):
            if message.vote_granted and state.voted_for != target:
                self.fail(
                    17, f"node {process.id} sends {message} to {target} before the vote is durable: {state}"
                )
        elif isinstance(message, AppendEntriesReply) and message.success:
            now, disk = process.log.now, process.log.disk
            index = message.match_index
            if index == 0 or now.state.term != message.term:
                return  # a reply of before its log was cut, as only a later term may do
            if index > now.last:
                self.fail(17, f"node {process.id} sends {message}; its log ends at {now.last}")
            # What a snapshot stands for is committed.
            term = (
                self.world.history.terms[index - 1] if index <= now.base else now.terms[index - now.base - 1]
            )
            if index > disk.last or not disk.holds(index, term):
                self.fail(17, f"node {process.id} sends {message}; on its disk the log ends at {disk.last}")

    def stopped(self, process: Process, power: bool) -> None:
        self.left[process.id] = (process.log.now, process.log.disk, process.log.same)

    def started(self, process: Process) -> None:
        left = self.left.pop(process.id, None)
        if left is None or process.fresh:
            return
        now, disk, same = left
        found = process.log.now
        if found.state.term < disk.state.term:
            self.fail(18, f"node {process.id} is back with {found.state}; {disk.state} was durable")
        if found.state.term == disk.state.term and disk.state.voted_for not in (None, found.state.voted_for):
            self.fail(18, f"node {process.id} is back with {found.state}; {disk.state} was durable")
        if found.base < disk.base:
            self.fail(
                18, f"node {process.id} is back with a snapshot of {found.base}; {disk.base} was durable"
            )
        if found.last < min(same, disk.last):
            self.fail(18, f"node {process.id} is back with a log up to {found.last}; {same} was durable")
        for index in range(found.base + 1, found.last + 1):
            term = found.terms[index - found.base - 1]
            was_durable = index <= disk.last and disk.holds(index, term)
            if index <= same and not was_durable:
                self.fail(18, f"node {process.id} is back with another entry at {index} than the durable one")
            if not was_durable and not (index <= now.last and now.holds(index, term)):
                self.fail(18, f"node {process.id} is back with an entry at {index} that it never had")
