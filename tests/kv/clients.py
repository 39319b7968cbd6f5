"""Servers of RESP in the process of the test, and what connects to them over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.server.hosts import eventually

from raft_io import RaftConfig, RaftNode
from raft_io.kv.server import RespServer
from raft_io.kv.store import KeyValueStore
from raft_io.server import RaftServer
from raft_io.server.address import Address
from raft_io.server.requests import Request

LOOPS = ["asyncio", "uvloop"] if importlib.util.find_spec("uvloop") is not None else ["asyncio"]
both_loops = pytest.mark.parametrize("loop", LOOPS)

MEBIBYTE = 1024 * 1024
VALUE = b"v" * 64 * 1024


def run(test: Callable[[], Awaitable[None]], loop: str = "asyncio", seconds: float = 30.0) -> None:
    """Run a test on a loop of its own, which must have nothing to complain about."""
    complaints: list[dict[str, Any]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(seconds):
            await test()

    with asyncio.Runner(loop_factory=_uvloop if loop == "uvloop" else None) as runner:
        runner.run(bounded())
    assert complaints == []


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


class StandIn:
    """Takes requests as a `RaftServer` does, and answers them from a store of its own: at once, or, where
    `held`, when the test says so."""

    def __init__(self, *, held: bool = False, max_command_bytes: int = MEBIBYTE) -> None:
        self.config = RaftConfig(1, ())
        self.max_command_bytes = max_command_bytes
        self.status = RaftNode(self.config).status
        self.machine = KeyValueStore()
        self.held = held
        self.refusal: Exception | None = None
        """What `submit` raises."""
        self.requests: list[Request] = []
        """Those that wait for an answer."""
        self.taken = 0
        self.largest = 0

    def deadline(self, timeout: float) -> float:
        return timeout

    def submit(self, request: Request) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.taken += 1
        self.largest = max(self.largest, len(request.data or b""))
        self.requests.append(request)
        if not self.held:
            asyncio.get_running_loop().call_soon(self.answer)

    def answer(self) -> None:
        """Carry out the request that waits longest."""
        request = self.requests.pop(0)
        if request.data is not None:
            request.waiter.succeeded(self.machine.apply(request.data))
        else:
            assert request.query is not None
            request.waiter.succeeded(request.query(self.machine))

    def fail(self, error: Exception) -> None:
        """Fail the request that waits longest."""
        self.requests.pop(0).waiter.failed(error)

    async def asked(self) -> None:
        """Return once a request waits."""
        await eventually(lambda: self.requests)


class Door:
    """A `RespServer` and the connections that a test made to it."""

    def __init__(self, resp: RespServer, address: Address) -> None:
        self.resp = resp
        self.address = address
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(self.address.host, self.address.port))
        self.clients.append(client)
        return client


@contextlib.asynccontextmanager
async def served(server: StandIn | RaftServer, **options: Any) -> AsyncIterator[Door]:
    """A `RespServer` before `server`."""
    resp = RespServer(cast(RaftServer, server), listen="127.0.0.1:0", **options)
    door = Door(resp, await resp.start())
    try:
        yield door
    finally:
        await resp.stop()
        for client in door.clients:
            client.writer.transport.abort()


@contextlib.asynccontextmanager
async def node(path: Path, **options: Any) -> AsyncIterator[Door]:
    """A `RespServer` before a real cluster of one that has a leader."""
    settings: dict[str, Any] = {"listen": "127.0.0.1:0", "peers": {}, "tick_interval": 0.005, **options}
    async with RaftServer(1, KeyValueStore(), data_dir=path / "node", **settings) as server:
        await server.wait_for_leader()
        async with served(server) as door:
            yield door


class Client:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *commands: str | bytes) -> None:
        """Commands, each a line of words, all at once."""
        self.writer.write(pipeline(*commands))

    async def expect(self, *replies: bytes) -> None:
        """Read exactly these replies."""
        expected = b"".join(replies)
        received = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while len(received) < len(expected) and not self.reader.at_eof():
                    received += await self.reader.read(len(expected) - len(received))
        assert received == expected

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        received = b""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                while data := await self.reader.read(65536):
                    received += data
        return received

    async def ask(self, command: str) -> bytes:
        """The bulk string that answers `command`."""
        self.send(command)
        head = await self.reader.readline()
        assert head.startswith(b"$"), head
        return (await self.reader.readexactly(int(head[1:]) + 2))[:-2]

    def vanish(self) -> None:
        """Reset the connection, as after a crash."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()


def encode(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


def pipeline(*commands: str | bytes) -> bytes:
    lines = [command.encode() if isinstance(command, str) else command for command in commands]
    return b"".join(encode(*line.split()) for line in lines)


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


class Deaf:
    """A connection that keeps little of what it receives; its owner sends, and does not read until told."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 512 * 1024)
        self.socket.setblocking(False)
        self.loop = asyncio.get_running_loop()

    async def connect(self, address: Address) -> None:
        await self.loop.sock_connect(self.socket, (address.host, address.port))

    async def stalls(self, data: memoryview) -> int:
        """Send as much as the server takes. Returns how much that was."""
        sent = 0
        quiet = time.monotonic()
        while sent < len(data) and time.monotonic() < quiet + 0.3:
            try:
                sent += self.socket.send(data[sent : sent + 262144])
                quiet = time.monotonic()
            except BlockingIOError:
                await asyncio.sleep(0.002)
            await asyncio.sleep(0)
        return sent

    async def check(self, expected: bytes, times: int) -> None:
        """Read `expected` so many times, then the end."""
        left = times * len(expected)
        place = 0
        repeated = memoryview(expected * 2)
        while data := await self.loop.sock_recv(self.socket, len(expected)):
            assert repeated[place : place + len(data)] == data
            place = (place + len(data)) % len(expected)
            left -= len(data)
        assert left == 0

    async def finish(self, data: memoryview) -> None:
        """Send the rest, and then no more."""
        await self.loop.sock_sendall(self.socket, data)
        self.socket.shutdown(socket.SHUT_WR)
