"""`RaftServer`: one node of a replicated state machine, on asyncio.

What callers use. Below it: sockets, the clock and the disk on one side (`Shell`), `Driver` on the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from raft_io.core.status import Status
from raft_io.core.types import Index, Membership, NodeId, Snapshot, Term
from raft_io.server.address import Address
from raft_io.server.answers import FutureWaiter
from raft_io.server.cluster import Callbacks
from raft_io.server.machine import StateMachine
from raft_io.server.membership import MemberInfo
from raft_io.server.requests import Request
from raft_io.server.settings import Settings, advertised, configured
from raft_io.server.shell import Shell
from raft_io.storage import FileSystem, OsFileSystem

__all__ = ["RaftServer"]

Value = TypeVar("Value")

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds that a call waits for an answer unless told otherwise."""

MAX_KEY_BYTES: Final = 1024
"""Bytes of a caller's key."""


class RaftServer(Shell):
    """Hosts `machine` as node `id` of a cluster. An async context manager.

    - `listen`: where peers connect, `"host:port"` (a port alone: on loopback).
    - `peers`: ids and addresses of all voters of a new cluster, `{1: "host:port", ...}`; this node's own may
      be among them. Once the cluster has changed its members the log knows them, and `peers` have no say.
    - `join`: instead of `peers`, the address of any member of a cluster that this node is to join: it is
      added as a learner and becomes a voter when it has caught up; with `learner` it stays one. A node that
      has joined needs neither when it starts again.
    - `advertise`: where peers reach this node, if that is not where it listens.
    - `data_dir`: where the log and the node's identity live; made if absent.
    - `cluster_id`: servers of another cluster are refused. At most 255 bytes.
    - `tick_interval`: seconds of a logical tick. `max_command_bytes`: the longest command.
    - `on_leadership(leads, term)` is called when this node begins or ceases to lead,
      `on_membership(membership)` when another membership is in force here, `on_removed()` when this node is
      no member any more and is about to stop: plain functions, called on the loop.
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
        settings = Settings(
            cluster_id=cluster_id,
            listen=Address.parse(listen),
            others={peer: Address.parse(peers[peer]) for peer in peers if peer != id},
            join=None if join is None else Address.parse(join),
            learner=learner,
            advertise=advertised(Address.parse(listen), advertise, peers.get(id)),
            data_dir=Path(data_dir),
            tick_interval=tick_interval,
            max_command_bytes=max_command_bytes,
        )
        super().__init__(
            configured(id, peers, join is not None, options),
            machine,
            settings,
            Callbacks(on_leadership, on_membership, on_removed),
            clock,
            OsFileSystem() if fs is None else fs,
        )
        self.max_command_bytes = max_command_bytes

    async def __aenter__(self) -> RaftServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

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
        if request.data is not None and len(request.data) > self.max_command_bytes:
            raise ValueError(
                f"a command of {len(request.data)} bytes; at most {self.max_command_bytes} are accepted"
            )
        if request.key is not None and len(request.key) > MAX_KEY_BYTES:
            raise ValueError(f"a key of {len(request.key)} bytes; at most {MAX_KEY_BYTES} are accepted")
        super().submit(request)

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

        New voters are learners until they have caught up. Raises `ValueError` for members that cannot be,
        whose address is not known or another's, or for voters of whom the leader hears no majority;
        `MembershipChangeInProgressError` while another change is under way; `NotLeaderError` when no leader
        was found in `timeout` seconds, `TimeoutError` when the outcome is unknown, or new voters did not
        catch up: they stay learners.
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
