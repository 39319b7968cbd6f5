"""Every format that ever landed is still read. The files were written by the version that brought it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raft_io.core.members import encode_membership
from raft_io.core.types import EntryKind, HardState, LogEntry, Membership, Snapshot, data_size, read_data
from raft_io.errors import CorruptLogError
from raft_io.storage import WalLog
from raft_io.storage.inspect import SegmentInfo, entries, verify, walk
from raft_io.storage.records import (
    SegmentHeader,
    encode_body,
    encode_content,
    encode_header,
    encode_segment_header,
)

FIXTURES = Path(__file__).parent / "fixtures"

VERSION_1 = [
    LogEntry(1, 1, b"put k v"),
    LogEntry(1, 2, bytes(300)),
    LogEntry(2, 3, b"", EntryKind.NOOP),
    LogEntry(2, 4, encode_membership(Membership([1, 2, 3], [4])), EntryKind.MEMBERSHIP),
    LogEntry(2, 5, b"x" * 400),
    LogEntry(3, 6, b"last"),
]

VERSION_2 = [
    LogEntry(3, 10, bytes(300)),
    LogEntry(3, 11, encode_membership(Membership([1, 2, 3, 4])), EntryKind.MEMBERSHIP),
    LogEntry(4, 12, b"", EntryKind.NOOP),
]

CONTENTS = b"".join(b"%d," % number for number in range(17000))


@pytest.fixture
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a fixture, to be opened."""
    shutil.copytree(FIXTURES / request.param, tmp_path / "log")
    return tmp_path / "log"


def versions(path: Path) -> list[int]:
    return [item.version for item in walk(path) if isinstance(item, SegmentInfo)]


@pytest.mark.parametrize("directory", ["log-v1"], indirect=True)
def test_version_1_of_the_log(directory: Path) -> None:
    assert verify(directory) == [] and list(entries(directory)) == VERSION_1
    with WalLog.open(directory) as log:
        assert list(log.entries(1, 9)) == VERSION_1
        assert log.hard_state() == HardState(3, 2) and log.snapshot() is None
        assert list(log.membership_entries()) == [VERSION_1[3]]
    assert set(versions(directory)) == {1}


@pytest.mark.parametrize("directory", ["log-v1"], indirect=True)
def test_version_1_is_gone_on_with(directory: Path) -> None:
    """In its own version, until something is written that it does not know."""
    with WalLog.open(directory, segment_size=1024, tail_bytes=0) as log:
        log.append([LogEntry(3, 7, b"seven")])
        log.sync()
        assert set(versions(directory)) == {1}
        log.save_snapshot(Snapshot(5, 2, Membership([1]), b"state"))
        log.sync()
        log.save_snapshot(Snapshot(20, 5, Membership([1]), b"state"))
        log.append([LogEntry(5, 21, b"new")])
        log.sync()
    assert verify(directory) == [] and versions(directory) == [2]
    with WalLog.open(directory) as log:
        assert list(log.entries(1, 30)) == [LogEntry(5, 21, b"new")]
        assert log.hard_state() == HardState(3, 2)


@pytest.mark.parametrize("directory", ["log-v2"], indirect=True)
def test_version_2_of_the_log_and_version_1_of_the_snapshot(directory: Path) -> None:
    assert verify(directory) == [] and list(entries(directory)) == VERSION_2
    with WalLog.open(directory) as log:
        assert list(log.entries(1, 99)) == VERSION_2
        assert log.hard_state() == HardState(4, 2)
        assert list(log.membership_entries()) == [VERSION_2[1]]
        assert (log.term_at(8), log.term_at(9), log.term_at(10)) == (None, 3, 3)
        snapshot = log.snapshot()
        assert snapshot is not None
        assert (snapshot.index, snapshot.term) == (9, 3)
        assert snapshot.membership == Membership([1, 2, 3], [4], [1, 2])
        assert read_data(snapshot.data, 0, data_size(snapshot.data)) == CONTENTS
    assert set(versions(directory)) == {2}


def test_a_reset_to_nowhere_is_damage(tmp_path: Path) -> None:
    for index, term in ((0, 3), (9, -1)):
        header = SegmentHeader(1, 1024)
        sector = encode_segment_header(header)
        flags, content = encode_content(None, 0, b"", index, term)
        flags, body = encode_body(flags, content)
        record = encode_header(header.checksum, 512, len(content), body, 1, header.checksum, flags) + body
        (tmp_path / f"{1:016d}.wal").write_bytes((sector + record).ljust(1024, b"\0"))
        with pytest.raises(CorruptLogError, match="a reset to nowhere"):
            WalLog.open(tmp_path)
        assert [(finding.offset, finding.kind) for finding in verify(tmp_path)] == [(512, "damage")]


def test_a_reset_in_a_segment_of_version_1_is_damage(tmp_path: Path) -> None:
    """Version 1 does not know such a record: it is refused rather than guessed at."""
    for version in (1, 2):
        header = SegmentHeader(1, 1024, version=version)
        sector = encode_segment_header(header)
        flags, content = encode_content(None, 0, b"", 9, 3)
        flags, body = encode_body(flags, content)
        record = encode_header(header.checksum, 512, len(content), body, 1, header.checksum, flags) + body
        (tmp_path / f"{1:016d}.wal").write_bytes((sector + record).ljust(1024, b"\0"))
        expected = "unknown flags" if version == 1 else "a snapshot is missing: the log begins behind entry 9"
        with pytest.raises(CorruptLogError, match=expected):
            WalLog.open(tmp_path)
