"""What callers ask of a node, and when it must refuse."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from tests.sim.checks import Checker
from tests.sim.member import Member, Transfer

from raft_io import (
    ChangeMembership,
    NodeId,
    NotLeaderError,
    OverloadedError,
    Propose,
    ReadIndex,
    TransferInProgressError,
    TransferLeadership,
)


def propose(member: Member, command: bytes) -> bool:
    """Returns whether the node took the command; a refusal changes nothing."""
    node = member.node
    assert node is not None
    checker = member.checker
    before = node.status
    try:
        index = member.take(Propose(command))
    except NotLeaderError:
        checker.refused(member, before)
        assert not node.is_leader
        return False
    except TransferInProgressError:
        checker.refused(member, before)
        assert before.transfer_target is not None, "nothing is handed over"
        return False
    except OverloadedError:
        checker.refused(member, before)
        assert node.is_leader
        checker.overload(member, len(command), refused=True)
        return False
    assert before.transfer_target is None, "took a proposal while it hands over"
    if member.node is None:
        return False
    assert index == before.last_index + 1
    checker.overload(member, len(command), refused=False)
    return True


def read(checker: Checker, member: Member) -> bytes | None:
    """Ask for a read. Returns its context, if the node took it."""
    node = member.node
    assert node is not None
    before = node.status
    context = checker.reads.context()
    checker.reads.asked(member, context)
    try:
        member.take(ReadIndex(context))
    except NotLeaderError:
        checker.refused(member, before)
        assert before.leader is None, f"node {member.id} knows the leader {before.leader}"
        checker.reads.refused(member, context)
        return None
    return context


def some_change(member: Member, ids: Sequence[NodeId], number: int) -> ChangeMembership:
    """A change that `number` picks, most often a sensible one: of one voter, of several, of learners; also of
    nothing at all, and some that must be refused."""
    rng = random.Random(number)
    current = member.membership
    voters, learners = set(current.voters), set(current.learners)
    others = [node for node in ids if node not in voters]
    kind = rng.randrange(12)
    if kind in (0, 1) and others:
        voters.add(rng.choice(others))
    elif kind in (2, 3) and len(voters) > 1:
        voters.discard(rng.choice(sorted(voters)))
    elif kind == 4 and len(voters) > 1:
        voters.discard(member.id)
    elif kind == 5 and others:
        learners.add(rng.choice(others))
    elif kind == 6:
        learners = set(others)
    elif kind == 7 and len(voters) > 1:
        learners.add(rng.choice(sorted(voters)))
        voters -= learners
    elif kind in (8, 9, 10):
        voters = set(rng.sample(list(ids), rng.randint(1, min(5, len(ids)))))
        learners = {node for node in ids if rng.random() < 0.2}
    else:
        return rng.choice(
            (
                ChangeMembership(voters, learners - voters),
                ChangeMembership((), learners),
                ChangeMembership(voters, sorted(voters)[:1]),
            )
        )
    return ChangeMembership(voters, learners - voters)


def change(member: Member, event: ChangeMembership) -> bool:
    """Returns whether the node took the change; it must, or must not."""
    node = member.node
    assert node is not None
    changes = member.checker.changes
    before = node.status
    reasons = changes.refusals(member, event)
    if reasons:
        with pytest.raises(tuple(reasons)):
            member.take(event)
        member.checker.refused(member, before)
        return False
    changes.offered(member, event)
    member.take(event)
    return member.node is not None


def some_target(member: Member, number: int) -> NodeId:
    """A voter most often."""
    voters = sorted(member.membership.voters)
    return voters[number % len(voters)] if voters and number % 8 else number % 9


def transfer(member: Member, target: NodeId) -> bool:
    """Returns whether the node took the order."""
    node = member.node
    assert node is not None
    before = node.status
    reason: type[Exception] | None = None
    if not node.is_leader:
        reason = NotLeaderError
    elif target not in member.membership.voters:
        reason = ValueError
    if reason is not None:
        with pytest.raises(reason):
            member.take(TransferLeadership(target))
        member.checker.refused(member, before)
        return False
    term = node.term
    member.take(TransferLeadership(target))
    if member.node is None:
        return False
    if target == member.id:
        member.checker.refused(member, before)
    elif node.is_leader and node.term == term:
        assert node.status.transfer_target == target
        member.transfer = Transfer(term, target, member.ticks)
    return True


def take_snapshot(member: Member, number: int) -> None:
    """Unasked: most often of the state as it is, at times of an earlier one, or of one that is not there."""
    node = member.node
    assert node is not None
    index = node.last_applied
    if number % 4 == 0:
        index = number * (index + 3) // 256
    data = member.capture(index) if index <= node.last_applied else b"?"
    member.answer(index, data)
