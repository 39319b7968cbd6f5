"""Events: everything that can happen to a node. Plain data; `RaftNode.feed` takes one in."""

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
from raft_io.core.types import Value, checked, checked_bytes

__all__ = ["Event", "Propose", "Receive", "SyncFailed", "Synced", "Tick"]


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
        if not isinstance(message, (AppendEntries, AppendEntriesReply, RequestVote, RequestVoteReply)):
            raise TypeError(f"message must be a Message, not {type(message).__name__}")
        self.message: Message = message


@final
@mypyc_attr(acyclic=True)
class Propose(Value):
    """Replicate `command`, opaque bytes. Raises `NotLeaderError` or `OverloadedError`."""

    __slots__ = ("command",)
    __match_args__: ClassVar[tuple[str, ...]] = ("command",)

    def __init__(self, command: bytes) -> None:
        self.command: bytes = checked_bytes(command, "command")


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


Event: TypeAlias = Union[Tick, Receive, Propose, Synced, SyncFailed]
"""What `RaftNode.step` and `RaftNode.feed` take."""
