"""What a server finds in its data directory: who it is, its log, and what it remembers of the others."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raft_io.core.config import RaftConfig
from raft_io.errors import IdentityError, RaftError
from raft_io.storage import (
    FileSystem,
    Identity,
    PeerFile,
    WalLog,
    check_log,
    check_voters,
    has_identity,
    open_identity,
)
from raft_io.storage.identity import LOG_NAME, read_identity
from raft_io.storage.inspect import RecordInfo, SegmentInfo, log_directory, walk

__all__ = ["Recovered", "recover"]

START_OVER: Final = "; it has joined nothing yet: remove it to start over"

log = logging.getLogger("raft_io.server")


@dataclass(frozen=True, slots=True)
class Recovered:
    """A data directory, opened. `config` has the initial voters that count."""

    identity: Identity
    config: RaftConfig
    log: WalLog
    peers: PeerFile


def _random_incarnation() -> int:
    return 1 + secrets.randbelow(2**63 - 1)


def recover(
    fs: FileSystem,
    data_dir: Path,
    cluster_id: str,
    config: RaftConfig,
    *,
    open_log: Callable[[Path], WalLog] | None = None,
    incarnation: Callable[[], int] = _random_incarnation,
) -> Recovered:
    """Open the data directory, or make it. Raises `IdentityError` if it is somebody else's, `StorageError`
    if it cannot be used. `incarnation` draws the number of a directory that is new.

    The initial voters are those of the first start. They count until the log has a membership of its own:
    up to then a node that is configured with others is refused, after that the configuration has no say.
    """
    voters = [] if config.joins else sorted([config.id, *config.peers])
    returns = has_identity(fs, data_dir)
    log_dir = data_dir / LOG_NAME

    def opened() -> WalLog:
        return open_log(log_dir) if open_log is not None else WalLog.open(log_dir, fs=fs)

    try:
        identity = open_identity(
            fs, data_dir, cluster_id, config.id, voters, incarnation, lambda: opened().close()
        )
    except IdentityError as error:
        if returns and _has_joined_nothing(fs, data_dir):
            raise IdentityError(f"{error}{START_OVER}") from error
        raise
    if returns:
        check_log(fs, data_dir)
    wal = opened()
    try:
        if returns:
            _check_voters(data_dir, identity, wal, voters)
        peers = PeerFile(fs, data_dir)
    except BaseException:
        wal.close()
        raise
    return Recovered(identity, _initial(config, identity), wal, peers)


def _has_joined_nothing(fs: FileSystem, data_dir: Path) -> bool:
    """Whether the directory was made to join a cluster, and nothing has come from one so far."""
    try:
        found = read_identity(fs, data_dir)
        if found.voters:
            return False
        for item in walk(log_directory(data_dir, fs), fs):
            if not isinstance(item, SegmentInfo) and not (isinstance(item, RecordInfo) and not item.entries):
                return False
    except (RaftError, OSError):
        return False
    return True


def _check_voters(data_dir: Path, identity: Identity, wal: WalLog, voters: list[int]) -> None:
    if wal.snapshot() is not None or wal.membership_entries():
        # A node that was told of no peers is alone in what it was told.
        if voters and voters != [identity.node_id] and tuple(voters) != identity.voters:
            log.info(
                "node %s: the configured peers are ignored: the members are in the log by now",
                identity.node_id,
            )
        return
    if voters == [identity.node_id] and not identity.voters:
        return  # it has joined, or is about to: that needs no peers
    if voters:
        try:
            check_voters(data_dir, identity, voters)
        except IdentityError as error:
            if not identity.voters and not wal.last_index():
                raise IdentityError(f"{error}{START_OVER}") from error
            raise
    elif identity.voters and wal.last_index() == 0:
        raise IdentityError(
            f"{data_dir.absolute()} was made for an initial voter, which has never written anything: "
            "a node that lost its data joins with an empty directory"
        )


def _initial(config: RaftConfig, identity: Identity) -> RaftConfig:
    if identity.voters:
        return config.replace(peers=identity.voters, joins=False)
    return config.replace(peers=(), joins=True)
