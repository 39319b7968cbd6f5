"""Getting out of trouble, offline: a lost majority, a damaged log. Nothing here is done without being asked.

Both functions write what they did, a line of JSON, into `recovery.json` beside the log's directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from raft_io.core.members import decode_membership, encode_membership
from raft_io.core.types import MAX, EntryKind, HardState, LogEntry, Membership, NodeId
from raft_io.errors import CorruptLogError, IdentityError, StorageError
from raft_io.storage import identity
from raft_io.storage.disk import TEMPORARY, allocate, read_up_to, write_all, write_file
from raft_io.storage.fs import File, FileSystem, OsFileSystem
from raft_io.storage.index import LogIndex
from raft_io.storage.inspect import Finding, log_directory, verify
from raft_io.storage.names import LOCK_NAME, NAME, SNAPSHOT_NAME, segment_name
from raft_io.storage.records import (
    SEGMENT_HEADER,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
)
from raft_io.storage.scan import Scan
from raft_io.storage.segments import check_covered, check_start, scan_file
from raft_io.storage.snapshot_file import FileData, load_snapshot
from raft_io.storage.wal import WalLog

__all__ = ["Forced", "Salvaged", "force_membership", "salvage"]

RECORD: Final = "recovery.json"
STEP: Final = 1 << 20

SMALL: Final = 4096
"""Bytes of a segment that is there only so that there is one."""

IDENTITIES: Final = (identity.FILE_NAME, "peers.json")
"""What makes a data directory that of a member, in the directory above the log's."""


@dataclass(frozen=True, slots=True)
class Forced:
    """What `force_membership` did: the entry that it appended, and what was in force before (`None`: the
    initial voters)."""

    index: int
    term: int
    membership: Membership
    before: Membership | None
    snapshot_index: int


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What `salvage` did. `findings`: what was wrong; if nothing was, nothing was done. `last_index`: the
    last entry that is left, `moved`: the files that were moved aside, under their new names."""

    findings: tuple[Finding, ...]
    last_index: int
    moved: tuple[str, ...]


def force_membership(
    path: str | os.PathLike[str],
    fs: FileSystem | None = None,
    *,
    node_id: NodeId,
    voters: Iterable[NodeId],
    learners: Iterable[NodeId] = (),
    leap: int = 0,
    now: str | None = None,
) -> Forced:
    """Make `voters` the members of the cluster that the node `node_id`, whose log is in `path`, is to go on
    with: for when a majority of the members is lost for good.

    Everything in the log is kept, whether it was committed or not; entries that only the lost nodes had are
    lost. Do this on one of the nodes that are left, the one with the longest log; the others must come back
    with empty directories. A node that was given up and comes back after all is another cluster.

    `leap` is added to the term of the entry: a random number, so that two nodes that were both forced,
    against all advice, never take each other's entries for their own. `now` goes into the record of what was
    done. Raises `ValueError` if `node_id` is not among `voters`,
    `IdentityError` if the directory is that of another node, `StorageError` if the log cannot be opened.
    """
    disk = OsFileSystem() if fs is None else fs
    membership = Membership(voters, learners)
    if node_id not in membership.voters:
        raise ValueError(f"node {node_id} must be one of the voters {sorted(membership.voters)}")
    both = membership.voters & membership.learners
    if both:
        raise ValueError(f"{sorted(both)} cannot be voters and learners")
    directory = log_directory(path, disk)
    _check_owner(disk, os.path.dirname(directory), node_id)
    with WalLog.open(directory, fs=disk) as log:
        before = _membership_of(log)
        term = max(log.hard_state().term, log.last_term()) + 1 + leap
        index = log.last_index() + 1
        if max(term, index) >= MAX:
            raise StorageError("forcing a membership", "there is no term or index left")
        log.append([LogEntry(term, index, encode_membership(membership), EntryKind.MEMBERSHIP)])
        log.set_hard_state(HardState(term, node_id))
        log.sync()
        snapshot = log.snapshot()
    done = Forced(int(index), int(term), membership, before, 0 if snapshot is None else int(snapshot.index))
    _record(
        disk,
        os.path.dirname(directory),
        {
            "what": "force_membership",
            "time": now,
            "node_id": node_id,
            "index": done.index,
            "term": done.term,
            "membership": _listed(membership),
            "before": None if before is None else _listed(before),
        },
    )
    return done


def _check_owner(fs: FileSystem, data_dir: str, node_id: NodeId) -> None:
    """Raise `IdentityError` if the data directory says that it is another node's."""
    path = os.path.join(data_dir, identity.FILE_NAME)
    try:
        if identity.FILE_NAME not in fs.listdir(data_dir):
            return
        owner = identity.decode(_contents(fs, path), path)
    except OSError as error:
        raise StorageError.wrap(f"reading {path}", error) from error
    if owner.node_id != node_id:
        raise IdentityError(f"{data_dir} is the data directory of node {owner.node_id}, not of {node_id}")


