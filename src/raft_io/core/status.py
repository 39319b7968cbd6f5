"""What an operator wants to see of a node, as a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.types import Index, Membership, NodeId, Role, Term, Value, checked

__all__ = ["FollowerStatus", "Status"]


@final
@mypyc_attr(acyclic=True)
class FollowerStatus(Value):
    """One follower as the leader sees it: `state` is `"probe"` or `"replicate"`, `match_index` the last index
    known to agree, `next_index` the next to send, `inflight` how many messages wait for an answer."""

    __slots__ = ("id", "inflight", "match_index", "next_index", "state")
    __match_args__: ClassVar[tuple[str, ...]] = ("id", "state", "match_index", "next_index", "inflight")

    def __init__(
        self,
        id: NodeId,  # noqa: A002 - the name of the field
        state: str,
        match_index: Index,
        next_index: Index,
        inflight: int,
    ) -> None:
        self.id: i64 = checked(id, "id")
        self.state: str = state
        self.match_index: i64 = checked(match_index, "match_index")
        self.next_index: i64 = checked(next_index, "next_index")
        self.inflight: i64 = checked(inflight, "inflight")


@final
@mypyc_attr(acyclic=True)
class Status(Value):
    """A node at one moment. `stable_index` is the last index that is durable here; `followers` is empty
    unless the node leads."""

    __slots__ = (
        "commit_index",
        "followers",
        "id",
        "last_applied",
        "last_index",
        "last_term",
        "leader",
        "membership",
        "role",
        "stable_index",
        "term",
        "uncommitted_bytes",
        "voted_for",
    )
    __match_args__: ClassVar[tuple[str, ...]] = (
        "id",
        "role",
        "term",
        "leader",
        "voted_for",
        "commit_index",
        "last_applied",
        "last_index",
        "last_term",
        "stable_index",
        "membership",
        "uncommitted_bytes",
        "followers",
    )

    def __init__(
        self,
        id: NodeId,  # noqa: A002 - the name of the field
        role: Role,
        term: Term,
        leader: NodeId | None,
        voted_for: NodeId | None,
        commit_index: Index,
        last_applied: Index,
        last_index: Index,
        last_term: Term,
        stable_index: Index,
        membership: Membership,
        uncommitted_bytes: int,
        followers: Iterable[FollowerStatus],
    ) -> None:
        self.id: i64 = checked(id, "id")
        self.role: Role = role
        self.term: i64 = checked(term, "term")
        self.leader: int | None = leader
        self.voted_for: int | None = voted_for
        self.commit_index: i64 = checked(commit_index, "commit_index")
        self.last_applied: i64 = checked(last_applied, "last_applied")
        self.last_index: i64 = checked(last_index, "last_index")
        self.last_term: i64 = checked(last_term, "last_term")
        self.stable_index: i64 = checked(stable_index, "stable_index")
        self.membership: Membership = membership
        self.uncommitted_bytes: i64 = checked(uncommitted_bytes, "uncommitted_bytes")
        self.followers: tuple[FollowerStatus, ...] = tuple(followers)
