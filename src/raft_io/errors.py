"""Every exception of the library.

    RaftError
    ├── NotLeaderError        a proposal reached a node that does not lead
    ├── StorageError          the log failed; the node that used it is dead
    │   └── CorruptLogError   the log on disk is damaged; names the file and the place
    ├── OverloadedError       too much is uncommitted; try again later
    ├── TransferInProgressError          leadership is being handed over; try again soon
    ├── MembershipChangeInProgressError  one change of membership at a time
    ├── WireError             bytes that are no message
    ├── RemovedError          this node was removed from the cluster
    ├── IdentityError         a data directory that belongs to somebody else
    ├── CommandError          the state machine refused a command (the application raises it)
    └── SessionExpiredError   whether a keyed proposal was applied is no longer known

An outcome that is unknown is the built-in `TimeoutError`. Misuse of a constructor or a function is the
built-in `ValueError` or `TypeError`.

Every instance says what it is in general (`kind`, `caption`) and what to do with it (`is_retryable`,
`is_fatal`: the node that raised it cannot be used any more).
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CommandError",
    "CorruptLogError",
    "IdentityError",
    "MembershipChangeInProgressError",
    "NotLeaderError",
    "OverloadedError",
    "RaftError",
    "RemovedError",
    "SessionExpiredError",
    "StorageError",
    "TransferInProgressError",
    "WireError",
]


class RaftError(Exception):
    """The root of the library's exceptions."""

    kind: ClassVar[str] = "Raft"
    caption: ClassVar[str] = "Raft error"
    is_retryable: ClassVar[bool] = False
    is_fatal: ClassVar[bool] = False


class NotLeaderError(RaftError):
    """A proposal reached a node that is not the leader.

    `leader` is the leader that the node knows of, to redirect to, or `None` during an election.
    """

    kind = "NotLeader"
    caption = "Not the leader"
    is_retryable = True

    def __init__(self, leader: int | None = None) -> None:
        super().__init__(leader)
        self.leader = leader

    def __str__(self) -> str:
        if self.leader is None:
            return "not the leader; no leader is currently known"
        return f"not the leader; current leader is node {self.leader}"


def detail(context: str, source: BaseException) -> str:
    """What an exception says, of the operating system's without the number."""
    if not isinstance(source, OSError) or not source.strerror:
        return str(source) or type(source).__name__
    path = source.filename
    return source.strerror if path is None or str(path) in context else f"{source.strerror}: {path}"


class StorageError(RaftError):
    """The log could not do what was asked of it. Fatal: what is on the disk is no longer known.

    `context` names the operation, `detail` is the backend's message.
    """

    kind = "Storage"
    caption = "Log storage failure"
    is_fatal = True

    def __init__(self, context: str, detail: str) -> None:
        super().__init__(context, detail)
        self.context = context
        self.detail = detail

    def __str__(self) -> str:
        return f"log storage error while {self.context}: {self.detail}"

    @classmethod
    def wrap(cls, context: str, source: BaseException) -> StorageError:
        """A `StorageError` made of any exception, which becomes its cause."""
        error = StorageError(context, detail(context, source))
        error.__cause__ = source
        return error


class CorruptLogError(StorageError):
    """The log on disk is damaged in a way that no crash explains. `path` and `offset` (bytes) say where."""

    kind = "CorruptLog"
    caption = "Log corrupted"

    def __init__(self, context: str, detail: str, path: str, offset: int) -> None:
        super().__init__(context, detail)
        self.args = (context, detail, path, offset)
        self.path = path
        self.offset = offset

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.path}, byte {self.offset})"


class OverloadedError(RaftError):
    """The leader has as much uncommitted as it may hold; nothing was appended. Try again later."""

    kind = "Overloaded"
    caption = "Overloaded"
    is_retryable = True

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "too much is uncommitted; try again later"


class TransferInProgressError(RaftError):
    """The leader is handing over, and takes no proposals meanwhile. Try again soon."""

    kind = "TransferInProgress"
    caption = "Leadership transfer in progress"
    is_retryable = True

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "leadership is being handed over; try again soon"


class MembershipChangeInProgressError(RaftError):
    """An earlier change of membership is not done yet; there is one at a time. Try again later."""

    kind = "MembershipChangeInProgress"
    caption = "Membership change in progress"
    is_retryable = True

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "a change of membership is in progress; try again later"


class RemovedError(RaftError):
    """This node is no member of the cluster any more; its server has stopped."""

    kind = "Removed"
    caption = "Removed from the cluster"
    is_fatal = True

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "this node was removed from the cluster"


class WireError(RaftError):
    """Bytes that are not a message. `detail` says what is wrong with them."""

    kind = "Wire"
    caption = "Malformed message"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"malformed message: {self.detail}"


class IdentityError(RaftError):
    """A data directory that was made for another node, another cluster or other initial voters."""

    kind = "Identity"
    caption = "Data directory of somebody else"
    is_fatal = True


class CommandError(RaftError):
    """Raised by a state machine's `apply` to refuse a command; goes back to whoever proposed it."""

    kind = "Command"
    caption = "Command refused"


class SessionExpiredError(RaftError):
    """The record of a proposal was evicted: its outcome is unknown, and it is not applied again."""

    kind = "SessionExpired"
    caption = "Session expired"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "the session was evicted; the outcome is unknown"
