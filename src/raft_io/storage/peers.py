"""What a node remembers of the others across restarts: `peers.json`, beside the identity file.

The incarnation of every peer that it has met, so that a node that lost its data is not taken for the voter it
was; and the last table of members that it knows of, so that it finds them again before it has applied its
log. Rewritten as a whole whenever one of them changes.
"""

from __future__ import annotations

import os
from typing import Any, Final, final

from raft_io.core.types import NodeId, checked
from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage.disk import write_file
from raft_io.storage.fs import FileSystem
from raft_io.storage.sealed import read_sealed, seal, unseal

__all__ = ["PeerFile", "Peers"]

VERSION: Final = 1
FILE_NAME: Final = "peers.json"
WHAT: Final = "the file of peers"


@final
class Peers:
    """What is remembered.

    - `met`: the incarnations that peers introduced themselves with, by id.
    - `members`: address and incarnation (0: not known) by id, the replicated table as of entry `as_of`.
    - `joined`: the index by which this node itself was known to be a member; `0`: not yet.
    - `settled`: it has become what it was to become when it joined.
    """

    __slots__ = ("as_of", "joined", "members", "met", "settled")

    def __init__(self) -> None:
        self.met: dict[NodeId, int] = {}
        self.members: dict[NodeId, tuple[str, int]] = {}
        self.as_of: int = 0
        self.joined: int = 0
        self.settled: bool = False

    def encode(self) -> bytes:
        """The contents of the file."""
        return seal(
            {
                "version": VERSION,
                "met": {str(node): incarnation for node, incarnation in self.met.items()},
                "members": {str(node): list(row) for node, row in self.members.items()},
                "as_of": self.as_of,
                "joined": self.joined,
                "settled": self.settled,
            }
        )

    @classmethod
    def decode(cls, data: bytes, path: str) -> Peers:
        """What `data` says. Raises `CorruptLogError` naming `path`, `StorageError` for a newer version."""
        fields = unseal(data, WHAT, path, VERSION)
        found = cls()
        try:
            found.met = {_id(key): int(checked(value, "met")) for key, value in fields["met"].items()}
            found.members = {_id(key): _row(row) for key, row in fields["members"].items()}
            found.as_of = int(checked(fields["as_of"], "as_of"))
            found.joined = int(checked(fields["joined"], "joined"))
            found.settled = fields["settled"] is True
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CorruptLogError(f"reading {WHAT}", f"it makes no sense: {error!r}", path, 0) from error
        return found


def _id(key: str) -> NodeId:
    return int(checked(int(key), "an id"))


def _row(row: Any) -> tuple[str, int]:
    address, incarnation = row
    if not isinstance(address, str):
        raise TypeError(f"an address must be a str, not {type(address).__name__}")
    return address, int(checked(incarnation, "an incarnation"))


@final
class PeerFile:
    """The file. `peers` is what it holds, or will hold after the next `save`."""

    __slots__ = ("_fs", "_path", "_saved", "peers")

    def __init__(self, fs: FileSystem, data_dir: str | os.PathLike[str]) -> None:
        """Read the file, if there is one. Raises `CorruptLogError`, or `StorageError` if the disk fails."""
        where = os.path.abspath(data_dir)
        self._fs = fs
        self._path = os.path.join(where, FILE_NAME)
        try:
            if FILE_NAME in fs.listdir(where):
                self._saved = read_sealed(fs, self._path, WHAT)
                self.peers = Peers.decode(self._saved, self._path)
            else:
                self.peers = Peers()
                self._saved = self.peers.encode()
        except OSError as error:
            raise StorageError.wrap(f"reading {self._path}", error) from error

    def save(self) -> None:
        """Make it durable, if anything has changed. Raises `StorageError`; may be tried again."""
        data = self.peers.encode()
        if data == self._saved:
            return
        try:
            write_file(self._fs, self._path, data)
        except OSError as error:
            raise StorageError.wrap(f"writing {self._path}", error) from error
        self._saved = data
