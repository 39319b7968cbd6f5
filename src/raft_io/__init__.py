"""Raft consensus as a deterministic, sans-I/O state machine, and what it takes to run it.

The core is `RaftNode`: feed it events, carry out the actions it returns. `raft_io.server` runs it for you.
"""

from __future__ import annotations

from raft_io import wire
from raft_io._version import __version__ as __version__
from raft_io.core.actions import Action, Apply, Send, Sync
from raft_io.core.config import RaftConfig
from raft_io.core.events import Event, Propose, Receive, Synced, SyncFailed, Tick
from raft_io.core.log import MemoryLog, RaftLog
from raft_io.core.messages import AppendEntries, AppendEntriesReply, Message, RequestVote, RequestVoteReply
from raft_io.core.node import RaftNode
from raft_io.core.status import FollowerStatus, Status
from raft_io.core.transport import MemoryTransport, RaftTransport
from raft_io.core.types import EntryKind, HardState, Index, LogEntry, Membership, NodeId, Role, Term
from raft_io.errors import (
    CommandError,
    CorruptLogError,
    IdentityError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    SessionExpiredError,
    StorageError,
    WireError,
)
from raft_io.storage.wal import WalLog

__all__ = [
    "COMPILED",
    "Action",
    "AppendEntries",
    "AppendEntriesReply",
    "Apply",
    "CommandError",
    "CorruptLogError",
    "EntryKind",
    "Event",
    "FollowerStatus",
    "HardState",
    "IdentityError",
    "Index",
    "LogEntry",
    "Membership",
    "MemoryLog",
    "MemoryTransport",
    "Message",
    "NodeId",
    "NotLeaderError",
    "OverloadedError",
    "Propose",
    "RaftConfig",
    "RaftError",
    "RaftLog",
    "RaftNode",
    "RaftTransport",
    "Receive",
    "RequestVote",
    "RequestVoteReply",
    "Role",
    "Send",
    "SessionExpiredError",
    "Status",
    "StorageError",
    "Sync",
    "SyncFailed",
    "Synced",
    "Term",
    "Tick",
    "WalLog",
    "WireError",
    "wire",
]

COMPILED: bool = not str(wire.__file__).endswith(".py")
"""Whether the core and the codec run compiled."""
