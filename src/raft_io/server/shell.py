"""What hosts a node on asyncio: it is started, takes turns, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import random
import secrets
import time
from collections.abc import Callable
from typing import Any

from raft_io.core.config import RaftConfig
from raft_io.core.types import Index, NodeId, SnapshotData
from raft_io.errors import RaftError, RemovedError, StorageError
from raft_io.server.answers import FutureWaiter, raisable
from raft_io.server.cluster import Callbacks, Cluster
from raft_io.server.driver import Driver, Output
from raft_io.server.envelope import NONCE_BYTES, Member
from raft_io.server.frames import Greeting
from raft_io.server.joining import Joiner
from raft_io.server.machine import StateMachine
from raft_io.server.membership import Members
from raft_io.server.recovery import Recovered, recover
from raft_io.server.requests import Answer, Request
from raft_io.server.settings import Settings
from raft_io.server.snapshotter import Snapshotter
from raft_io.server.syncer import Syncer
from raft_io.server.transport import Links
from raft_io.storage import FileSystem

__all__ = ["Shell"]

log = logging.getLogger("raft_io.server")


class Shell:
    """The life of a server, and its turns. What callers use is in `RaftServer`."""

    def __init__(
        self,
        config: RaftConfig,
        machine: StateMachine,
        settings: Settings,
        callbacks: Callbacks,
        clock: Callable[[], float],
        fs: FileSystem,
    ) -> None:
        self.config = config
        self.cluster_id = settings.cluster_id
        self.tick_interval = settings.tick_interval
        self._settings = settings
        self._machine = machine
        self._clock = clock
        self._fs = fs
        self._callbacks = callbacks
        self._leader_waiters: list[asyncio.Future[NodeId]] = []
        self._scheduled = False
        self._started = False
        self._running = False
        self._retiring: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def start(self) -> None:
        """Recover from the data directory, listen, and take part. May be tried again when it failed."""
        if self._started:
            raise RuntimeError("a server starts once; make another one, with a machine that is new as well")
        self._started = True
        try:
            await self._start()
        except BaseException as error:
            self._started = False
            if not self._stopped.done():
                # Somebody may wait for it already.
                self._stopped.set_exception(RaftError(f"the server did not start: {error}"))
                self._stopped.exception()
            raise

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        found = await self._recovered()
        self._log = found.log
        self.config = found.config
        try:
            self.driver = self._drive()
            await self._connect(found)
        except BaseException:
            self._log.close()
            raise
        self._running = True
        self._syncer = Syncer(self._log, self._loop, self._synced)
        self._snapshotter = Snapshotter(self._log, self._snapshot_taken, self._snapshot_failed)
        self._timer = self._loop.call_later(self.tick_interval, self._on_tick)
        joiner = Joiner(self._cluster, self._settings.join, self._settings.learner)
        self._cluster.start(None if self._cluster.members_known.settled else joiner)
        log.info(
            "node %s: listening on %s, recovered term %s and %s entries from %s",
            self.config.id,
            self.address,
            self.driver.node.term,
            self._log.last_index(),
            self._settings.data_dir,
        )

    def _drive(self) -> Driver:
        return Driver(
            self.config,
            self._log,
            self._machine,
            tick_interval=self.tick_interval,
            now=self._clock(),
            wall=lambda: time.time_ns() // 1_000_000,
            nonce=lambda: secrets.token_bytes(NONCE_BYTES),
            report=log.info,
        )

    async def _connect(self, found: Recovered) -> None:
        links = Links(random.Random())
        try:
            self.address = await links.bind(self._settings.listen)
            own = str(self._settings.advertise or self.address)
            incarnation = found.identity.incarnation
            members = Members(
                self.driver.node,
                (own, incarnation),
                self._settings.others,
                found.peers,
                bool(found.identity.voters),
            )
            greeting = Greeting(self.cluster_id, self.config.id, incarnation, own)
            self._links = links
            self._cluster = Cluster(self, greeting, members, links, self._callbacks)
            self.driver.node.passive = members.is_joining
            await links.serve(self._cluster)
        except BaseException:
            await links.close()
            raise

    async def _recovered(self) -> Recovered:
        """What is in the data directory. Who is cancelled waits for it: the log must be closed."""
        opening = asyncio.ensure_future(
            asyncio.to_thread(recover, self._fs, self._settings.data_dir, self.cluster_id, self.config)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            while not opening.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((opening,))
            if opening.exception() is None:
                opening.result().log.close()
            raise

    async def stop(self) -> None:
        """Leave: hand leadership over, if there is somebody to take it, answer whoever waits, make the log
        durable, release everything. Returns when that is done, whoever began it; at once when nothing was
        started."""
        if self._running and self._retiring is None and self._ending is None:
            if self.driver.node.is_leader and self._has_followers():
                self._retiring = self._loop.create_task(self._retire())
            else:
                self._leave()
        if self._retiring is not None:
            await asyncio.shield(self._retiring)
        if self._ending is not None:
            await asyncio.shield(self._ending)

    def _has_followers(self) -> bool:
        return len(self.driver.node.membership.voters - {self.config.id}) > 0

    async def _retire(self) -> None:
        """Hand over, so that nobody has to wait for an election. It need not work out."""
        patience = self.config.election_timeout[1] * self.tick_interval
        try:
            with contextlib.suppress(RaftError, ValueError, TimeoutError):
                async with asyncio.timeout(patience):
                    await self._cluster.leading.hand_over(None, self._loop.time() + patience)
        finally:
            self._leave()

    def _leave(self) -> None:
        if not self._running:
            return
        self._running = False
        self._timer.cancel()
        self._callbacks.leadership(False, self.driver.node.term)
        self._deliver(self.driver.stop(RaftError("the server stops")))
        for waiter in self._leader_waiters:
            if not waiter.done():
                waiter.set_exception(RaftError("the server stops"))
        self._ending = self._loop.create_task(self._release())

    async def _release(self) -> None:
        try:
            await self._cluster.close()
            await self._snapshotter.close()
            await asyncio.to_thread(self._close_log)
        finally:
            log.info("node %s: stopped", self.config.id)
            if self._failure is None:
                self._stopped.set_result(None)
            else:
                self._stopped.set_exception(raisable(self._failure))
                self._stopped.exception()  # whoever waits is told; nobody has to

    def _close_log(self) -> None:
        self._syncer.stop()
        try:
            if self._failure is None or isinstance(self._failure, RemovedError):
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

    @property
    def is_running(self) -> bool:
        """Whether the server has started and not begun to stop."""
        return self._running

    def _check_known(self) -> None:
        if not hasattr(self, "_cluster"):
            raise self._down()

    def _check_running(self) -> None:
        if not self._running:
            raise self._down()

    def _future(self) -> asyncio.Future[Any]:
        self._check_running()
        return self._loop.create_future()

    def deadline(self, timeout: float) -> float:
        """The time, on the server's clock, `timeout` seconds from now."""
        if not timeout >= 0:
            raise ValueError(f"timeout must be 0 or more seconds, not {timeout}")
        return self._clock() + timeout

    def submit(self, request: Request) -> None:
        """Take a request whose waiter is called back, without a future."""
        self._check_running()
        self.driver.request(request)
        self.schedule()

    # What the cluster's operations use (`cluster.Owner`).

    async def set_member(self, node: NodeId, member: Member, timeout: float) -> None:
        """Replicate a row of the table of members."""
        future: asyncio.Future[bytes] = self._future()
        waiter = FutureWaiter(future)
        self.submit(Request(waiter, self.deadline(timeout), None, member=(node, member)))
        await future

    async def read(self, query: Callable[[Any], Any], *, timeout: float) -> Any:
        """Run `query(machine)` at a linearizable point."""
        future: asyncio.Future[Any] = self._future()
        self.submit(Request(FutureWaiter(future), self.deadline(timeout), None, query=query))
        return await future

    def end(self, error: Exception) -> None:
        """Stop, of this."""
        if self._running:
            self._failure = error
            log.warning("node %s: stops: %s", self.config.id, error)
            self._leave()

    # Turns.

    def schedule(self) -> None:
        """Take a turn soon."""
        # A turn runs after everything that is readable now was read: one turn for all of it.
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _on_tick(self) -> None:
        self._timer = self._loop.call_later(self.tick_interval, self._on_tick)
        self.schedule()

    def _synced(self, ticket: int, failure: Exception | None) -> None:
        if failure is None:
            self.driver.synced(ticket)
        else:
            self.driver.sync_failed(ticket, _brief(failure))
        if not self._scheduled:
            self._turn()

    def _turn(self) -> None:
        self._scheduled = False
        if not self._running:
            return
        output = self.driver.turn(self._clock())
        for peer, batch in output.send.items():
            self._links.send(peer, batch)
        if output.sync:
            self._syncer.begin(output.sync)
        if output.capture is not None:
            self._snapshotter.begin(output.capture)
        self._deliver(output.answers)
        failure = output.failure or self._look_around(output)
        if failure is not None:
            self._die(failure)
        elif output.again:
            self.schedule()

    def _look_around(self, output: Output) -> Exception | None:
        """Let everybody notice what has changed. Returns what this server cannot go on with."""
        try:
            self._cluster.after_turn(output)
            self.driver.node.passive = self._cluster.members_known.is_joining
        except Exception as error:
            return error
        leader = self.driver.node.leader
        if leader is not None:
            for waiter in self._leader_waiters:
                if not waiter.done():
                    waiter.set_result(leader)
        return None

    def _die(self, failure: Exception) -> None:
        self._failure = failure
        if isinstance(failure, RaftError):
            log.error("node %s: stops: %s", self.config.id, failure)
        else:
            log.error("node %s: a bug, here or in the state machine", self.config.id, exc_info=failure)
        self._leave()

    def _snapshot_taken(self, index: Index, data: bytes | SnapshotData) -> None:
        self.driver.snapshot_taken(index, data)
        self.schedule()

    def _snapshot_failed(self, index: Index, error: Exception) -> None:
        self.driver.snapshot_failed(index, error)
        self.schedule()

    def _deliver(self, answers: list[Answer]) -> None:
        for waiter, succeeded, value in answers:
            try:
                if succeeded:
                    waiter.succeeded(value)
                else:
                    waiter.failed(value)
            except Exception:
                log.exception("node %s: a bug in who waits for an answer", self.config.id)


def _brief(failure: Exception) -> str:
    """What a failure says, for an error of the log's storage that says the rest."""
    return f"{failure.context}: {failure.detail}" if isinstance(failure, StorageError) else str(failure)
