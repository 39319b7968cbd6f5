"""What leases go by: who has answered a leader does not elect another one too soon."""

from __future__ import annotations

from typing import ClassVar, Final

from raft_io import AppendEntries, AppendEntriesReply, Message, NodeId, RequestVote, RequestVoteReply, Term
from raft_io.testing.checks.base import Check
from raft_io.testing.plan import TICK
from raft_io.testing.process import Process
from raft_io.testing.world import World

__all__ = ["Leases"]

KEPT: Final = 100
"""Rounds of a leader that an answer may be about."""


class Leases(Check):
    """Section 6.4.1 of the thesis. A stale read needs much else to go wrong at the same time; the broken
    promise that allows it is seen at once."""

    name = "leases"
    rules: ClassVar = {
        31: (
            "Under leases, a node that answers a leader votes for no other within the shortest election "
            "timeout after it was asked, by its own clock, unless the leader has sent that one."
        ),
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.asked: dict[NodeId, dict[tuple[Term, int], float]] = {}
        """When each node was asked, by its clock: by the leader of what term, in what round."""
        self.answered: dict[NodeId, tuple[NodeId, float]] = {}
        """What leader each has answered, and when that had asked."""
        self.sent: set[tuple[NodeId, Term]] = set()
        """Candidates that a leader has sent."""

    def started(self, process: Process) -> None:
        if process.fresh:
            self.answered.pop(process.id, None)

    def arriving(self, process: Process, message: Message) -> None:
        if isinstance(message, AppendEntries) and message.round:
            rounds = self.asked.setdefault(process.id, {})
            rounds.setdefault((message.term, message.round), process.clock.read(self.world.now))
            if len(rounds) > KEPT:
                del rounds[next(iter(rounds))]
        elif isinstance(message, RequestVote) and message.force:
            self.sent.add((message.candidate, message.term))

    def sending(self, process: Process, target: NodeId, message: Message) -> None:
        if isinstance(message, AppendEntriesReply):
            asked = self.asked.get(process.id, {}).get((message.term, message.round))
            if asked is not None:
                self.answered[process.id] = (target, asked)
        elif isinstance(message, RequestVoteReply) and message.vote_granted:
            leader, asked = self.answered.get(process.id, (target, 0.0))
            if leader == target or (target, message.term) in self.sent:
                return
            # The clock may have been about to tick when the leader asked.
            shortest = (process.config.election_timeout[0] - 1) * TICK
            since = process.clock.read(self.world.now) - asked
            if since < shortest - 1e-6:
                self.fail(
                    31,
                    f"node {process.id} votes for {target} {since:.4f} s after leader {leader} asked it for "
                    f"what it has answered; the lease is good for {shortest:.4f} s",
                )
