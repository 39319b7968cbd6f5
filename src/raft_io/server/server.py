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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from raft_io.core.config import RaftConfig
from raft_io.core.status import Status
from raft_io.core.types import Index, Membership, NodeId, Snapshot, SnapshotData, Term
from raft_io.errors import RaftError, RemovedError, StorageError
from raft_io.server.address import Address
from raft_io.server.answers import FutureWaiter, raisable
from raft_io.server.cluster import Callbacks, Cluster
from raft_io.server.driver import Driver
from raft_io.server.envelope import NONCE_BYTES, Member
from raft_io.server.frames import MAX_FRAME, Greeting
from raft_io.server.joining import Joiner
from raft_io.server.machine import StateMachine
from raft_io.server.membership import MemberInfo, Members
from raft_io.server.recovery import Recovered, recover
from raft_io.server.requests import Request
from raft_io.server.snapshotter import Snapshotter
from raft_io.server.syncer import Syncer
from raft_io.server.transport import Links
from raft_io.storage import FileSystem, OsFileSystem
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
    "snapshot_chunk": 256 * 1024,
    "snapshot_threshold": 100_000,
}
"""Options of `RaftConfig` that differ here. The first ones bound what one turn applies, and what it sends to a
follower that is far behind: a turn that lasts longer than an election timeout costs the leader its office. A
snapshot every 100,000 entries keeps the log, and the time that a restart takes, from growing."""

WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - they are refused as addresses of a member


