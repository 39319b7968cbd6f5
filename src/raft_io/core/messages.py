"""Messages: the two RPCs of the paper's figure 2, requests and replies apart.

Each is plain data. The core never sends one: it returns `Send` actions that carry them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeAlias, Union, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.types import Index, LogEntry, NodeId, Term, Value, checked, checked_bool

__all__ = [
    "AppendEntries",
    "AppendEntriesReply",
    "Message",
    "RequestVote",
    "RequestVoteReply",
]


@final
@mypyc_attr(acyclic=True)
class RequestVote(Value):
    """A candidate asks for a vote in `term`; the last two fields let voters compare logs (section 5.4.1)."""

    __slots__ = ("candidate", "last_log_index", "last_log_term", "term")
    __match_args__: ClassVar[tuple[str, ...]] = (
        "term",
        "candidate",
        "last_log_index",
        "last_log_term",
    )

    def __init__(self, term: Term, candidate: NodeId, last_log_index: Index, last_log_term: Term) -> None:
        self.term: i64 = checked(term, "term")
        self.candidate: i64 = checked(candidate, "candidate")
        self.last_log_index: i64 = checked(last_log_index, "last_log_index")
        self.last_log_term: i64 = checked(last_log_term, "last_log_term")


@final
@mypyc_attr(acyclic=True)
class RequestVoteReply(Value):
    """The answer to a `RequestVote`. `sender` names the voter, so that votes are counted by id."""

    __slots__ = ("sender", "term", "vote_granted")
    __match_args__: ClassVar[tuple[str, ...]] = ("term", "vote_granted", "sender")

    def __init__(self, term: Term, vote_granted: bool, sender: NodeId) -> None:
        self.term: i64 = checked(term, "term")
        self.vote_granted: bool = checked_bool(vote_granted, "vote_granted")
        self.sender: i64 = checked(sender, "sender")


@final
@mypyc_attr(acyclic=True)
class AppendEntries(Value):
    """The leader replicates `entries` behind (`prev_log_index`, `prev_log_term`); without entries it is a
    heartbeat. `leader_commit` is the leader's commit index (section 5.3)."""

    __slots__ = ("entries", "leader", "leader_commit", "prev_log_index", "prev_log_term", "term")
    __match_args__: ClassVar[tuple[str, ...]] = (
        "term",
        "leader",
        "prev_log_index",
        "prev_log_term",
        "entries",
        "leader_commit",
    )

    def __init__(
        self,
        term: Term,
        leader: NodeId,
        prev_log_index: Index,
        prev_log_term: Term,
        entries: Iterable[LogEntry],
        leader_commit: Index,
    ) -> None:
        self.term: i64 = checked(term, "term")
        self.leader: i64 = checked(leader, "leader")
        self.prev_log_index: i64 = checked(prev_log_index, "prev_log_index")
        self.prev_log_term: i64 = checked(prev_log_term, "prev_log_term")
        self.entries: tuple[LogEntry, ...] = tuple(entries)
        for entry in self.entries:
            if not isinstance(entry, LogEntry):
                raise TypeError(f"entries must hold LogEntry, not {type(entry).__name__}")
        self.leader_commit: i64 = checked(leader_commit, "leader_commit")


@final
@mypyc_attr(acyclic=True)
class AppendEntriesReply(Value):
    """The answer to an `AppendEntries`.

    On success `match_index` is the last index known to agree with the leader's log. On a refusal
    (`conflict_index`, `conflict_term`) is the hint by which the leader skips a whole term at once
    (section 5.3, end): `(last index + 1, 0)` when the log is too short, else the first index of the
    conflicting term and that term.
    """

    __slots__ = ("conflict_index", "conflict_term", "match_index", "sender", "success", "term")
    __match_args__: ClassVar[tuple[str, ...]] = (
        "term",
        "success",
        "sender",
        "match_index",
        "conflict_index",
        "conflict_term",
    )

    def __init__(
        self,
        term: Term,
        success: bool,
        sender: NodeId,
        match_index: Index,
        conflict_index: Index = 0,
        conflict_term: Term = 0,
    ) -> None:
        self.term: i64 = checked(term, "term")
        self.success: bool = checked_bool(success, "success")
        self.sender: i64 = checked(sender, "sender")
        self.match_index: i64 = checked(match_index, "match_index")
        self.conflict_index: i64 = checked(conflict_index, "conflict_index")
        self.conflict_term: i64 = checked(conflict_term, "conflict_term")


Message: TypeAlias = Union[RequestVote, RequestVoteReply, AppendEntries, AppendEntriesReply]
"""Every message has a `term`, which the receiver looks at first (section 5.1)."""
