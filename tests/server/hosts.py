"""Real servers on loopback, all in one process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.server.support import Recorder

from raft_io.server import RaftServer
from raft_io.server import frames as wire_frames

TICK = 0.01
Value = TypeVar("Value")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def run(test: Callable[[], Awaitable[None]], *, seconds: float = 30.0) -> None:
    """Run a test on a loop of its own, and see that it leaves nothing: no task, no thread, no complaint."""
    complaints: list[dict[str, Any]] = []
    threads = _threads()

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(seconds):
            await test()
        for _ in range(20):  # what was told to end may need a moment
            if len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.01)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == [], f"tasks are left: {left}"

    asyncio.run(bounded())
    assert complaints == [], f"the loop complained: {complaints}"
    assert _threads() <= threads, "a thread is left"


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("raft-io")}


class Trio:
    """Three servers that can be stopped and started again, each with its own machine and directory."""

    def __init__(self, path: Path, size: int = 3, **options: Any) -> None:
        self.path = path
        self.options = options
        self.ports = free_ports(size)
        self.peers = {node: f"127.0.0.1:{port}" for node, port in enumerate(self.ports, 1)}
        self.servers: dict[int, RaftServer] = {}
        self.machines: dict[int, Recorder] = {}

    def make(self, node: int, machine: Recorder | None = None, **options: Any) -> RaftServer:
        self.machines[node] = Recorder() if machine is None else machine
        settings: dict[str, Any] = {"tick_interval": TICK, **self.options, **options}
        return RaftServer(
            node,
            self.machines[node],
            listen=self.peers[node],
            peers=self.peers,
            data_dir=self.path / f"node-{node}",
            **settings,
        )

    async def start(self, node: int, **options: Any) -> RaftServer:
        server = self.make(node, **options)
        await server.start()
        self.servers[node] = server
        return server

    async def stop(self, node: int) -> None:
        await self.servers.pop(node).stop()

    async def leader(self) -> RaftServer:
        """The leader, once all that run agree on one."""
        return await eventually(self._leader)

    def _leader(self) -> RaftServer | None:
        known = {server.leader for server in self.servers.values()}
        leader = self.servers.get(known.pop() or 0) if len(known) == 1 else None
        return leader if leader is not None and leader.status.role.value == "leader" else None

    def followers(self, leader: RaftServer) -> list[RaftServer]:
        return [server for server in self.servers.values() if server is not leader]


def lone(path: Path, machine: Recorder | None = None, **options: Any) -> RaftServer:
    """A cluster of one."""
    settings: dict[str, Any] = {"tick_interval": TICK, "listen": "127.0.0.1:0", "peers": {}, **options}
    return RaftServer(1, machine or Recorder(), data_dir=path / "lone", **settings)


@contextlib.asynccontextmanager
async def trio(path: Path, size: int = 3, **options: Any) -> AsyncIterator[Trio]:
    """Three running servers with a leader."""
    cluster = Trio(path, size, **options)
    try:
        for node in cluster.peers:
            await cluster.start(node)
        await cluster.leader()
        yield cluster
    finally:
        for node in list(cluster.servers):
            await cluster.stop(node)


async def eventually(probe: Callable[[], Value | None], seconds: float = 10.0) -> Value:
    """What `probe` returns, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := probe()):
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)
    return value


def node_id(server: RaftServer) -> int:
    return server.config.id


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the library complained about, and nothing with a traceback."""
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.exc_info for record in records if record.exc_info] == []
    assert {record.name for record in records} <= {"raft_io.server"}
    return [record.getMessage() for record in records]


@contextlib.contextmanager
def listener(behave: Callable[[socket.socket], None], port: int = 0) -> Iterator[int]:
    """A TCP server in a thread that does to every connection what `behave` does; yields its port."""
    server = socket.create_server(("127.0.0.1", port))
    ended = threading.Event()

    def accept() -> None:
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                behave(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


async def read_frames(reader: asyncio.StreamReader) -> Sequence[tuple[int, bytes]]:
    """All that the other side says until it closes."""
    cut = wire_frames.Frames(wire_frames.MAX_FRAME)
    found: list[tuple[int, bytes]] = []
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            found += cut.feed(data)
    return found
