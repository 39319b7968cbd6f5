"""`RaftServer`: one node of a replicated state machine, on asyncio.

A thin shell: sockets, the clock, the disk and callers on one side, `Driver` on the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from raft_io.core.config import RaftConfig
from raft_io.core.log import RaftLog
from raft_io.core.status import Status
from raft_io.core.types import NodeId
from raft_io.errors import RaftError, StorageError
from raft_io.server.address import Address
from raft_io.server.driver import Driver
from raft_io.server.envelope import NONCE_BYTES
from raft_io.server.frames import MAX_FRAME, Greeting
from raft_io.server.machine import StateMachine
from raft_io.server.requests import Request
from raft_io.server.syncer import Syncer
from raft_io.server.transport import Links
from raft_io.storage import FileSystem, OsFileSystem, WalLog, check_log, has_identity, open_identity
from raft_io.wire import ENTRY_HEADER

__all__ = ["RaftServer"]

log = logging.getLogger("raft_io.server")

Value = TypeVar("Value")

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds that a call waits for an answer unless told otherwise."""

MAX_NAME: Final = 255
MAX_KEY_BYTES: Final = 1024
"""Bytes of a cluster's id and of a caller's key."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "max_apply_bytes": 1024 * 1024,
    "max_batch_bytes": 256 * 1024,
    "max_inflight": 16,
}
"""Options of `RaftConfig` that differ here. They bound what one turn applies, and what it sends to a follower
that is far behind: a turn that lasts longer than an election timeout costs the leader its office."""


class _Future:
    """Hands an answer to whoever awaits it."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future

    def succeeded(self, value: Any) -> None:
        """The result."""
        if not self._future.done():
            self._future.set_result(value)

    def failed(self, error: Exception) -> None:
        """The error."""
        if not self._future.done():
            self._future.set_exception(_own(error))


def _own(error: Exception) -> Exception:
    """The error for one caller. A raised exception keeps the frames that it passed through, and this one may
    stay in a session for long, or be told to others as well."""
    if not isinstance(error, RaftError):
        return _raisable(error)
    try:
        return copy.copy(error)
    except Exception:  # the application's own, which wants other arguments than it keeps
        return error


def _raisable(error: Exception) -> Exception:
    """A future cannot hold a `StopIteration`."""
    if not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("StopIteration was raised")
    wrapped.__cause__ = error
    return wrapped


