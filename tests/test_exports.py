"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest

import raft_io
from raft_io import errors

pytestmark = pytest.mark.core

NAMES = {
    "values": "NodeId Term Index Role EntryKind LogEntry HardState Membership Snapshot SnapshotData "
    "SnapshotMeta encode_membership decode_membership",
    "node": "RaftConfig RaftNode Status FollowerStatus",
    "events": "Event Tick Receive Propose ReadIndex ChangeMembership TransferLeadership SnapshotTaken "
    "Synced SyncFailed",
    "actions": "Action Send Apply ReadReady ReadFailed TakeSnapshot RestoreSnapshot MembershipChanged "
    "MembershipCommitted Sync",
    "messages": "Message PreVote PreVoteReply RequestVote RequestVoteReply AppendEntries AppendEntriesReply "
    "InstallSnapshot InstallSnapshotReply TimeoutNow ReadIndexRequest ReadIndexReply",
    "logs": "RaftLog MemoryLog WalLog",
    "transport": "RaftTransport MemoryTransport",
    "errors": "RaftError NotLeaderError StorageError CorruptLogError OverloadedError TransferInProgressError "
    "MembershipChangeInProgressError RemovedError WireError CommandError IdentityError SessionExpiredError",
    "modules": "wire",
    "build": "COMPILED",
}


def test_the_public_names_are_these() -> None:
    assert set(raft_io.__all__) == set(" ".join(NAMES.values()).split())


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, each by name."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("module", ["raft_io", "raft_io.errors", "raft_io.wire"])
def test_all_is_sorted_without_doubles_and_importable(module: str) -> None:
    imported = importlib.import_module(module)
    names = imported.__all__
    assert names == sorted(set(names), key=order)
    assert all(hasattr(imported, name) for name in names)


def test_a_star_import_brings_just_these() -> None:
    namespace: dict[str, object] = {}
    exec("from raft_io import *", namespace)  # noqa: S102
    namespace.pop("__builtins__")
    assert set(namespace) == set(raft_io.__all__)


def loaded_by(statement: str) -> set[str]:
    """The modules that are loaded in a fresh interpreter after `statement`."""
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_it_loads_neither_asyncio_nor_sockets() -> None:
    loaded = loaded_by("import raft_io")
    assert "raft_io.core.node" in loaded
    for name in ("asyncio", "socket", "_socket", "ssl", "select", "multiprocessing", "rich"):
        assert name not in loaded, name


def test_compiled_tells_which_build_this_is() -> None:
    node = importlib.import_module("raft_io.core.node")
    assert raft_io.COMPILED is (not str(node.__file__).endswith(".py"))


def test_the_errors_that_are_exported_are_the_modules() -> None:
    for name in errors.__all__:
        assert getattr(raft_io, name) is getattr(errors, name)


ERRORS: list[tuple[raft_io.RaftError, str, str, bool, bool]] = [
    (raft_io.RaftError("x"), "Raft", "Raft error", False, False),
    (raft_io.NotLeaderError(3), "NotLeader", "Not the leader", True, False),
    (raft_io.StorageError("sync log", "EIO"), "Storage", "Log storage failure", False, True),
    (raft_io.CorruptLogError("open", "bad CRC", "a/b", 7), "CorruptLog", "Log corrupted", False, True),
    (raft_io.OverloadedError(), "Overloaded", "Overloaded", True, False),
    (
        raft_io.TransferInProgressError(),
        "TransferInProgress",
        "Leadership transfer in progress",
        True,
        False,
    ),
    (
        raft_io.MembershipChangeInProgressError(),
        "MembershipChangeInProgress",
        "Membership change in progress",
        True,
        False,
    ),
    (raft_io.RemovedError(), "Removed", "Removed from the cluster", False, True),
    (raft_io.WireError("short"), "Wire", "Malformed message", False, False),
]


@pytest.mark.parametrize(
    ("error", "kind", "caption", "retryable", "fatal"), ERRORS, ids=lambda value: type(value).__name__
)
def test_every_error_says_what_it_is_and_what_to_do(
    error: raft_io.RaftError, kind: str, caption: str, retryable: bool, fatal: bool
) -> None:
    assert (error.kind, error.caption) == (kind, caption)
    assert (error.is_retryable, error.is_fatal) == (retryable, fatal)
    assert isinstance(error, raft_io.RaftError)


@pytest.mark.parametrize("error", [error for error, *_ in ERRORS], ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling(error: raft_io.RaftError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_the_words_of_the_errors() -> None:
    assert str(raft_io.NotLeaderError(3)) == "not the leader; current leader is node 3"
    assert str(raft_io.NotLeaderError(0)) == "not the leader; current leader is node 0"
    assert str(raft_io.NotLeaderError(None)) == "not the leader; no leader is currently known"
    storage = raft_io.StorageError("sync log", "device busy")
    assert str(storage) == "log storage error while sync log: device busy"
    corrupt = raft_io.CorruptLogError("open log", "bad checksum", "d/1.seg", 512)
    assert str(corrupt) == "log storage error while open log: bad checksum (d/1.seg, byte 512)"
    assert (corrupt.context, corrupt.path, corrupt.offset) == ("open log", "d/1.seg", 512)
    assert str(raft_io.OverloadedError()) == "too much is uncommitted; try again later"
    assert str(raft_io.OverloadedError("full")) == "full"
    for error, words in (
        (raft_io.TransferInProgressError, "leadership is being handed over; try again soon"),
        (raft_io.MembershipChangeInProgressError, "a change of membership is in progress; try again later"),
        (raft_io.RemovedError, "this node was removed from the cluster"),
    ):
        assert str(error()) == words
        assert str(error("since Tuesday")) == "since Tuesday"
    assert str(raft_io.SessionExpiredError()) == "the session was evicted; the outcome is unknown"
    assert str(raft_io.WireError("short")) == "malformed message: short"


def test_wrap_chains_any_exception() -> None:
    source = OSError(28, "No space left on device")
    error = raft_io.StorageError.wrap("append entries", source)
    assert str(error) == "log storage error while append entries: No space left on device"
    assert error.__cause__ is source
    assert raft_io.StorageError.wrap("sync log", TimeoutError()).detail == "TimeoutError"
