"""Membership: one change at a time, asked for by somebody, acted on only when the leader may (thesis, 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.sim.history import History
from tests.sim.image import membership_in
from tests.sim.quorums import decides

from raft_io import (
    ChangeMembership,
    LogEntry,
    Membership,
    MembershipChangeInProgressError,
    NodeId,
    NotLeaderError,
    RaftNode,
    Role,
    Term,
    TransferInProgressError,
)

if TYPE_CHECKING:
    from tests.sim.member import Member


class Wanted(NamedTuple):
    """A change that a leader took on in `term`, and has not begun."""

    term: Term
    voters: frozenset[NodeId]
    learners: frozenset[NodeId]


class Changes:
    """What each leader was asked for."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.wanted: dict[NodeId, Wanted] = {}

    def forget(self, member: Member) -> None:
        self.wanted.pop(member.id, None)

    def waits(self, member: Member) -> bool:
        """Whether a change waits: leadership was not lost since it was accepted."""
        node = member.node
        wanted = self.wanted.get(member.id)
        return node is not None and wanted is not None and node.is_leader and node.term == wanted.term

    def refusals(self, member: Member, event: ChangeMembership) -> set[type[Exception]]:
        """The exceptions that `event` may meet; none: it must be accepted."""
        node = member.node
        assert node is not None
        found: set[type[Exception]] = set()
        if not node.is_leader:
            found.add(NotLeaderError)
        elif self.in_progress(member, node):
            found.add(MembershipChangeInProgressError)
        if node.is_leader and node.status.transfer_target is not None:
            found.add(TransferInProgressError)
        if not event.voters or event.voters & event.learners:
            found.add(ValueError)
        return found

    def in_progress(self, member: Member, node: RaftNode) -> bool:
        """Whether a change waits, is joint, or is not known to be committed."""
        now = member.log.now
        change = now.change()
        uncommitted = change is not None and change.index > node.commit_index
        return uncommitted or bool(now.membership(member.initial).outgoing) or self.waits(member)

    def offered(self, member: Member, event: ChangeMembership) -> None:
        """The node is about to be asked, and nothing stands against it."""
        assert member.node is not None
        self.wanted[member.id] = Wanted(member.node.term, event.voters, event.learners)

    def appended(self, member: Member, node: RaftNode, entry: LogEntry) -> None:
        """A leader adds a membership of its own term to its log."""
        now = member.log.now
        current = now.membership(member.initial)
        change = now.change()
        following = membership_in(entry.command)
        assert change is None or change.index <= node.commit_index, f"{entry} beside {change}"
        own = self.history.agrees(node.commit_index, node.term)
        assert own, f"leader {node.id} begins {following} before it committed an entry of its term"
        if current.outgoing:
            left = Membership(current.voters, current.learners)
            assert following == left, f"{current} is left for {following}"
            return
        assert self.waits(member), f"leader {node.id} moves to {following}: nobody asked for it in this term"
        wanted = self.wanted.pop(member.id)
        outgoing = current.voters if len(current.voters ^ wanted.voters) > 1 else ()
        expected = Membership(wanted.voters, wanted.learners, outgoing)
        assert following == expected, f"leader {node.id} moves to {following}, not to {expected}"

    def observe(self, member: Member, node: RaftNode) -> None:
        """After every step: the membership is that of the log, and who does not decide does not stand."""
        now = member.log.now
        current = now.membership(member.initial)
        if member.believed is not node.membership or member.logged is not current:
            assert node.membership == current, f"node {node.id} believes in {node.membership}, not {current}"
            member.believed, member.logged = node.membership, current
        if node.role is Role.CANDIDATE:
            assert may_stand(member, node), f"node {node.id} stands, but it has no vote in {current}"

    def drained(self, member: Member, node: RaftNode) -> None:
        """Once nothing is left to hand out: the driver knows the membership, and who was removed has gone."""
        now = member.log.now
        current = now.membership(member.initial)
        assert member.told == current, f"node {node.id} was told {member.told}, but it is {current}"
        change = now.change()
        final = change is None or change.index <= node.commit_index
        if node.is_leader and final:
            assert decides(current, node.id), f"node {node.id} leads, but it was removed: {current}"


def may_stand(member: Member, node: RaftNode) -> bool:
    """A voter may stand; and who was one before a change that is not known to be committed, for it may be the
    only one that has it (thesis, section 4.2.2, figure 4.6)."""
    now = member.log.now
    if decides(now.membership(member.initial), node.id):
        return True
    change = now.change()
    if change is None or change.index <= node.commit_index:
        return False
    earlier = [entry for entry in now.changes[:-1] if entry.index > now.covered]
    if earlier:
        return decides(membership_in(earlier[-1].command), node.id)
    before = member.initial if now.snapshot is None else now.snapshot.membership
    return decides(before, node.id)