class RaftServer:
    """Hosts `machine` as node `id` of a cluster. An async context manager.

    - `listen`: where peers connect, `"host:port"` (a port alone: on loopback).
    - `peers`: ids and addresses of all voters, `{1: "host:port", ...}`; this node's own may be among them.
    - `data_dir`: where the log and the node's identity live; made if absent.
    - `cluster_id`: servers of another cluster are refused. At most 255 bytes.
    - `tick_interval`: seconds of a logical tick. `max_command_bytes`: the longest command.
    - `options`: those of `RaftConfig`, such as `election_timeout=(10, 20)`. Unless told otherwise
      `max_apply_bytes` is 1 MiB, `max_batch_bytes` 256 KiB and `max_inflight` 16.

    Raises `ValueError` or `TypeError` for arguments that cannot be; on entering, `IdentityError` for a
    data directory that was made for somebody else, `StorageError` for one that cannot be used, `OSError`
    for an address that cannot be listened on. A server starts once, with a machine that has applied nothing.

        async with RaftServer(1, machine, listen="127.0.0.1:9001", peers=peers, data_dir="data") as server:
            await server.propose(b"add 1")
    """

    def __init__(
        self,
        id: NodeId,  # noqa: A002 - the name that everything else uses
        machine: StateMachine,
        *,
        listen: str | int,
        peers: Mapping[NodeId, str],
        data_dir: str | Path,
        cluster_id: str = "raft-io",
        tick_interval: float = 0.025,
        max_command_bytes: int = 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
        fs: FileSystem | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(machine, StateMachine):
            raise TypeError(f"machine must be a StateMachine, not {type(machine).__name__}")
        if tick_interval <= 0:
            raise ValueError(f"tick_interval must be above 0 seconds, not {tick_interval}")
        if not 0 < max_command_bytes <= MAX_FRAME // 2:
            raise ValueError(f"max_command_bytes must be in 1 .. {MAX_FRAME // 2}, not {max_command_bytes}")
        if not isinstance(cluster_id, str):
            raise TypeError(f"cluster_id must be a str, not {type(cluster_id).__name__}")
        if not 0 < len(cluster_id.encode()) <= MAX_NAME:
            raise ValueError(f"cluster_id must have 1 to {MAX_NAME} bytes, not {len(cluster_id.encode())}")
        options = {**DEFAULTS, **options}
        self.config = RaftConfig(id, peers).replace(**options)
        largest = self.config.max_batch_bytes + self.config.max_batch * ENTRY_HEADER
        if largest > MAX_FRAME // 2:
            raise ValueError(
                f"max_batch_bytes and max_batch allow messages of {largest} bytes; "
                f"at most {MAX_FRAME // 2} are accepted"
            )
        self.max_command_bytes = max_command_bytes
        self.cluster_id = cluster_id
        self._machine = machine
        self._listen = Address.parse(listen)
        self._peers = {peer: Address.parse(peers[peer]) for peer in self.config.peers}
        self._data_dir = Path(data_dir)
        self._tick_interval = tick_interval
        self._clock = clock
        self._fs = OsFileSystem() if fs is None else fs
        self._leader_waiters: list[asyncio.Future[NodeId]] = []
        self._scheduled = False
        self._started = False
        self._running = False
        self._ending: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    # Life.

    async def __aenter__(self) -> RaftServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Recover from the data directory, listen, and take part. May be tried again when it failed."""
        if self._started:
            raise RuntimeError("a server starts once; make another one, with a machine that is new as well")
        self._started = True
        try:
            await self._start()
        except BaseException:
            self._started = False
            raise

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        incarnation, self._log = await self._recovered()
        self.greeting = Greeting(self.cluster_id, self.config.id, incarnation)
        self._links = Links(self, self._peers, random.Random())
        try:
            self._driver = Driver(
                self.config,
                self._log,
                self._machine,
                tick_interval=self._tick_interval,
                now=self._clock(),
                wall=lambda: time.time_ns() // 1_000_000,
                nonce=lambda: secrets.token_bytes(NONCE_BYTES),
                report=log.info,
            )
            self.address = await self._links.start(self._listen)
        except BaseException:
            self._log.close()
            await self._links.close()
            raise
        self._running = True
        self._syncer = Syncer(self._log, self._loop, self._synced)
        self._timer = self._loop.call_later(self._tick_interval, self._on_tick)
        log.info(
            "node %s: listening on %s, recovered term %s and %s entries from %s",
            self.config.id,
            self.address,
            self._driver.node.term,
            self._log.last_index(),
            self._data_dir,
        )

    async def _recovered(self) -> tuple[int, RaftLog]:
        """What `_recover` returns, in a thread. Who is cancelled waits for it: the log must be closed."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._recover))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            while not opening.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((opening,))
            if opening.exception() is None:
                opening.result()[1].close()
            raise

    def _recover(self) -> tuple[int, RaftLog]:
        voters = sorted([self.config.id, *self.config.peers])
        returns = has_identity(self._fs, self._data_dir)
        identity = open_identity(
            self._fs,
            self._data_dir,
            self.cluster_id,
            self.config.id,
            voters,
            lambda: secrets.randbits(63),
        )
        if returns:
            check_log(self._fs, self._data_dir)
        return identity.incarnation, WalLog.open(self._data_dir / "log", fs=self._fs)

    async def stop(self) -> None:
        """Leave: answer whoever waits, make the log durable, release everything. Returns when that is done,
        whoever began it; at once when nothing was started."""
        self._leave()
        if self._ending is not None:
            await asyncio.shield(self._ending)

    def _leave(self) -> None:
        if not self._running:
            return
        self._running = False
        self._timer.cancel()
        self._deliver(self._driver.stop(RaftError("the server stops")))
        for waiter in self._leader_waiters:
            if not waiter.done():
                waiter.set_exception(RaftError("the server stops"))
        self._ending = self._loop.create_task(self._release())

    async def _release(self) -> None:
        try:
            await self._links.close()
            await asyncio.to_thread(self._close_log)
        finally:
            log.info("node %s: stopped", self.config.id)
            if self._failure is None:
                self._stopped.set_result(None)
            else:
                self._stopped.set_exception(_raisable(self._failure))
                self._stopped.exception()  # whoever waits is told; nobody has to

    def _close_log(self) -> None:
        self._syncer.stop()
        try:
            if self._failure is None:
                self._log.sync()
            self._log.close()
        except StorageError as error:
            log.warning("node %s: %s", self.config.id, error)

    async def wait_stopped(self) -> None:
        """Return when the server has stopped; raise what it died of."""
        if not self._started:
            raise self._down()
        await asyncio.shield(self._stopped)

    def _down(self) -> Exception:
        """Why nothing can be asked of this server."""
        failure = self._failure
        if failure is None:
            return RaftError("the server is not running")
        if isinstance(failure, RaftError):
            return copy.copy(failure)
        return RaftError(f"the server has stopped: {type(failure).__name__}: {failure}")

    # What callers use.

    async def propose(
        self, command: bytes, *, key: bytes | str | None = None, timeout: float = DEFAULT_TIMEOUT
    ) -> bytes:
        """Replicate `command` and return what `apply` returned for it. Works on any node.

        Applied exactly once, even when this server has to try again because a leader was lost. With a `key`
        that is also true when the caller tries again: the same key is applied once, and gets the first
        result.

        Raises `CommandError` if `apply` did; `ValueError` for a command above `max_command_bytes` or a key
        above 1024 bytes; `NotLeaderError` when no
        leader was found in `timeout` seconds and `OverloadedError`: certainly not applied; `TimeoutError`
        when the outcome is unknown; `SessionExpiredError` when the key's record was evicted.
        """
        if not isinstance(command, bytes):
            raise TypeError(f"command must be bytes, not {type(command).__name__}")
        if isinstance(key, str):
            key = key.encode()
        elif key is not None and not isinstance(key, bytes):
            raise TypeError(f"key must be bytes or str, not {type(key).__name__}")
        future: asyncio.Future[bytes] = self._future()
        self.submit(Request(_Future(future), self.deadline(timeout), command, key))
        return await future

    async def read(self, query: Callable[[Any], Value], *, timeout: float = DEFAULT_TIMEOUT) -> Value:
        """Run `query(machine)` at a linearizable point and return its result: it sees every write that was
        acknowledged before this call. Works on any node. Until reads have a way of their own, each goes
        through the log (those that arrive together share an entry).

        `query` must not change the machine. Raises what `query` raises, and as `propose` does.
        """
        future: asyncio.Future[Value] = self._future()
        self.submit(Request(_Future(future), self.deadline(timeout), None, query=query))
        return await future

    def submit(self, request: Request) -> None:
        """Take a request whose waiter is called back, without a future: for servers of many clients."""
        if not self._running:
            raise self._down()
        if request.data is not None and len(request.data) > self.max_command_bytes:
            raise ValueError(
                f"a command of {len(request.data)} bytes; at most {self.max_command_bytes} are accepted"
            )
        if request.key is not None and len(request.key) > MAX_KEY_BYTES:
            raise ValueError(f"a key of {len(request.key)} bytes; at most {MAX_KEY_BYTES} are accepted")
        self._driver.request(request)
        self._schedule()

    async def wait_for_leader(self, timeout: float = DEFAULT_TIMEOUT) -> NodeId:
        """The leader, as soon as one is known here. Raises `TimeoutError` after `timeout` seconds."""
        leader = self.leader
        if leader is not None:
            return leader
        waiter: asyncio.Future[NodeId] = self._future()
        self._leader_waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        finally:
            self._leader_waiters.remove(waiter)

    @property
    def leader(self) -> NodeId | None:
        """The leader that this node knows of."""
        return self._driver.node.leader if self._running else None

    @property
    def status(self) -> Status:
        """What the node is at this moment; after the server has stopped, what it was."""
        if not hasattr(self, "_driver"):
            raise self._down()
        return self._driver.node.status

    def _future(self) -> asyncio.Future[Any]:
        if not self._running:
            raise self._down()
        return self._loop.create_future()

    def deadline(self, timeout: float) -> float:
        """The time, on the server's clock, `timeout` seconds from now."""
        if not timeout >= 0:
            raise ValueError(f"timeout must be 0 or more seconds, not {timeout}")
        return self._clock() + timeout

    # What connections use (`transport.Host`).

    def knows(self, node: NodeId) -> bool:
        """Whether `node` is a peer."""
        return node in self._peers

    def link_restored(self, peer: NodeId) -> None:
        """The connection to `peer` was made anew."""
        self._driver.link_restored(peer)
        self._schedule()

    def frame(self, peer: NodeId, kind: int, body: bytes) -> None:
        """A frame arrived."""
        if self._running:
            self._driver.receive(peer, kind, body)
            self._schedule()

    # Turns.

    def _schedule(self) -> None:
        # A turn runs after everything that is readable now was read: one turn for all of it.
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _on_tick(self) -> None:
        self._timer = self._loop.call_later(self._tick_interval, self._on_tick)
        self._schedule()

    def _synced(self, ticket: int, failure: Exception | None) -> None:
        if failure is None:
            self._driver.synced(ticket)
        else:
            self._driver.sync_failed(ticket, str(failure))
        if not self._scheduled:
            self._turn()

    def _turn(self) -> None:
        self._scheduled = False
        if not self._running:
            return
        output = self._driver.turn(self._clock())
        for peer, batch in output.send.items():
            self._links.send(peer, batch)
        if output.sync:
            self._syncer.begin(output.sync)
        self._deliver(output.answers)
        if self._leader_waiters and self._driver.node.leader is not None:
            for waiter in self._leader_waiters:
                if not waiter.done():
                    waiter.set_result(self._driver.node.leader)
        if output.failure is not None:
            self._failure = output.failure
            if isinstance(output.failure, RaftError):
                log.error("node %s: stops: %s", self.config.id, output.failure)
            else:
                log.error(
                    "node %s: a bug, here or in the state machine", self.config.id, exc_info=output.failure
                )
            self._leave()
        elif output.again:
            self._schedule()

    def _deliver(self, answers: list[Any]) -> None:
        for waiter, succeeded, value in answers:
            try:
                if succeeded:
                    waiter.succeeded(value)
                else:
                    waiter.failed(value)
            except Exception:
                log.exception("node %s: a bug in who waits for an answer", self.config.id)
