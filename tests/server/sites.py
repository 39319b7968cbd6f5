"""A server over HTTP with some routes, and a client that sends bytes and takes bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from raft_io.server import http
from raft_io.server.http import HttpServer, Reply, Request, Stream

POST = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
GET = b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n"


class Connection:
    """A client that sends bytes and takes bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        content = await self._reader.readexactly(int(headers["content-length"])) if body else b""
        return int(head[0].split()[1]), headers, content

    async def get(self, path: bytes) -> tuple[int, dict[str, str], bytes]:
        await self.send(GET % path)
        return await self.answer()

    async def is_closed(self) -> bool:
        """Whether nothing more comes."""
        try:
            return await self._reader.read() == b""
        except ConnectionResetError:
            return True

    def half_close(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Be gone, and tell the other side."""
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._writer.transport.abort()


class Site:
    """A server, and what its routes have seen."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._made: list[Connection] = []
        self.requests: list[Request] = []
        self.go = asyncio.Event()
        self.over = asyncio.Event()
        self.blocks = 0

    async def __call__(self) -> Connection:
        self._made.append(Connection(*await asyncio.open_connection(*self._address)))
        return self._made[-1]

    def close(self) -> None:
        for connection in self._made:
            connection.close()

    def echo(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply(request.body.decode())

    async def slow(self, request: Request) -> Reply:
        """Answers once it may."""
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.over.set()
            raise
        return Reply({"done": True})

    def stream(self, request: Request) -> Stream:
        return Stream(self._blocks(), 64 * BLOCK, {"x-own": "yes"})

    async def later(self, request: Request) -> Stream:
        await asyncio.sleep(0)
        return self.stream(request)

    def short(self, request: Request) -> Stream:
        """Promises more than there is."""
        return Stream(self._blocks(), 65 * BLOCK)

    def broken(self, request: Request) -> Stream:
        """Fails in the middle."""
        return Stream(self._blocks(fail=True), 64 * BLOCK)

    async def _blocks(self, fail: bool = False) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(64):
                if fail and number == 5:
                    raise OSError("the disk is gone")
                self.blocks += 1
                yield bytes((number,)) * BLOCK
        finally:
            self.over.set()

    def bug(self, request: Request) -> Reply:
        raise RuntimeError("a bug")

    async def slow_bug(self, request: Request) -> Reply:
        raise RuntimeError("a bug")


BLOCK = 256 * 1024


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    """A server with some routes."""
    site = Site(("", 0))
    routes: http.Routes = {
        "/number": {"GET": lambda request: Reply({"value": 5})},
        "/large": {"GET": lambda request: Reply("x" * 1_000_000)},
        "/gone": {
            "GET": lambda request: Reply("it was here\n", 410),
            "POST": lambda request: Reply("posted\n"),
        },
        "/echo": {"POST": site.echo},
        "/slow": {"POST": site.slow},
        "/stream": {"GET": site.stream},
        "/later": {"GET": site.later},
        "/short": {"GET": site.short},
        "/broken": {"GET": site.broken},
        "/bug": {"GET": site.bug, "POST": site.slow_bug},
    }
    server = HttpServer(routes, listen="127.0.0.1:0")
    address = await server.start()
    site._address = (address.host, address.port)
    try:
        yield site
    finally:
        site.close()
        site.go.set()
        await server.stop()


def run(test: Callable[[Site], Awaitable[None]]) -> None:
    """Run a test against a server, for a while at most."""

    async def bounded() -> None:
        async with asyncio.timeout(30), serving() as connect:
            await test(connect)

    asyncio.run(bounded())
