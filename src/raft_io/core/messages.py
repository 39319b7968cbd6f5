"""Messages: the RPCs of the paper (figures 2 and 13) and of the thesis, requests and replies apart.

Each is plain data. The core never sends one: it returns `Send` actions that carry them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeAlias, Union, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.types import (
    Index,
    LogEntry,
    Membership,
    NodeId,
    Term,
    Value,
    checked,
    checked_bool,
    checked_bytes,
)

__all__ = [
    "AppendEntries",
    "AppendEntriesReply",
    "InstallSnapshot",
    "InstallSnapshotReply",
    "Message",
    "PreVote",
    "PreVoteReply",
    "ReadIndexReply",
    "ReadIndexRequest",
    "RequestVote",
    "RequestVoteReply",
    "TimeoutNow",
]


@final
@mypyc_attr(acyclic=True)
class PreVote(Value):
    """A node asks whether it could win an election in `term`, one after its own, before it disturbs anybody
    by entering it. The receiver does not adopt the term (thesis, section 9.6)."""

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
class PreVoteReply(Value):
    """The answer to a `PreVote`: a grant echoes the term that was asked for, a refusal carries the
    responder's own."""

    __slots__ = ("sender", "term", "vote_granted")
    __match_args__: ClassVar[tuple[str, ...]] = ("term", "vote_granted", "sender")

    def __init__(self, term: Term, vote_granted: bool, sender: NodeId) -> None:
        self.term: i64 = checked(term, "term")
        self.vote_granted: bool = checked_bool(vote_granted, "vote_granted")
        self.sender: i64 = checked(sender, "sender")


