"""Raft consensus as a deterministic, sans-I/O state machine, and what it takes to run it.

The core is `RaftNode`: feed it events, carry out the actions it returns. `raft_io.server` runs it for you.
"""

from __future__ import annotations

from raft_io import wire
from raft_io._version import __version__ as __version__
from raft_io.core.actions import (
    Action,
    Apply,
    MembershipChanged,
    MembershipCommitted,
    ReadFailed,
    ReadReady,
    RestoreSnapshot,
    Send,
    Sync,
    TakeSnapshot,
)
from raft_io.core.config import RaftConfig
from raft_io.core.events import (
    ChangeMembership,
    Event,
    Propose,
    ReadIndex,
    Receive,
    SnapshotTaken,
    Synced,
    SyncFailed,
    Tick,
    TransferLeadership,
)
from raft_io.core.log import MemoryLog, RaftLog
from raft_io.core.members import decode_membership, encode_membership
from raft_io.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raft_io.core.node import RaftNode
from raft_io.core.status import FollowerStatus, Status
from raft_io.core.transport import MemoryTransport, RaftTransport
from raft_io.core.types import (
    EntryKind,
    HardState,
    Index,
    LogEntry,
    Membership,
    NodeId,
    Role,
    Snapshot,
    SnapshotData,
    SnapshotMeta,
    Term,
)
from raft_io.errors import (
    CommandError,
    CorruptLogError,
    IdentityError,
    MembershipChangeInProgressError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    RemovedError,
    SessionExpiredError,
    StorageError,
    TransferInProgressError,
    WireError,
)
from raft_io.storage.wal import WalLog

__all__ = [
    "COMPILED",
    "Action",
    "AppendEntries",
    "AppendEntriesReply",
    "Apply",
    "ChangeMembership",
    "CommandError",
    "CorruptLogError",
    "EntryKind",
    "Event",
    "FollowerStatus",
    "HardState",
    "IdentityError",
    "Index",
    "InstallSnapshot",
    "InstallSnapshotReply",
    "LogEntry",
    "Membership",
    "MembershipChangeInProgressError",
    "MembershipChanged",
    "MembershipCommitted",
    "MemoryLog",
    "MemoryTransport",
    "Message",
    "NodeId",
    "NotLeaderError",
    "OverloadedError",
    "PreVote",
    "PreVoteReply",
    "Propose",
    "RaftConfig",
    "RaftError",
    "RaftLog",
    "RaftNode",
    "RaftTransport",
    "ReadFailed",
    "ReadIndex",
    "ReadIndexReply",
    "ReadIndexRequest",
    "ReadReady",
    "Receive",
    "RemovedError",
    "RequestVote",
    "RequestVoteReply",
    "RestoreSnapshot",
    "Role",
    "Send",
    "SessionExpiredError",
    "Snapshot",
    "SnapshotData",
    "SnapshotMeta",
    "SnapshotTaken",
    "Status",
    "StorageError",
    "Sync",
    "SyncFailed",
    "Synced",
    "TakeSnapshot",
    "Term",
    "Tick",
    "TimeoutNow",
    "TransferInProgressError",
    "TransferLeadership",
    "WalLog",
    "WireError",
    "decode_membership",
    "encode_membership",
    "wire",
]

COMPILED: bool = not str(wire.__file__).endswith(".py")
"""Whether the core and the codec run compiled."""
