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
    """One follower as the leader sees it: `state` is `"probe"`, `"replicate"` or `"snapshot"`, `match_index`
    the last index known to agree, `next_index` the next to send, `inflight` how many messages are unanswered.

    `part` is `"voter"`, `"learner"` or `"outgoing"`; `silent` the ticks since it was last heard from;
    `snapshot_offset` the bytes of a snapshot that it has, while it is sent one."""

    __slots__ = (
        "id",
        "inflight",
        "match_index",
        "next_index",
        "part",
        "silent",
        "snapshot_offset",
        "state",
    )
    __match_args__: ClassVar[tuple[str, ...]] = (
        "id",
        "state",
        "match_index",
        "next_index",
        "inflight",
        "part",
        "silent",
        "snapshot_offset",
    )

    def __init__(
        self,
        id: NodeId,  # noqa: A002 - the name of the field
        state: str,
        match_index: Index,
        next_index: Index,
        inflight: int,
        part: str = "voter",
        silent: int = 0,
        snapshot_offset: int = 0,
    ) -> None:
        self.id: i64 = checked(id, "id")
        self.state: str = state
        self.match_index: i64 = checked(match_index, "match_index")
        self.next_index: i64 = checked(next_index, "next_index")
        self.inflight: i64 = checked(inflight, "inflight")
        self.part: str = part
        self.silent: i64 = checked(silent, "silent")
        self.snapshot_offset: i64 = checked(snapshot_offset, "snapshot_offset")


@final
@mypyc_attr(acyclic=True)
class Status(Value):
    """A node at one moment. `stable_index` is the last index that is durable here; `followers` is empty
    unless the node leads. `snapshot_index` and `snapshot_term` are those of the last snapshot, `0` without
    one; `transfer_target` is whom a leader is handing over to."""

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
        "snapshot_index",
        "snapshot_term",
        "stable_index",
        "term",
        "transfer_target",
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
        "snapshot_index",
        "snapshot_term",
        "transfer_target",
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
        snapshot_index: Index = 0,
        snapshot_term: Term = 0,
        transfer_target: NodeId | None = None,
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
        self.snapshot_index: i64 = checked(snapshot_index, "snapshot_index")
        self.snapshot_term: i64 = checked(snapshot_term, "snapshot_term")
        self.transfer_target: int | None = transfer_target
