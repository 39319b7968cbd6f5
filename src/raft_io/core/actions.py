"""Actions: what a node wants done. Plain data; carry them out in the order they come."""

from __future__ import annotations

from typing import ClassVar, TypeAlias, Union, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.messages import Message, checked_message
from raft_io.core.types import Index, Membership, NodeId, Snapshot, Term, Value, checked, checked_bytes

__all__ = [
    "Action",
    "Apply",
    "MembershipChanged",
    "MembershipCommitted",
    "ReadFailed",
    "ReadReady",
    "RestoreSnapshot",
    "Send",
    "Sync",
    "TakeSnapshot",
]


@final
@mypyc_attr(acyclic=True)
class Send(Value):
    """Deliver `message` to the peer `to`. It may be lost, late, doubled or out of order."""

    __slots__ = ("message", "to")
    __match_args__: ClassVar[tuple[str, ...]] = ("to", "message")

    def __init__(self, to: NodeId, message: Message) -> None:
        self.to: i64 = checked(to, "to")
        self.message: Message = checked_message(message)


@final
@mypyc_attr(acyclic=True)
class Apply(Value):
    """Apply a committed command. Indexes strictly increase, and each comes once."""

    __slots__ = ("command", "index", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("index", "term", "command")

    def __init__(self, index: Index, term: Term, command: bytes) -> None:
        self.index: i64 = checked(index, "index")
        self.term: i64 = checked(term, "term")
        self.command: bytes = checked_bytes(command, "command")


@final
@mypyc_attr(acyclic=True)
class Sync(Value):
    """Make the log durable, then feed `Synced(ticket)`; what follows in the list waits for it
    (`deferred_sync` only)."""

    __slots__ = ("ticket",)
    __match_args__: ClassVar[tuple[str, ...]] = ("ticket",)

    def __init__(self, ticket: int) -> None:
        self.ticket: i64 = checked(ticket, "ticket")


@final
@mypyc_attr(acyclic=True)
class ReadReady(Value):
    """The read with this context may be served now: everything through `index` was handed out before."""

    __slots__ = ("context", "index")
    __match_args__: ClassVar[tuple[str, ...]] = ("context", "index")

    def __init__(self, context: bytes, index: Index) -> None:
        self.context: bytes = checked_bytes(context, "context")
        self.index: i64 = checked(index, "index")


@final
@mypyc_attr(acyclic=True)
class ReadFailed(Value):
    """The read with this context was not confirmed. Ask again, with a new context."""

    __slots__ = ("context",)
    __match_args__: ClassVar[tuple[str, ...]] = ("context",)

    def __init__(self, context: bytes) -> None:
        self.context: bytes = checked_bytes(context, "context")


@final
@mypyc_attr(acyclic=True)
class TakeSnapshot(Value):
    """Capture the state machine as it stands now, at `index`; answer with `SnapshotTaken`, at leisure."""

    __slots__ = ("index", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("index", "term")

    def __init__(self, index: Index, term: Term) -> None:
        self.index: i64 = checked(index, "index")
        self.term: i64 = checked(term, "term")


@final
@mypyc_attr(acyclic=True)
class RestoreSnapshot(Value):
    """Reset the state machine to `snapshot`; `Apply` goes on from `snapshot.index + 1`."""

    __slots__ = ("snapshot",)
    __match_args__: ClassVar[tuple[str, ...]] = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"snapshot must be a Snapshot, not {type(snapshot).__name__}")
        self.snapshot: Snapshot = snapshot


@final
@mypyc_attr(acyclic=True)
class MembershipChanged(Value):
    """This membership is in force from now on: its entry was appended (thesis, section 4.1), or one was
    rolled back, or a snapshot brought it."""

    __slots__ = ("membership",)
    __match_args__: ClassVar[tuple[str, ...]] = ("membership",)

    def __init__(self, membership: Membership) -> None:
        if not isinstance(membership, Membership):
            raise TypeError(f"membership must be a Membership, not {type(membership).__name__}")
        self.membership: Membership = membership


@final
@mypyc_attr(acyclic=True)
class MembershipCommitted(Value):
    """The final membership of a change (not its joint phase) is committed, by the entry at `index`."""

    __slots__ = ("index", "membership")
    __match_args__: ClassVar[tuple[str, ...]] = ("membership", "index")

    def __init__(self, membership: Membership, index: Index) -> None:
        if not isinstance(membership, Membership):
            raise TypeError(f"membership must be a Membership, not {type(membership).__name__}")
        self.membership: Membership = membership
        self.index: i64 = checked(index, "index")


Action: TypeAlias = Union[
    Send,
    Apply,
    ReadReady,
    ReadFailed,
    TakeSnapshot,
    RestoreSnapshot,
    MembershipChanged,
    MembershipCommitted,
    Sync,
]
"""What `RaftNode.step` and `RaftNode.drain` return. New ones may join: end a `match` with a wildcard."""