@final
@mypyc_attr(acyclic=True)
class RequestVote(Value):
    """A candidate asks for a vote in `term`; the log's last index and term let voters compare logs (section
    5.4.1). `force`: the leader itself asked for this campaign (`TimeoutNow`), so that who hears a leader
    votes as well (thesis, section 4.2.3)."""

    __slots__ = ("candidate", "force", "last_log_index", "last_log_term", "term")
    __match_args__: ClassVar[tuple[str, ...]] = (
        "term",
        "candidate",
        "last_log_index",
        "last_log_term",
        "force",
    )

    def __init__(
        self,
        term: Term,
        candidate: NodeId,
        last_log_index: Index,
        last_log_term: Term,
        force: bool = False,
    ) -> None:
        self.term: i64 = checked(term, "term")
        self.candidate: i64 = checked(candidate, "candidate")
        self.last_log_index: i64 = checked(last_log_index, "last_log_index")
        self.last_log_term: i64 = checked(last_log_term, "last_log_term")
        self.force: bool = checked_bool(force, "force")


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
    heartbeat. `leader_commit` is the leader's commit index (section 5.3). `round` counts the leader's rounds
    in its term: a reply to it shows that the follower still followed when the round began (`0`: none)."""

    __slots__ = ("entries", "leader", "leader_commit", "prev_log_index", "prev_log_term", "round", "term")
    __match_args__: ClassVar[tuple[str, ...]] = (
        "term",
        "leader",
        "prev_log_index",
        "prev_log_term",
        "entries",
        "leader_commit",
        "round",
    )

    def __init__(
        self,
        term: Term,
        leader: NodeId,
        prev_log_index: Index,
        prev_log_term: Term,
        entries: Iterable[LogEntry],
        leader_commit: Index,
        round: int = 0,  # noqa: A002 - the name of the field
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
        self.round: i64 = checked(round, "round")


@final
@mypyc_attr(acyclic=True)
class AppendEntriesReply(Value):
    """The answer to an `AppendEntries`.

    On success `match_index` is the last index known to agree with the leader's log. On a refusal
    (`conflict_index`, `conflict_term`) is the hint by which the leader skips a whole term at once
    (section 5.3, end): `(last index + 1, 0)` when the log is too short, else the first index of the
    conflicting term and that term. `round` is that of the request (`0`: none).
    """

    __slots__ = ("conflict_index", "conflict_term", "match_index", "round", "sender", "success", "term")
    __match_args__: ClassVar[tuple[str, ...]] = (
        "term",
        "success",
        "sender",
        "match_index",
        "conflict_index",
        "conflict_term",
        "round",
    )

    def __init__(
        self,
        term: Term,
        success: bool,
        sender: NodeId,
        match_index: Index,
        conflict_index: Index = 0,
        conflict_term: Term = 0,
        round: int = 0,  # noqa: A002 - the name of the field
    ) -> None:
        self.term: i64 = checked(term, "term")
        self.success: bool = checked_bool(success, "success")
        self.sender: i64 = checked(sender, "sender")
        self.match_index: i64 = checked(match_index, "match_index")
        self.conflict_index: i64 = checked(conflict_index, "conflict_index")
        self.conflict_term: i64 = checked(conflict_term, "conflict_term")
        self.round: i64 = checked(round, "round")


@final
@mypyc_attr(acyclic=True)
class InstallSnapshot(Value):
    """A piece of the leader's snapshot, for a follower whose entries the leader no longer has (figure 13).

    `index`, `snapshot_term` and `membership` are those of the snapshot; `data` are its bytes from `offset`
    on, `done` says that they are the last. `size` and `checksum` are those of the whole (`0`: not told): a
    transfer goes on only where all of index, term, size and checksum agree.
    """

    __slots__ = (
        "checksum",
        "data",
        "done",
        "index",
        "leader",
        "membership",
        "offset",
        "size",
        "snapshot_term",
        "term",
    )
    __match_args__: ClassVar[tuple[str, ...]] = (
        "term",
        "leader",
        "index",
        "snapshot_term",
        "membership",
        "offset",
        "data",
        "done",
        "size",
        "checksum",
    )

    def __init__(
        self,
        term: Term,
        leader: NodeId,
        index: Index,
        snapshot_term: Term,
        membership: Membership,
        offset: int,
        data: bytes,
        done: bool,
        size: int = 0,
        checksum: int = 0,
    ) -> None:
        self.term: i64 = checked(term, "term")
        self.leader: i64 = checked(leader, "leader")
        self.index: i64 = checked(index, "index")
        self.snapshot_term: i64 = checked(snapshot_term, "snapshot_term")
        if not isinstance(membership, Membership):
            raise TypeError(f"membership must be a Membership, not {type(membership).__name__}")
        self.membership: Membership = membership
        self.offset: i64 = checked(offset, "offset")
        self.data: bytes = checked_bytes(data, "data")
        self.done: bool = checked_bool(done, "done")
        self.size: i64 = checked(size, "size")
        self.checksum: i64 = checked(checksum, "checksum")


@final
@mypyc_attr(acyclic=True)
class InstallSnapshotReply(Value):
    """The answer to an `InstallSnapshot` that does not complete the snapshot at `index`: `offset` is the next
    byte wanted. Once it is installed and durable the follower answers with an `AppendEntriesReply`."""

    __slots__ = ("index", "offset", "sender", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("term", "sender", "index", "offset")

    def __init__(self, term: Term, sender: NodeId, index: Index, offset: int) -> None:
        self.term: i64 = checked(term, "term")
        self.sender: i64 = checked(sender, "sender")
        self.index: i64 = checked(index, "index")
        self.offset: i64 = checked(offset, "offset")


@final
@mypyc_attr(acyclic=True)
class TimeoutNow(Value):
    """The leader hands over: the receiver is to campaign at once (thesis, section 3.10). `round` is the
    leader's when it was sent (`0`: none); who has seen a later one since ignores it as out of date."""

    __slots__ = ("leader", "round", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("term", "leader", "round")

    def __init__(self, term: Term, leader: NodeId, round: int = 0) -> None:  # noqa: A002
        self.term: i64 = checked(term, "term")
        self.leader: i64 = checked(leader, "leader")
        self.round: i64 = checked(round, "round")


@final
@mypyc_attr(acyclic=True)
class ReadIndexRequest(Value):
    """A follower asks the leader for a linearizable read point (thesis, section 6.4)."""

    __slots__ = ("context", "sender", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("term", "sender", "context")

    def __init__(self, term: Term, sender: NodeId, context: bytes) -> None:
        self.term: i64 = checked(term, "term")
        self.sender: i64 = checked(sender, "sender")
        self.context: bytes = checked_bytes(context, "context")


@final
@mypyc_attr(acyclic=True)
class ReadIndexReply(Value):
    """The leader's answer: who has applied through `index` may serve the read."""

    __slots__ = ("context", "index", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("term", "context", "index")

    def __init__(self, term: Term, context: bytes, index: Index) -> None:
        self.term: i64 = checked(term, "term")
        self.context: bytes = checked_bytes(context, "context")
        self.index: i64 = checked(index, "index")


# The most frequent first: compiled code looks at a field of a union class by class.
Message: TypeAlias = Union[
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    InstallSnapshot,
    InstallSnapshotReply,
    TimeoutNow,
    ReadIndexRequest,
    ReadIndexReply,
]
"""Every message has a `term`, which the receiver looks at first (section 5.1)."""


def checked_message(message: Message) -> Message:
    """`message` if it is one; `TypeError` otherwise."""
    if not isinstance(message, (AppendEntries, AppendEntriesReply)) and not isinstance(
        message,
        (
            PreVote,
            PreVoteReply,
            RequestVote,
            RequestVoteReply,
            InstallSnapshot,
            InstallSnapshotReply,
            TimeoutNow,
            ReadIndexRequest,
            ReadIndexReply,
        ),
    ):
        raise TypeError(f"message must be a Message, not {type(message).__name__}")
    return message


def origin_of(message: Message) -> i64:
    """Whom the message says it is from; `-1` for a `ReadIndexReply`, which says nothing of it."""
    if isinstance(message, (AppendEntries, InstallSnapshot, TimeoutNow)):
        return message.leader
    if isinstance(message, (RequestVote, PreVote)):
        return message.candidate
    if isinstance(message, ReadIndexReply):
        return -1
    return message.sender
