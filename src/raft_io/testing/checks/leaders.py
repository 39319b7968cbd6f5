"""Elections: one leader a term, by the votes of a quorum."""

from __future__ import annotations

from typing import ClassVar

from raft_io import (
    AppendEntries,
    InstallSnapshot,
    Membership,
    Message,
    NodeId,
    RequestVote,
    RequestVoteReply,
    Role,
    Term,
    TimeoutNow,
)
from raft_io.testing.checks.base import Check
from raft_io.testing.process import Process
from raft_io.testing.quorums import decides, is_quorum
from raft_io.testing.world import World

__all__ = ["Leaders"]


class Leaders(Check):
    """Election safety (paper, section 5.2), by what nodes say of themselves, and by who voted for whom."""

    name = "one leader a term"
    rules: ClassVar = {
        1: "A term has at most one leader.",
        2: "A node votes for one candidate in a term.",
        3: (
            "A leader was elected by a quorum of different voters, by the membership that its log held "
            "when it stood; its own vote is durable."
        ),
        4: "Who has no vote, by what is committed, does not lead.",
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.leaders: dict[Term, NodeId] = {}
        self.votes: dict[tuple[Term, NodeId, int], NodeId] = {}
        """Whom a node has voted for in a term, by its incarnation: one that has lost its disk, and was let in
        anew, is another voter."""
        self.stood: dict[tuple[Term, NodeId, int], Membership] = {}
        """By what membership a node stood in a term."""

    def sending(self, process: Process, target: NodeId, message: Message) -> None:
        if isinstance(message, RequestVote):
            self._vote(message.term, process, process.id)
            self.stood.setdefault(
                (message.term, process.id, process.incarnation), self.world.membership_of(process)
            )
        elif isinstance(message, RequestVoteReply):
            if message.vote_granted:
                self._vote(message.term, process, target)
        elif isinstance(message, (AppendEntries, InstallSnapshot, TimeoutNow)):
            self._leads(message.term, message.leader, process)

    def _vote(self, term: Term, voter: Process, candidate: NodeId) -> None:
        known = self.votes.setdefault((term, voter.id, voter.incarnation), candidate)
        if known != candidate:
            self.fail(2, f"node {voter.id} votes for {candidate} in term {term}; it has voted for {known}")

    def turned(self, process: Process) -> None:
        node = process.driver.node
        if node.role is Role.LEADER:
            self._leads(node.term, process.id, process)

    def _leads(self, term: Term, leader: NodeId, process: Process) -> None:
        known = self.leaders.get(term)
        if known == leader:
            return
        if known is not None:
            self.fail(1, f"node {leader} leads term {term}, and so does {known}")
        if leader != process.id:
            self.fail(1, f"node {process.id} speaks as leader {leader} of term {term}")
        self.leaders[term] = leader
        self._elected(process, term)

    def _elected(self, process: Process, term: Term) -> None:
        voters = {
            voter for (when, voter, _), whom in self.votes.items() if (when, whom) == (term, process.id)
        }
        voters.add(process.id)
        membership = self.stood.get((term, process.id, process.incarnation))
        if membership is None:
            # Nobody was asked: it decides alone.
            membership = self.world.membership_of(process)
        if not is_quorum(membership, voters):
            self.fail(
                3, f"node {process.id} leads term {term} by the votes of {sorted(voters)}: {membership}"
            )
        changes = process.log.now.changes
        committed = not changes or changes[-1][0] <= process.driver.node.commit_index
        if committed and not decides(membership, process.id):
            # By a change that is not committed it may: nobody else might be able to (thesis, section 4.2.2).
            self.fail(4, f"node {process.id} leads term {term}, and has no vote: {membership}")
        state = process.log.disk.state
        if (state.term, state.voted_for) != (term, process.id) and state.term <= term:
            self.fail(3, f"node {process.id} leads term {term}, but its own vote is not durable: {state}")
