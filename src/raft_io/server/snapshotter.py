"""Writes what the driver captured to the log's directory, in a thread, one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from raft_io.core.types import Index, SnapshotData
from raft_io.server.snapshots import Capture

__all__ = ["SnapshotLog", "Snapshotter", "Writer"]


LONGEST_PAUSE: Final = 0.01
"""Seconds between two pieces, at most."""


class Writer(Protocol):
    """Where a snapshot is written to; see `WalLog.snapshot_writer`."""

    def write(self, data: bytes, /) -> Any:
        """Take all of `data`."""

    def finish(self) -> bytes | SnapshotData:
        """It is complete, and durable from now on."""

    def abort(self) -> None:
        """Nothing will come of it."""


class SnapshotLog(Protocol):
    """A log that snapshots can be written beside."""

    def snapshot_writer(self) -> Writer:
        """A new one, for another thread."""


class _StoppedError(Exception):
    """The server stops: the rest need not be written."""


class _Stoppable:
    """A writer that can be told from another thread to end."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.stopped = False

        self._since = time.monotonic()

    def write(self, data: bytes, /) -> Any:
        if self.stopped:
            raise _StoppedError
        return self._writer.write(data)

    def pause(self) -> None:
        """Sleep for as long as the last piece took: the loop needs the interpreter more."""
        time.sleep(min(time.monotonic() - self._since, LONGEST_PAUSE))
        self._since = time.monotonic()


class Snapshotter:
    """`taken` and `failed` are called on the loop."""

    def __init__(
        self,
        log: SnapshotLog,
        taken: Callable[[Index, bytes | SnapshotData], None],
        failed: Callable[[Index, Exception], None],
    ) -> None:
        self._log = log
        self._taken = taken
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._sink: _Stoppable | None = None
        self._stopping = False

    def begin(self, capture: Capture) -> None:
        """Write `capture`. The driver hands out the next one only after this is done."""
        assert self._task is None, "one at a time"
        self._task = asyncio.get_running_loop().create_task(self._run(capture))

    async def _run(self, capture: Capture) -> None:
        try:
            data = await asyncio.to_thread(self._write, capture)
            self._task = None
            if not self._stopping:
                self._taken(capture.index, data)
        except Exception as error:
            self._task = None
            if not self._stopping:
                self._failed(capture.index, error)

    def _write(self, capture: Capture) -> bytes | SnapshotData:
        writer = self._log.snapshot_writer()
        try:
            self._sink = _Stoppable(writer)
            self._sink.stopped = self._stopping
            capture.write(self._sink, self._sink.pause)
            return writer.finish()
        except BaseException:
            writer.abort()
            raise

    async def close(self) -> None:
        """End what is being written, and wait for the thread: the log is about to be closed."""
        self._stopping = True
        if self._sink is not None:
            self._sink.stopped = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
