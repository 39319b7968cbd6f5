"""Data directories of nodes, with a log in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from raft_io import EntryKind, HardState, LogEntry, Membership, Snapshot, WalLog, encode_membership
from raft_io.storage import OsFileSystem, open_identity

__all__ = ["data_dir", "entries", "flip", "membership"]


def entries(first: int, last: int, term: int = 1) -> list[LogEntry]:
    """Entries with something in them."""
    return [LogEntry(term, index, b"command %d" % index) for index in range(first, last + 1)]


def membership(index: int, term: int, voters: Iterable[int], learners: Iterable[int] = ()) -> LogEntry:
    """An entry that changes the members."""
    return LogEntry(term, index, encode_membership(Membership(voters, learners)), EntryKind.MEMBERSHIP)


def data_dir(
    folder: Path,
    node: int = 1,
    voters: Sequence[int] = (1, 2, 3),
    batches: Sequence[Sequence[LogEntry]] = (),
    snapshot: int = 0,
    state: HardState | None = None,
) -> Path:
    """The directory of a node whose log got these entries, with a sync after each batch."""
    where = folder / f"node-{node}"
    open_identity(OsFileSystem(), where, "shop", node, voters, lambda: 7)
    with WalLog.open(where / "log") as log:
        if state is not None:
            log.set_hard_state(state)
            log.sync()
        for batch in batches:
            log.append(batch)
            log.sync()
        if snapshot:
            term = log.term_at(snapshot)
            assert term is not None
            log.save_snapshot(Snapshot(snapshot, term, Membership(voters), b"state" * 100))
            log.sync()
    return where


def flip(path: Path, offset: int) -> None:
    """Damage a byte of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)
