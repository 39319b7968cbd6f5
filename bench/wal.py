"""The durable log: what an append, a sync and a snapshot cost, and how long a large log takes to open.

    python bench/wal.py [--entries 1000000] [--snapshot 256] [--dir DIR]

The large logs are built without syncing; the single syncs are real.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from raft_io.core.types import LogEntry, Membership, Snapshot, SnapshotData, SnapshotMeta
from raft_io.storage import File, FileData, OsFileSystem, WalLog


class UnsyncedFile:
    """A file whose `sync` does nothing."""

    def __init__(self, file: File) -> None:
        self.pread = file.pread
        self.pwrite = file.pwrite
        self.write_back = file.write_back
        self.size = file.size
        self.allocate = file.allocate
        self.close = file.close

    def sync(self) -> None:
        """Nothing."""


class UnsyncedFileSystem:
    """The real file system, without any sync."""

    def __init__(self) -> None:
        real = OsFileSystem()
        self.listdir = real.listdir
        self.mkdir = real.mkdir
        self.rename = real.rename
        self.unlink = real.unlink
        self.lock = real.lock
        self.is_locked = real.is_locked

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> UnsyncedFile:
        """Open a file that does not sync."""
        return UnsyncedFile(OsFileSystem().open(path, create=create, read_only=read_only))

    def sync_dir(self, path: str, /) -> None:
        """Nothing."""


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def anonymous_mib() -> float:
    """The process's anonymous memory (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def batch(first: int, count: int) -> list[LogEntry]:
    """`count` entries of 100 bytes."""
    return [LogEntry(1 + index // 100_000, index, b"%0100d" % index) for index in range(first, first + count)]


def reopen(path: Path, total: int, at_once: int) -> str:
    """Build a log of `total` entries, `at_once` in a record, and open it."""
    with WalLog.open(path, fs=UnsyncedFileSystem()) as log:
        for first in range(1, total + 1, at_once):
            log.append(batch(first, at_once))
            log.sync()
    before = anonymous_mib()
    start = time.perf_counter()
    with WalLog.open(path) as log:
        seconds = time.perf_counter() - start
        assert log.last_index() == total
        grown = anonymous_mib() - before
    return f"open {total} entries, {at_once} a record: {seconds:.2f} s, {grown:.0f} MiB"


def syncs(path: Path, at_once: int, turns: int) -> str:
    """The median of real syncs of `at_once` entries."""
    with WalLog.open(path) as log:
        times: list[float] = []
        for turn in range(turns):
            log.append(batch(turn * at_once + 1, at_once))
            times.append(timed(log.sync))
    return f"sync of {at_once}: median {sorted(times)[turns // 2] * 1e6:.0f} us"


def overheads(path: Path, turns: int = 100_000) -> str:
    """What an append, and an append and a sync without the disk's own time, cost."""
    entries = [batch(index, 1) for index in range(1, 2 * turns + 1)]
    with WalLog.open(path, fs=UnsyncedFileSystem()) as log:
        start = time.perf_counter()
        for entry in entries[:turns]:
            log.append(entry)
        append = time.perf_counter() - start
        log.sync()
        start = time.perf_counter()
        for entry in entries[turns:]:
            log.append(entry)
            log.sync()
        both = time.perf_counter() - start
    return f"append {append / turns * 1e6:.2f} us, with a sync that syncs nothing {both / turns * 1e6:.2f} us"


def snapshots(path: Path, mib: int) -> str:
    """What it costs to take a snapshot of so many MiB, to receive it, and to make either durable; and the
    longest that a piece kept its caller waiting."""
    piece = bytes(range(256)) * 4096
    members = Membership([1])
    before = anonymous_mib()
    with WalLog.open(path / "from") as source, WalLog.open(path / "to") as target:
        source.append(batch(1, 1))
        start = time.perf_counter()
        with source.snapshot_writer() as writer:
            for _ in range(mib):
                writer.write(piece)
            source.save_snapshot(Snapshot(1, 1, members, writer.finish()))
        taken = time.perf_counter() - start
        saved = timed(source.sync)
        snapshot = source.snapshot()
        assert snapshot is not None and isinstance(snapshot.data, FileData)
        data = snapshot.data
        meta = SnapshotMeta(1, 1, members, data.size, data.checksum)
        whole: bytes | SnapshotData | None = None
        pieces: list[float] = []
        for offset in range(0, data.size, len(piece)):
            chunk = data.read(offset, len(piece))
            start = time.perf_counter()
            whole = target.receive_snapshot(meta, offset, chunk)
            pieces.append(time.perf_counter() - start)
        assert whole is not None
        target.save_snapshot(Snapshot(1, 1, members, whole))
        installed = timed(target.sync)
        grown = anonymous_mib() - before
    return (
        f"snapshot of {mib} MiB: taken in {taken:.2f} s, saved in {saved * 1e3:.0f} ms; "
        f"received in {sum(pieces):.2f} s, a piece at most {max(pieces) * 1e3:.0f} ms, saved in "
        f"{installed * 1e3:.0f} ms; {grown:.0f} MiB"
    )


def main() -> None:
    """Print one line a measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--snapshot", type=int, default=256, metavar="MIB")
    parser.add_argument("--dir", default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        root = Path(folder)
        print(overheads(root / "overheads"))
        print(syncs(root / "one", 1, 1000))
        print(syncs(root / "many", 1000, 100))
        print(snapshots(root / "snapshots", options.snapshot))
        print(reopen(root / "batched", options.entries, 1000))
        print(reopen(root / "single", options.entries, 1))


if __name__ == "__main__":
    main()
