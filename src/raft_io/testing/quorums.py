"""Majorities, worked out anew: nothing here asks the core how it counts."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from raft_io import Membership, NodeId

__all__ = ["decides", "is_quorum"]


def is_quorum(membership: Membership, nodes: AbstractSet[NodeId]) -> bool:
    """Whether `nodes` can elect and commit: more than half of the voters, and while two memberships are in
    force of those of each (paper, section 6)."""
    return all(
        2 * len(group & nodes) > len(group) for group in (membership.voters, membership.outgoing) if group
    ) and bool(membership.voters)


def decides(membership: Membership, node: NodeId) -> bool:
    """Whether a node has a vote."""
    return node in membership.voters or node in membership.outgoing
