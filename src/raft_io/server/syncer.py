"""The fsync beside the loop: one long-lived thread, one wake-up a sync, so that a disk that stalls does not
stall the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from raft_io.core.log import RaftLog

__all__ = ["Syncer"]


class Syncer:
    """Runs `log.sync()` in its own thread and reports to the loop: `done(ticket, None)`, or
    `done(ticket, error)`."""

    def __init__(
        self,
        log: RaftLog,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[int, Exception | None], None],
    ) -> None:
        self._log = log
        self._loop = loop
        self._done = done
        self._tickets: SimpleQueue[int | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="raft-io sync", daemon=True)
        self._thread.start()

    def begin(self, ticket: int) -> None:
        """Begin a sync; it covers what was written to the log before this call."""
        self._tickets.put(ticket)

    def stop(self) -> None:
        """End the thread after what it is doing. Blocks until then."""
        self._tickets.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (ticket := self._tickets.get()) is not None:
            failure: Exception | None = None
            try:
                self._log.sync()
            except Exception as error:
                failure = error
            try:
                self._loop.call_soon_threadsafe(self._done, ticket, failure)
            except RuntimeError:  # the loop is closed: nobody waits for the answer
                return
