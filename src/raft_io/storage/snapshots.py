"""The snapshots in a log's directory: the last one, those that are taken, and those that are received.

A snapshot is written under a temporary name, synced, and only then named: one that bears its name is whole.
None is ever in memory whole.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import Final, final

from google_crc32c import extend, value

from raft_io.core.log import check_piece
from raft_io.core.members import encode_membership
from raft_io.core.types import Snapshot, SnapshotData, SnapshotMeta, data_checksum
from raft_io.core.types import read_data as read_contents
from raft_io.errors import StorageError
from raft_io.storage.disk import TEMPORARY, write_all
from raft_io.storage.fs import File, FileSystem
from raft_io.storage.names import SNAPSHOT_NAME, SNAPSHOT_SUFFIX, snapshot_name
from raft_io.storage.snapshot_file import BLOCK, HEADER, TAG, FileData, encode_header, load_snapshot

__all__ = ["SnapshotFiles", "SnapshotWriter"]

PIECE: Final = 1 << 20
"""Bytes that are moved at a time."""

SYNC_EVERY: Final = 16 << 20
"""Bytes after which what is being written is synced: as much as those of the log may have to wait for."""


@final
class Stage:
    """A temporary file that the contents of a snapshot are appended to."""

    __slots__ = ("_begun", "_block_crc", "_blocks", "_crc", "_file", "_files", "_fill", "path", "size")

    def __init__(self, files: SnapshotFiles, file: File, path: str) -> None:
        self.path = path
        self.size = 0
        self._files = files
        self._file = file
        self._crc = 0
        self._blocks = bytearray()
        self._block_crc = 0
        self._fill = 0
        self._begun = 0

    def append(self, data: bytes) -> None:
        """Append `data`. Raises `OSError`."""
        write_all(self._file, data, HEADER + self.size)
        self.size += len(data)
        if self.size - self._begun >= PIECE:
            self._file.write_back(HEADER + self._begun, self.size - self._begun)
            self._begun = self.size
        self._crc = extend(self._crc, data)
        at = 0
        while at < len(data):
            part = data[at : at + BLOCK - self._fill]
            self._block_crc = extend(self._block_crc, part)
            self._fill += len(part)
            at += len(part)
            if self._fill == BLOCK:
                self._end_block()

    def _end_block(self) -> None:
        self._blocks += self._block_crc.to_bytes(4, "little")
        self._block_crc = 0
        self._fill = 0

    def sync(self) -> None:
        """Make what has been appended durable. Raises `OSError`."""
        self._file.sync()

    def finish(self) -> FileData:
        """What has been appended; the stage takes no more."""
        if self._fill:
            self._end_block()
        data = FileData(self._file, self.path, self.size, self._crc, bytes(self._blocks), BLOCK)
        data.abandoned = self._files.abandoned
        return data

    def discard(self) -> None:
        """Remove the file. Raises `OSError`."""
        self._file.close()
        self._files.remove(self.path)


@final
class SnapshotWriter:
    """A binary sink for the contents of a snapshot, from any thread: `write` it, then `finish`, whose result
    goes into a `Snapshot`; or `abort`. As a context manager it aborts what was not finished.

    Nothing that is written here is seen by anyone before `save_snapshot`. Raises `StorageError`, and after
    that for every call but `abort`: what a failed sync has lost, the next one does not miss.
    """

    __slots__ = ("_failure", "_parts", "_stage", "_synced", "_unwritten")

    def __init__(self, stage: Stage) -> None:
        """Use `WalLog.snapshot_writer`."""
        self._stage: Stage | None = stage
        self._parts: list[bytes] = []
        self._unwritten = 0
        self._synced = 0
        self._failure = ""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append all of `data`; returns how much that was."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE):
            part = bytes(view[start : start + PIECE])
            self._parts.append(part)
            self._unwritten += len(part)
            if self._unwritten >= PIECE:
                self.flush()
        return len(view)

    def flush(self) -> None:
        """Hand to the file system what is still in memory."""
        stage = self._opened()
        data = b"".join(self._parts)
        self._parts.clear()
        self._unwritten = 0
        try:
            stage.append(data)
            if stage.size - self._synced >= SYNC_EVERY:
                stage.sync()
                self._synced = stage.size
        except OSError as error:
            raise self._failed(stage, error) from error

    def finish(self) -> FileData:
        """Make it durable, and end; returns the contents."""
        self.flush()
        stage = self._opened()
        try:
            stage.sync()
        except OSError as error:
            raise self._failed(stage, error) from error
        self._stage = None
        return stage.finish()

    def abort(self) -> None:
        """Drop what was written. Nothing happens after `finish`, or a second time."""
        stage, self._stage = self._stage, None
        if stage is not None:
            try:
                stage.discard()
            except OSError as error:
                raise StorageError.wrap(f"removing {stage.path}", error) from error

    def _failed(self, stage: Stage, error: OSError) -> StorageError:
        self._failure = str(error)
        return StorageError.wrap(f"writing {stage.path}", error)

    def _opened(self) -> Stage:
        stage = self._stage
        if stage is None:
            raise StorageError("writing a snapshot", "it is finished")
        if self._failure:
            raise StorageError("writing a snapshot", f"an earlier write failed ({self._failure})")
        stage._files.check_open()
        return stage

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.abort()


@final
class SnapshotFiles:
    """The snapshots in the log's directory `path`: the last one, and those that are being made.

    `receive` is for one thread, `publish` for one other, the rest for any.
    """

    def __init__(self, fs: FileSystem, path: str) -> None:
        self.fs = fs
        self.path = path
        self.abandoned: list[str] = []
        """Temporary files that nobody has use for any more; removed before the next one is made."""
        self._closed = False
        self._numbers = itertools.count(1)
        self._receiving: Stage | None = None
        self._names: list[str] = []

    def recover(self) -> Snapshot | None:
        """The last snapshot. Raises `OSError`, `CorruptLogError`, `StorageError`."""
        names = sorted([name for name in self.fs.listdir(self.path) if SNAPSHOT_NAME.fullmatch(name)])
        self._names = names
        return load_snapshot(self.fs, os.path.join(self.path, names[-1])) if names else None

    def remove_older(self) -> None:
        """Remove every snapshot but the last, which is durable. Raises `OSError`."""
        while len(self._names) > 1:
            self.fs.unlink(os.path.join(self.path, self._names[0]))
            del self._names[0]

    def remove(self, path: str) -> None:
        """Remove the temporary file at `path`, unless another process may own the directory by now."""
        if not self._closed:
            with contextlib.suppress(FileNotFoundError):
                self.fs.unlink(path)

    def check_open(self) -> None:
        """Raise `StorageError` if the log is closed."""
        if self._closed:
            raise StorageError("using the log", "it is closed")

    def _stage(self, purpose: str) -> Stage:
        self.check_open()
        with contextlib.suppress(IndexError):
            while True:
                self.remove(self.abandoned.pop())
        path = os.path.join(self.path, f"{purpose}-{next(self._numbers)}{SNAPSHOT_SUFFIX}{TEMPORARY}")
        return Stage(self, self.fs.open(path, create=True), path)

    def writer(self) -> SnapshotWriter:
        """A writer for the contents of a new snapshot. Raises `StorageError`."""
        try:
            return SnapshotWriter(self._stage("taking"))
        except OSError as error:
            raise StorageError.wrap(f"writing a snapshot to {self.path}", error) from error

    def receive(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> FileData | None:
        """`RaftLog.receive_snapshot`. Raises `OSError`, `StorageError`."""
        stage = self._receiving
        if offset == 0 and stage is not None:
            self._receiving = None
            stage.discard()
            stage = None
        check_piece(offset, 0 if stage is None else stage.size)
        if stage is None:
            stage = self._stage("receiving")
            self._receiving = stage
        stage.append(chunk)
        if stage.size != meta.size:
            return None
        self._receiving = None
        data = stage.finish()
        if is_other(data, meta.checksum):
            data.abandoned = None
            data.close()
            self.remove(data.path)
            return None
        return data

    def publish(self, snapshot: Snapshot) -> FileData:
        """Make `snapshot` the last one, durably, and remove the one before; returns its contents as they are
        on disk. Raises `OSError`, `StorageError`; then nothing may follow."""
        data = snapshot.data
        if not isinstance(data, FileData) or data.abandoned is not self.abandoned:
            data = self._copied(data)
        file = data.file
        assert file is not None, "what is closed is abandoned"
        membership = encode_membership(snapshot.membership)
        trailer = data.blocks + membership
        write_all(file, trailer, HEADER + data.size)
        write_all(file, encode_header(snapshot, data, len(membership), value(trailer)), 0)
        file.sync()
        name = snapshot_name(snapshot.index)
        path = os.path.join(self.path, name)
        self.fs.rename(data.path, path)
        data.abandoned = None
        data.path = path
        self.fs.sync_dir(self.path)
        self._names.append(name)
        self.remove_older()
        return data

    def _copied(self, data: bytes | SnapshotData) -> FileData:
        """`data` in a temporary file."""
        stage = self._stage("saving")
        size = len(data) if isinstance(data, bytes) else data.size
        while stage.size < size:
            wanted = min(PIECE, size - stage.size)
            piece = read_contents(data, stage.size, wanted)
            if len(piece) != wanted:
                raise StorageError("saving a snapshot", f"its contents end at {stage.size} of {size} bytes")
            stage.append(piece)
        return stage.finish()

    def close(self) -> None:
        """Nothing is written any more. Snapshots that were handed out stay readable. Raises `OSError`."""
        stage, self._receiving = self._receiving, None
        try:
            if stage is not None:
                stage.discard()
        finally:
            self._closed = True


def is_other(data: FileData, checksum: int) -> bool:
    """Whether `checksum` is one of ours, and not that of `data`. Without the tag it is opaque; and that of a
    few plain bytes may look as if it had it."""
    if checksum & ~0xFFFF_FFFF != TAG or checksum == data.checksum:
        return False
    return data.size > BLOCK or data_checksum(data.read(0, data.size)) != checksum
