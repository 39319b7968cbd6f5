"""The identity file: whose data directory this is. Kept beside the log, in `data_dir`.

A checksummed line of JSON, written once, under a temporary name first. A node that started with another's
log could vote twice: it is refused. The initial voters count until the log has a membership of its own; until
then a node that starts with others, and so could count another majority, is refused as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, final

from raft_io.core.types import NodeId, checked
from raft_io.errors import CorruptLogError, IdentityError, StorageError
from raft_io.storage.disk import make_directory, write_file
from raft_io.storage.fs import FileSystem
from raft_io.storage.inspect import walk
from raft_io.storage.items import SegmentInfo
from raft_io.storage.names import SUFFIX
from raft_io.storage.peers import FILE_NAME as PEERS_NAME
from raft_io.storage.sealed import read_sealed, seal, unseal

__all__ = [
    "RESTORING",
    "Identity",
    "check_log",
    "check_voters",
    "has_identity",
    "open_identity",
    "read_identity",
]

VERSION: Final = 1
FILE_NAME: Final = "identity.json"
WHAT: Final = "the identity file"
SALVAGED: Final = "salvaged.json"
"""Beside the log once it has been salvaged (`raft_io.storage.recover`): its node may come back by joining."""

LOG_NAME: Final = "log"
"""The directory of the log, in the data directory."""

RESTORING: Final = "restoring"
"""Below it `raft-io restore` makes the log, and takes the directory away once that is whole."""


@final
class Identity:
    """Who a data directory belongs to. `voters` are the initial ones; a node that joined a cluster has none.
    `incarnation` is drawn when it is made: a directory that was lost and made again has another one."""

    __slots__ = ("cluster_id", "incarnation", "node_id", "voters")

    def __init__(self, cluster_id: str, node_id: NodeId, voters: Iterable[NodeId], incarnation: int) -> None:
        if not isinstance(cluster_id, str):
            raise TypeError(f"cluster_id must be a str, not {type(cluster_id).__name__}")
        self.cluster_id = cluster_id
        self.node_id = int(checked(node_id, "node_id"))
        self.voters = tuple(sorted({int(checked(voter, "an id in voters")) for voter in voters}))
        self.incarnation = int(checked(incarnation, "incarnation"))

    def __repr__(self) -> str:
        return (
            f"Identity(cluster_id={self.cluster_id!r}, node_id={self.node_id}, "
            f"voters={list(self.voters)}, incarnation={self.incarnation})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and encode(self) == encode(other)

    def __hash__(self) -> int:
        return hash(encode(self))


def encode(identity: Identity) -> bytes:
    """The contents of the file."""
    return seal(
        {
            "version": VERSION,
            "cluster_id": identity.cluster_id,
            "node_id": identity.node_id,
            "voters": list(identity.voters),
            "incarnation": identity.incarnation,
        }
    )


def decode(data: bytes, path: str) -> Identity:
    """The identity in `data`. Raises `CorruptLogError` naming `path`, `StorageError` for a newer version."""
    fields = unseal(data, WHAT, path, VERSION)
    try:
        return Identity(fields["cluster_id"], fields["node_id"], fields["voters"], fields["incarnation"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLogError(f"reading {WHAT}", f"it makes no sense: {error!r}", path, 0) from error


def read_identity(fs: FileSystem, data_dir: str | os.PathLike[str]) -> Identity:
    """The identity of a directory that has one. Raises `StorageError` or `OSError`."""
    path = os.path.join(os.path.abspath(data_dir), FILE_NAME)
    return decode(read_sealed(fs, path, WHAT), path)


def open_identity(
    fs: FileSystem,
    data_dir: str | os.PathLike[str],
    cluster_id: str,
    node_id: NodeId,
    voters: Iterable[NodeId],
    incarnation_factory: Callable[[], int],
    make_log: Callable[[], None] | None = None,
) -> Identity:
    """The identity of the data directory, made durably if the directory is new. Before that, `make_log` makes
    a log in it: a directory with an identity and no log has lost it, however its first start went.

    `voters` are the initial voters, none for a node that is to join; of a directory that is not new,
    `check_voters` compares them. `incarnation_factory` returns a random number in `1 .. 2**63 - 1`. Call this
    before the log is opened. Raises `IdentityError` if the directory belongs to another node or cluster, has
    a log that was written but no identity, or holds a restore that was cut short; `CorruptLogError` if the
    file is damaged, `StorageError` if the disk fails.
    """
    where = os.path.abspath(data_dir)
    path = os.path.join(where, FILE_NAME)
    try:
        make_directory(fs, where)
        names = fs.listdir(where)
        _check_restored(fs, where, names)
        if FILE_NAME in names:
            found = decode(read_sealed(fs, path, WHAT), path)
            _compare(where, found, Identity(cluster_id, node_id, found.voters, found.incarnation))
            fs.sync_dir(where)
            return found
        made = Identity(cluster_id, node_id, voters, incarnation_factory())
        if _has_log(fs, where, names) and not _is_unused(fs, where, names):
            _check_salvaged(where, names, made)
        if make_log is not None:
            make_log()
        write_file(fs, path, encode(made))
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"opening {where}", "it is not a directory") from error
    except OSError as error:
        raise StorageError.wrap(f"opening {path}", error) from error
    return made


def _check_restored(fs: FileSystem, where: str, names: list[str]) -> None:
    """What a restore that was cut short has left is no node: an empty one could outvote those that have the
    state."""
    if RESTORING in names and not _has_log(fs, where, names):
        raise IdentityError(f"a restore into {where} was cut short; empty the directory and restore again")


def _check_salvaged(where: str, names: list[str], made: Identity) -> None:
    """A log without an identity is fine for a node that joins, if it was salvaged."""
    if SALVAGED not in names:
        raise IdentityError(
            f"{where} holds a log but no {FILE_NAME}, so whose log it is cannot be told; "
            f"put the file back: a node that starts without its log may vote twice"
        )
    if made.voters:
        raise IdentityError(
            f"{where} holds a log that was salvaged: what its node acknowledged may be gone, so that it may "
            "only come back by joining: raft-io serve --join HOST:PORT"
        )


def has_identity(fs: FileSystem, data_dir: str | os.PathLike[str]) -> bool:
    """Whether the data directory is there and has an identity. Raises `StorageError` if the disk fails."""
    where = os.path.abspath(data_dir)
    try:
        return FILE_NAME in fs.listdir(where)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError.wrap(f"listing {where}", error) from error


def check_log(fs: FileSystem, data_dir: str | os.PathLike[str]) -> None:
    """Raise `IdentityError` unless the data directory holds a log. For one that is not new: without its log
    the node has forgotten its votes and what it acknowledged, and may not take part."""
    where = os.path.abspath(data_dir)
    try:
        names = fs.listdir(where)
        there = _has_log(fs, where, names)
    except OSError as error:
        raise StorageError.wrap(f"listing {where}", error) from error
    if not there:
        raise IdentityError(
            f"{where} has an {FILE_NAME} but no log: without it the node may vote twice, and lose what was "
            "acknowledged; put the log back"
        )


def _is_unused(fs: FileSystem, where: str, names: list[str]) -> bool:
    """Whether nothing was ever written into the log: a first start was cut short behind it."""
    if LOG_NAME not in names or not {SALVAGED, PEERS_NAME}.isdisjoint(names):
        return False
    return all(
        isinstance(item, SegmentInfo) and item.number == 1 for item in walk(os.path.join(where, LOG_NAME), fs)
    )


def check_voters(data_dir: str | os.PathLike[str], identity: Identity, voters: Iterable[NodeId]) -> None:
    """Raise `IdentityError` unless the directory was made with these initial voters. For a log that has no
    membership of its own: there the initial voters are what majorities are counted by."""
    asked = Identity(identity.cluster_id, identity.node_id, voters, identity.incarnation)
    _compare(os.path.abspath(data_dir), identity, asked)


def _compare(where: str, found: Identity, asked: Identity) -> None:
    if encode(found) != encode(asked):
        raise IdentityError(
            f"{where} is the data directory of {_described(found)}; asked for was {_described(asked)}"
        )


def _described(identity: Identity) -> str:
    name = f"node {identity.node_id} of cluster {identity.cluster_id!r}"
    if not identity.voters:
        return f"{name}, which joins it"
    return f"{name} with the initial voters {', '.join([str(voter) for voter in identity.voters])}"


def _has_log(fs: FileSystem, where: str, names: list[str]) -> bool:
    """Whether a segment is in the directory, or in one right below it."""
    if any(name.endswith(SUFFIX) for name in names):
        return True
    for name in sorted(names):
        try:
            below = fs.listdir(os.path.join(where, name))
        except NotADirectoryError:
            continue
        if any(entry.endswith(SUFFIX) for entry in below):
            return True
    return False
