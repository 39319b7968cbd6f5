"""Actions: what a node wants done. Plain data; carry them out in the order they come."""

from __future__ import annotations

from typing import ClassVar, TypeAlias, Union, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    Message,
    RequestVote,
    RequestVoteReply,
)
from raft_io.core.types import Index, NodeId, Term, Value, checked, checked_bytes

__all__ = ["Action", "Apply", "Send", "Sync"]


@final
@mypyc_attr(acyclic=True)
class Send(Value):
    """Deliver `message` to the peer `to`. It may be lost, late, doubled or out of order."""

    __slots__ = ("message", "to")
    __match_args__: ClassVar[tuple[str, ...]] = ("to", "message")

    def __init__(self, to: NodeId, message: Message) -> None:
        if not isinstance(message, (AppendEntries, AppendEntriesReply, RequestVote, RequestVoteReply)):
            raise TypeError(f"message must be a Message, not {type(message).__name__}")
        self.to: i64 = checked(to, "to")
        self.message: Message = message


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


Action: TypeAlias = Union[Send, Apply, Sync]
"""What `RaftNode.step` and `RaftNode.drain` return. New ones may join: end a `match` with a wildcard."""