class RaftServer:
    """Hosts `machine` as node `id` of a cluster. An async context manager.

    - `listen`: where peers connect, `"host:port"` (a port alone: on loopback).
    - `peers`: ids and addresses of all voters of a new cluster, `{1: "host:port", ...}`; this node's own may
      be among them. Once the cluster has changed its members the log knows them, and `peers` have no say.
    - `join`: instead of `peers`, the address of any member of a cluster that this node is to join: it is added
      as a learner and becomes a voter when it has caught up; with `learner` it stays one. A node that has
      joined needs neither when it starts again.
    - `advertise`: where peers reach this node, if that is not where it listens.
    - `data_dir`: where the log and the node's identity live; made if absent.
    - `cluster_id`: servers of another cluster are refused. At most 255 bytes.
    - `tick_interval`: seconds of a logical tick. `max_command_bytes`: the longest command.
    - `on_leadership(leads, term)` is called when this node begins or ceases to lead, `on_membership(membership)`
      when another membership is in force here, `on_removed()` when this node is no member any more and is about
      to stop: plain functions, called on the loop.
    - `options`: those of `RaftConfig`, such as `election_timeout=(10, 20)`. Unless told otherwise
      `max_apply_bytes` is 1 MiB, `max_batch_bytes` 256 KiB, `max_inflight` 16, `snapshot_chunk` 256 KiB and
      `snapshot_threshold` 100,000.

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
        join: str | int | None = None,
        learner: bool = False,
        advertise: str | int | None = None,
        cluster_id: str = "raft-io",
        tick_interval: float = 0.025,
        max_command_bytes: int = 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
        fs: FileSystem | None = None,
        on_leadership: Callable[[bool, Term], object] | None = None,
        on_membership: Callable[[Membership], object] | None = None,
        on_removed: Callable[[], object] | None = None,
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
        self._join = None if join is None else Address.parse(join)
        others = [peer for peer in peers if peer != id]
        if join is not None and others:
            raise ValueError("a node begins a cluster with its peers, or joins one: not both")
        begin = RaftConfig(id, peers) if join is None else RaftConfig.joining(id)
        self.config = begin.replace(**{**DEFAULTS, **options})
        largest = self.config.max_batch_bytes + self.config.max_batch * ENTRY_HEADER
        if max(largest, self.config.snapshot_chunk) > MAX_FRAME // 2:
            raise ValueError(
                f"max_batch_bytes, max_batch and snapshot_chunk allow messages of "
                f"{max(largest, self.config.snapshot_chunk)} bytes; at most {MAX_FRAME // 2} are accepted"
            )
        self.max_command_bytes = max_command_bytes
        self.cluster_id = cluster_id
        self.tick_interval = tick_interval
        self._machine = machine
        self._learner = learner
        self._listen = Address.parse(listen)
        self._configured = {peer: Address.parse(peers[peer]) for peer in others}
        self._advertise = _advertised(self._listen, advertise, peers.get(id))
        self._data_dir = Path(data_dir)
        self._clock = clock
        self._fs = OsFileSystem() if fs is None else fs
        self._callbacks = Callbacks(on_leadership, on_membership, on_removed)
        self._leader_waiters: list[asyncio.Future[NodeId]] = []
        self._scheduled = False
        self._started = False
        self._running = False
        self._retiring: asyncio.Task[None] | None = None
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
        joiner = Joiner(self._cluster, self._join, self._learner)
        self._cluster.start(None if self._cluster.members_known.settled else joiner)
        log.info(
            "node %s: listening on %s, recovered term %s and %s entries from %s",
            self.config.id,
            self.address,
            self.driver.node.term,
            self._log.last_index(),
            self._data_dir,
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
            self.address = await links.bind(self._listen)
            own = str(self._advertise or self.address)
            incarnation = found.identity.incarnation
            members = Members(
                self.driver.node,
                (own, incarnation),
                self._configured,
                found.peers,
                bool(found.identity.voters),
            )
            greeting = Greeting(self.cluster_id, self.config.id, incarnation, own)
            self._links = links
            self._cluster = Cluster(self, greeting, members, links, self._callbacks)
            await links.serve(self._cluster)
        except BaseException:
            await links.close()
            raise

    async def _recovered(self) -> Recovered:
        """What is in the data directory. Who is cancelled waits for it: the log must be closed."""
        opening = asyncio.ensure_future(
            asyncio.to_thread(recover, self._fs, self._data_dir, self.cluster_id, self.config)
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
        self.submit(Request(FutureWaiter(future), self.deadline(timeout), command, key))
        return await future

    async def read(self, query: Callable[[Any], Value], *, timeout: float = DEFAULT_TIMEOUT) -> Value:
        """Run `query(machine)` at a linearizable point and return its result: it sees every write that was
        acknowledged before this call. Works on any node, and writes nothing to the log.

        `query` must not change the machine. Raises what `query` raises, and as `propose` does.
        """
        future: asyncio.Future[Value] = self._future()
        self.submit(Request(FutureWaiter(future), self.deadline(timeout), None, query=query))
        return await future

    def submit(self, request: Request) -> None:
        """Take a request whose waiter is called back, without a future: for servers of many clients."""
        self._check_running()
        if request.data is not None and len(request.data) > self.max_command_bytes:
            raise ValueError(
                f"a command of {len(request.data)} bytes; at most {self.max_command_bytes} are accepted"
            )
        if request.key is not None and len(request.key) > MAX_KEY_BYTES:
            raise ValueError(f"a key of {len(request.key)} bytes; at most {MAX_KEY_BYTES} are accepted")
        self.driver.request(request)
        self.schedule()

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

    async def change_membership(
        self,
        voters: Iterable[NodeId] | None = None,
        learners: Iterable[NodeId] | None = None,
        *,
        addresses: Mapping[NodeId, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Move the cluster to these members, and return when that is committed. Works on any node, and may be
        repeated. `None`: those who are voters (learners) stay it, unless they are named as the other.

        `addresses` of new members have to be named; those of others may be changed, also alone.

        Raises `ValueError` for members that cannot be, or whose address is not known;
        `MembershipChangeInProgressError` while another change is under way; `NotLeaderError` when no leader
        was found in `timeout` seconds, `TimeoutError` when the outcome is unknown.
        """
        self._check_running()
        operator = self._cluster.operator
        await self._cluster.run(operator.change_membership(voters, learners, addresses or {}, timeout))

    async def transfer_leadership(
        self, target: NodeId | None = None, *, timeout: float = DEFAULT_TIMEOUT
    ) -> NodeId:
        """Hand leadership over to the voter `target`, or to the one that is the most caught up. Works on any
        node. Returns who leads.

        Raises `ValueError` for one that is no voter, `RaftError` when the leader gave up after an election
        timeout; `NotLeaderError` and `TimeoutError` as `change_membership` does.
        """
        self._check_running()
        return await self._cluster.run(self._cluster.operator.transfer(target, timeout))

    async def take_snapshot(self, *, timeout: float = DEFAULT_TIMEOUT) -> Index:
        """Have this node take a snapshot of what it has applied; returns its index once it is durable. Raises
        `RaftError` if it could not be taken, `TimeoutError` if it takes longer."""
        future: asyncio.Future[Index] = self._future()
        self.driver.request_snapshot(FutureWaiter(future))
        self.schedule()
        async with asyncio.timeout(timeout):
            return await future

    async def ask(self, node: NodeId, kind: str, body: Any, *, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """What another server answers that has an answer to `kind` (see `on_ask`): JSON for JSON. Raises
        `RaftError` or `ValueError` as it does, and `TimeoutError`."""
        self._check_running()
        return await self._cluster.run(self._cluster.ask(node, kind, body, timeout))

    def on_ask(self, kind: str, answer: Callable[[Any], Any]) -> None:
        """Answer other servers that `ask` for `kind`. For a server that was started."""
        self._check_running()
        self._cluster.on_ask(kind, answer)

    @property
    def members(self) -> dict[NodeId, MemberInfo]:
        """The members as this node knows them: address, role and incarnation by id."""
        self._check_known()
        return self._cluster.members_known.listing()

    @property
    def addresses(self) -> dict[NodeId, str]:
        """Where the members listen for each other, as far as it is known here."""
        return {node: member.address for node, member in self.members.items() if member.address is not None}

    @property
    def snapshot(self) -> Snapshot | None:
        """The last snapshot of this node."""
        self._check_known()
        return self._log.snapshot()

    @property
    def leader(self) -> NodeId | None:
        """The leader that this node knows of."""
        return self.driver.node.leader if self._running else None

    @property
    def status(self) -> Status:
        """What the node is at this moment; after the server has stopped, what it was."""
        self._check_known()
        return self.driver.node.status

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

    # What the cluster's operations use (`cluster.Shell`).

    async def set_member(self, node: NodeId, member: Member, timeout: float) -> None:
        """Replicate a row of the table of members."""
        future: asyncio.Future[bytes] = self._future()
        waiter = FutureWaiter(future)
        self.submit(Request(waiter, self.deadline(timeout), None, member=(node, member)))
        await future

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
            self.driver.sync_failed(ticket, str(failure))
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
        self._cluster.after_turn(output)
        self._deliver(output.answers)
        if self._leader_waiters and self.driver.node.leader is not None:
            for waiter in self._leader_waiters:
                if not waiter.done():
                    waiter.set_result(self.driver.node.leader)
        if output.failure is not None:
            self._die(output.failure)
        elif output.again:
            self.schedule()

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

    def _deliver(self, answers: list[Any]) -> None:
        for waiter, succeeded, value in answers:
            try:
                if succeeded:
                    waiter.succeeded(value)
                else:
                    waiter.failed(value)
            except Exception:
                log.exception("node %s: a bug in who waits for an answer", self.config.id)


def _advertised(listen: Address, advertise: str | int | None, own: str | None) -> Address | None:
    """Where peers reach this node; `None`: where it turns out to listen."""
    if advertise is None and own is None:
        if listen.host in WILDCARDS:
            raise ValueError(f"advertise is needed with listen={listen}: peers cannot dial {listen.host}")
        return None
    address = Address.parse(advertise if advertise is not None else str(own))
    if address.host in WILDCARDS:
        raise ValueError(f"{address} is no address for peers: they cannot dial {address.host}")
    return address if address.port else None