def _membership_of(log: WalLog) -> Membership | None:
    found = log.membership_entries()
    if found:
        return decode_membership(found[-1].command)
    snapshot = log.snapshot()
    return None if snapshot is None else snapshot.membership


def _listed(membership: Membership) -> dict[str, list[int]]:
    return {
        "voters": sorted(membership.voters),
        "learners": sorted(membership.learners),
        "outgoing": sorted(membership.outgoing),
    }


def _record(fs: FileSystem, data_dir: str, fields: dict[str, object]) -> None:
    """Add a line to the record of what was done."""
    path = os.path.join(data_dir, RECORD)
    try:
        lines = _contents(fs, path) if RECORD in fs.listdir(data_dir) else b""
        write_file(fs, path, lines + json.dumps(fields).encode() + b"\n")
    except OSError as error:
        raise StorageError.wrap(f"writing {path}", error) from error


def _contents(fs: FileSystem, path: str) -> bytes:
    file = fs.open(path, read_only=True)
    try:
        return read_up_to(file, file.size(), 0)
    finally:
        file.close()


def salvage(
    path: str | os.PathLike[str], fs: FileSystem | None = None, *, now: str | None = None
) -> Salvaged:
    """Make a damaged log one that opens, with everything before the damage.

    What it acknowledged may be gone, so the node may not take part as the voter it was: its identity is moved
    aside first, and it can only come back by joining, with a new one, as a learner. Nothing is deleted: each
    file that is in the way gets another name, `NAME.damaged-N`. A record that a crash tore is no damage.

    `now` goes into the record of what was done. Raises `StorageError` if the log is in use, or of a newer
    version, or the disk fails.
    """
    disk = OsFileSystem() if fs is None else fs
    directory = log_directory(path, disk)
    try:
        lock = disk.lock(os.path.join(directory, LOCK_NAME))
    except BlockingIOError as error:
        raise StorageError(f"opening {directory}", "the log is in use by another process") from error
    except OSError as error:
        raise StorageError.wrap(f"opening {directory}", error) from error
    try:
        findings = verify(directory, disk)
        if not any(finding.is_damage for finding in findings):
            return Salvaged((), 0, ())
        return _Salvage(disk, directory).run(findings, now)
    except OSError as error:
        raise StorageError.wrap(f"salvaging {directory}", error) from error
    finally:
        lock.close()


