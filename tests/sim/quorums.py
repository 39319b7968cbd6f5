"""Who decides, by brute force: what the checks believe in place of the core's own arithmetic."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from raft_io import Membership, NodeId


def decides(membership: Membership, node: NodeId) -> bool:
    """Whether the node's votes and copies count, in either half."""
    return node in membership.voters or node in membership.outgoing


def is_quorum(membership: Membership, nodes: AbstractSet[NodeId]) -> bool:
    """Whether `nodes` hold a majority of the voters and, while joint, one of the outgoing ones."""
    halves = [half for half in (membership.voters, membership.outgoing) if half]
    return bool(membership.voters) and all(2 * len(half & nodes) > len(half) for half in halves)


def members_of(membership: Membership) -> frozenset[NodeId]:
    """Everybody who takes part."""
    return membership.voters | membership.learners | membership.outgoing
