"""Events: everything that can happen to a node. Plain data; `RaftNode.feed` takes one in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeAlias, Union, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.messages import Message, checked_message
from raft_io.core.types import (
    Contents,
    Index,
    NodeId,
    Value,
    checked,
    checked_bytes,
    checked_data,
    checked_ids,
    listed,
)

__all__ = [
    "ChangeMembership",
    "Event",
    "Propose",
    "ReadIndex",
    "Receive",
    "SnapshotTaken",
    "SyncFailed",
    "Synced",
    "Tick",
    "TransferLeadership",
]


@final
@mypyc_attr(acyclic=True)
class Tick(Value):
    """One tick of the logical clock. The caller picks what a tick is in seconds."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        pass


@final
@mypyc_attr(acyclic=True)
class Receive(Value):
    """A message arrived from a peer."""

    __slots__ = ("message",)
    __match_args__: ClassVar[tuple[str, ...]] = ("message",)

    def __init__(self, message: Message) -> None:
        self.message: Message = checked_message(message)


@final
@mypyc_attr(acyclic=True)
class Propose(Value):
    """Replicate `command`, opaque bytes. Raises `NotLeaderError`, `OverloadedError` or
    `TransferInProgressError`."""

    __slots__ = ("command",)
    __match_args__: ClassVar[tuple[str, ...]] = ("command",)

    def __init__(self, command: bytes) -> None:
        self.command: bytes = checked_bytes(command, "command")


@final
@mypyc_attr(acyclic=True)
class ReadIndex(Value):
    """Ask for a linearizable read point (thesis, section 6.4). `context` is opaque, never used twice, and
    comes back in `ReadReady` or `ReadFailed`. On a follower the leader is asked. Raises `NotLeaderError`
    when no leader is known."""

    __slots__ = ("context",)
    __match_args__: ClassVar[tuple[str, ...]] = ("context",)

    def __init__(self, context: bytes) -> None:
        self.context: bytes = checked_bytes(context, "context")


@final
@mypyc_attr(acyclic=True)
class ChangeMembership(Value):
    """Move to this membership, by one entry where at most one voter differs, else by joint consensus (paper,
    section 6; thesis, chapter 4).

    Raises `NotLeaderError`, `MembershipChangeInProgressError`, `TransferInProgressError`; `ValueError` for no
    voters, or an id that is both a voter and a learner.
    """

    __slots__ = ("learners", "voters")
    __match_args__: ClassVar[tuple[str, ...]] = ("voters", "learners")

    def __init__(self, voters: Iterable[NodeId], learners: Iterable[NodeId] = ()) -> None:
        self.voters: frozenset[int] = checked_ids(voters, "voters")
        self.learners: frozenset[int] = checked_ids(learners, "learners")

    def __repr__(self) -> str:
        return f"ChangeMembership(voters={listed(self.voters)}, learners={listed(self.learners)})"


@final
@mypyc_attr(acyclic=True)
class TransferLeadership(Value):
    """Hand leadership over to the voter `target` (thesis, section 3.10). Given up after the longest election
    timeout. Raises `NotLeaderError`, or `ValueError` for one that is no voter."""

    __slots__ = ("target",)
    __match_args__: ClassVar[tuple[str, ...]] = ("target",)

    def __init__(self, target: NodeId) -> None:
        self.target: i64 = checked(target, "target")


@final
@mypyc_attr(acyclic=True)
class SnapshotTaken(Value):
    """The state machine's state at `index`: the answer to `TakeSnapshot`, or unasked. Ignored unless `index`
    is applied and beyond the last snapshot."""

    __slots__ = ("data", "index")
    __match_args__: ClassVar[tuple[str, ...]] = ("index", "data")

    def __init__(self, index: Index, data: Contents) -> None:
        self.index: i64 = checked(index, "index")
        self.data: Contents = checked_data(data)


@final
@mypyc_attr(acyclic=True)
class Synced(Value):
    """A `log.sync()` begun after the drain that returned `Sync(ticket)` has finished (`deferred_sync`)."""

    __slots__ = ("ticket",)
    __match_args__: ClassVar[tuple[str, ...]] = ("ticket",)

    def __init__(self, ticket: int) -> None:
        self.ticket: i64 = checked(ticket, "ticket")


@final
@mypyc_attr(acyclic=True)
class SyncFailed(Value):
    """That `log.sync()` failed, as `detail` says. Every later call raises `StorageError`."""

    __slots__ = ("detail", "ticket")
    __match_args__: ClassVar[tuple[str, ...]] = ("ticket", "detail")

    def __init__(self, ticket: int, detail: str) -> None:
        if not isinstance(detail, str):
            raise TypeError(f"detail must be a str, not {type(detail).__name__}")
        self.ticket: i64 = checked(ticket, "ticket")
        self.detail: str = detail


Event: TypeAlias = Union[
    Tick,
    Receive,
    Propose,
    ReadIndex,
    ChangeMembership,
    TransferLeadership,
    SnapshotTaken,
    Synced,
    SyncFailed,
]
"""What `RaftNode.step` and `RaftNode.feed` take."""