class _Salvage:
    """Salvaging the log in a directory that is locked. Raises `OSError`."""

    def __init__(self, fs: FileSystem, directory: str) -> None:
        self.fs = fs
        self.directory = directory
        self.data_dir = os.path.dirname(directory)
        self.index = LogIndex()
        self.moved: list[str] = []
        self.last: Scan | None = None
        """The last segment of which something is kept, up to `offset`."""
        self.whole: list[int] = []
        self.partial = 0
        """The segments that are kept, and the one of which a part is (0: none)."""
        taken = [
            name.rpartition(".damaged-")[2] for name in fs.listdir(self.data_dir) + fs.listdir(directory)
        ]
        self.suffix = (
            f".damaged-{max([int(number) for number in taken if number.isdecimal()], default=0) + 1}"
        )

    def run(self, findings: list[Finding], now: str | None) -> Salvaged:
        """Carry it out."""
        names = sorted(self.fs.listdir(self.directory))
        snapshots = [name for name in names if SNAPSHOT_NAME.fullmatch(name)]
        sound = [name for name in snapshots if self._is_sound(name)]
        numbers = [int(name[:16]) for name in names if NAME.fullmatch(name)]
        self._find_prefix(numbers, sound[-1:])
        fields: dict[str, object] = {
            "what": "salvage",
            "time": now,
            "last_index": int(self.index.last_index),
            "suffix": self.suffix,
            "findings": [[finding.path, finding.offset, finding.detail] for finding in findings],
        }
        # First of all, so that no crash in the middle leaves a voter that has forgotten something.
        write_file(
            self.fs,
            os.path.join(self.data_dir, identity.SALVAGED),
            json.dumps(fields).encode() + b"\n",
        )
        for name in IDENTITIES:
            self._move(self.data_dir, name)
        self._replace(numbers)
        for name in snapshots:
            if name not in sound:
                self._move(self.directory, name)
        self.fs.sync_dir(self.directory)
        _record(self.fs, self.data_dir, fields)
        return Salvaged(tuple(findings), int(self.index.last_index), tuple(self.moved))

    def _is_sound(self, name: str) -> bool:
        try:
            data = load_snapshot(self.fs, os.path.join(self.directory, name)).data
            assert isinstance(data, FileData)
            data.verify()
        except CorruptLogError:
            return False
        except StorageError as error:
            if isinstance(error.__cause__, OSError):
                return False
            raise
        except OSError:
            return False
        return True

    def _find_prefix(self, numbers: list[int], snapshots: list[str]) -> None:
        """Which segments make up a log that opens, with the snapshot that is left."""
        snapshot = load_snapshot(self.fs, os.path.join(self.directory, snapshots[0])) if snapshots else None
        start = 0
        for at in range(1, len(numbers)):
            if numbers[at] != numbers[at - 1] + 1:
                start = at
        # What is before a gap is whole by itself; what is behind it may do with the snapshot.
        for run in (numbers[start:], numbers[:start]):
            self._scan(run, numbers[-1] if numbers else 0)
            try:
                if self.whole or self.partial:
                    check_covered(self.directory, run[0], self.index, snapshot)
                    break
            except CorruptLogError:
                pass
            self.whole = []
            self.partial = 0
            self.index = LogIndex()
        if snapshot is not None and self.index.last_index < snapshot.index:
            self.index.reset(snapshot.index, snapshot.term)

    def _scan(self, numbers: list[int], last: int) -> None:
        """Read segments up to the first damage."""
        self.index = LogIndex()
        self.whole = []
        self.partial = 0
        before: Scan | None = None
        for number in numbers:
            path = os.path.join(self.directory, segment_name(number))
            if before is not None and number != int(before.header.number) + 1:
                break
            scan: Scan | None = None
            try:
                file = self.fs.open(path, read_only=True)
                try:
                    header = decode_segment_header(read_up_to(file, SEGMENT_HEADER, 0), path)
                    check_start(header, number, self.index, before, path)
                    scan = Scan(header, self.index, path)
                    scan_file(file, scan, number == last)
                finally:
                    file.close()
            except (CorruptLogError, OSError):
                if scan is not None:
                    self.partial = number
                    self.last = scan
                break
            self.whole.append(number)
            before = scan

    def _replace(self, numbers: list[int]) -> None:
        """Leave the segments that are kept, and a copy of the good part of the one that is damaged."""
        target = ""
        if self.partial and self.last is not None:
            target = os.path.join(self.directory, segment_name(self.partial))
            self._copy(target, self.last)
        elif not self.whole:
            target = os.path.join(self.directory, segment_name(1))
            self._begin(target)
        if target:
            self._move(self.directory, os.path.basename(target))
            self.fs.rename(target + TEMPORARY, target)
        for number in reversed(numbers):
            if number not in self.whole and segment_name(number) != os.path.basename(target):
                self._move(self.directory, segment_name(number))

    def _copy(self, target: str, scan: Scan) -> None:
        source = self.fs.open(target, read_only=True)
        try:
            file = self.fs.open(target + TEMPORARY, create=True)
            try:
                allocate(file, int(scan.header.capacity))
                end = int(scan.offset)
                for offset in range(0, end, STEP):
                    write_all(file, read_up_to(source, min(STEP, end - offset), offset), offset)
                file.sync()
            finally:
                file.close()
        finally:
            source.close()

    def _begin(self, target: str) -> None:
        """A first segment, behind the snapshot if there is one."""
        file: File = self.fs.open(target + TEMPORARY, create=True)
        try:
            allocate(file, SMALL)
            write_all(file, encode_segment_header(SegmentHeader(1, SMALL)), 0)
            file.sync()
        finally:
            file.close()

    def _move(self, directory: str, name: str) -> None:
        if name in self.fs.listdir(directory):
            path = os.path.join(directory, name)
            self.fs.rename(path, path + self.suffix)
            self.fs.sync_dir(directory)
            self.moved.append(path + self.suffix)
