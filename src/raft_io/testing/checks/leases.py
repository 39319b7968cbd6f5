"""What leases go by: who has answered a leader does not elect another one too soon."""

from __future__ import annotations

from typing import ClassVar, Final

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    Message,
    NodeId,
    RequestVote,
    RequestVoteReply,
    Term,
    TimeoutNow,
)
from raft_io.testing.checks.base import Check
from raft_io.testing.plan import TICK
from raft_io.testing.process import Process
from raft_io.testing.world import World

__all__ = ["Leases"]

KEPT: Final = 10_000
"""Rounds of a leader that an answer may be about."""


class Leases(Check):
    """Section 6.4.1 of the thesis. A stale read needs much else to go wrong at the same time; the broken
    promise that allows it is seen at once."""

    name = "leases"
    rules: ClassVar = {
        31: (
            "Under leases, a node that answers a leader votes for no later one within the shortest election "
            "timeout after it was asked, by its own clock, unless the leader has sent that one."
        ),
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.asked: dict[NodeId, dict[tuple[Term, int], float]] = {}
        """When each node was asked, by its clock: by the leader of what term, in what round."""
        self.answered: dict[NodeId, tuple[Term, NodeId, float]] = {}
        """The leader of what term each has answered, and when that had asked."""
        self.sent: set[tuple[NodeId, Term]] = set()
        """Who was sent by a leader to stand in what term."""

    def started(self, process: Process) -> None:
        if process.fresh:
            self.answered.pop(process.id, None)

    def arriving(self, process: Process, message: Message) -> None:
        if isinstance(message, AppendEntries) and message.round:
            rounds = self.asked.setdefault(process.id, {})
            rounds.setdefault((message.term, message.round), process.clock.read(self.world.now))
            if len(rounds) > KEPT:
                del rounds[next(iter(rounds))]

    def sending(self, process: Process, target: NodeId, message: Message) -> None:
        if isinstance(message, AppendEntriesReply):
            asked = self.asked.get(process.id, {}).get((message.term, message.round))
            if asked is not None:
                self._answers(process.id, (message.term, target, asked))
        elif isinstance(message, TimeoutNow):
            self.sent.add((target, message.term + 1))
        elif isinstance(message, RequestVote):
            self._votes(process, process.id, message.term)
        elif isinstance(message, RequestVoteReply) and message.vote_granted:
            self._votes(process, target, message.term)

    def _answers(self, node: NodeId, answer: tuple[Term, NodeId, float]) -> None:
        known = self.answered.get(node)
        if known is None or (known[0], known[2]) < (answer[0], answer[2]):
            self.answered[node] = answer

    def _votes(self, process: Process, candidate: NodeId, term: Term) -> None:
        if process.id not in self.answered or (candidate, term) in self.sent:
            return
        answered, leader, asked = self.answered[process.id]
        if answered >= term or leader == candidate:
            return
        # The clock may have been about to tick when the leader asked.
        shortest = (process.config.election_timeout[0] - 1) * TICK
        since = process.clock.read(self.world.now) - asked
        if since < shortest - 1e-6:
            self.fail(
                31,
                f"node {process.id} votes for {candidate} {since:.4f} s after leader {leader} asked it for "
                f"what it has answered; the lease is good for {shortest:.4f} s",
            )
