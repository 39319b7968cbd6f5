"""HTTP: what is answered, how long that may take, and to whom nothing more is answered."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from raft_io.server import http
from raft_io.server.http import HttpServer, Reply, Request, Stream

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


def test_a_value_goes_out_as_json_a_text_as_it_is() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        status, headers, body = await client.get(b"/number")
        assert (status, headers["content-type"], json.loads(body)) == (200, "application/json", {"value": 5})
        status, headers, body = await client.get(b"/gone?and=more")
        assert (status, headers["content-type"], body) == (410, "text/plain; charset=utf-8", b"it was here\n")

    run(test)


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"GET /nothing HTTP/1.1", 404),
        (b"GET /number/ HTTP/1.1", 404),
        (b"GET http://x/number HTTP/1.1", 404),
        (b"POST /number HTTP/1.1", 405),
        (b"DELETE /gone HTTP/1.1", 405),
        (b"POST /gone HTTP/1.1", 200),
    ],
)
def test_what_is_not_there_is_refused_and_the_connection_stays(request_line: bytes, expected: int) -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(request_line + b"\r\nhost: x\r\n\r\n")
        status, headers, _ = await client.answer()
        assert status == expected
        if status == 405:
            assert headers["allow"] == ("get, post" if b"gone" in request_line else "get")
        assert (await client.get(b"/number"))[0] == 200

    run(test)


def test_head_is_answered_without_a_body() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(b"HEAD /number HTTP/1.1\r\nhost: x\r\n\r\n")
        status, headers, _ = await client.answer(body=False)
        assert (status, headers["content-length"]) == (200, str(len(b'{"value": 5}\n')))
        assert (await client.get(b"/number"))[0] == 200

    run(test)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"\x00\xff\x13\r\n\r\n", 400, id="noise"),
        pytest.param(b"GET /number HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET /number HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", 400, id="bad header"),
        pytest.param(b"GET /" + b"x" * (http.MAX_HEAD + 1), 431, id="long line"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * http.MAX_HEAD, 431, id="many headers"),
        pytest.param(
            b"POST /gone HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000,
            413,
            id="body",
        ),
    ],
)
def test_whoever_breaks_the_rules_is_told_and_disconnected(data: bytes, expected: int) -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(data)
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (expected, "close")
        assert await client.is_closed()
        assert (await (await connect()).get(b"/number"))[0] == 200

    run(test)


def test_requests_that_come_together_or_in_pieces_are_answered_in_order() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(GET % b"/number" + GET % b"/nothing" + (GET % b"/gone")[:7])
        assert [(await client.answer())[0] for _ in range(2)] == [200, 404]
        await client.send((GET % b"/gone")[7:])
        assert (await client.answer())[0] == 410

    run(test)


def test_a_body_is_taken_and_the_next_request_answered() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(
            b"POST /gone HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        )
        assert (await client.answer(body=False))[0] == 100
        await client.send(b"12345" + GET % b"/number")
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]

    run(test)


@pytest.mark.parametrize(
    "head", [b"GET /number HTTP/1.0\r\n\r\n", GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")]
)
def test_a_client_that_wants_one_answer_gets_one(head: bytes) -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(head.replace(b"%s", b"/number"))
        assert (await client.answer())[0] == 200
        assert await client.is_closed()

    run(test)


def test_a_client_that_closes_its_side_still_gets_its_answer() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(GET % b"/large")
        client.half_close()
        assert len((await client.answer())[2]) == 1_000_000
        assert await client.is_closed()

    run(test)


@pytest.mark.parametrize("sent", [b"", b"GET /num", GET % b"/number" + b"GET"])
def test_a_slow_client_is_disconnected(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.2)

    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(sent)
        if b"\r\n" in sent:
            assert (await client.answer())[0] == 200
        assert await client.is_closed()

    run(test)


def test_a_client_that_takes_no_answers_is_read_no_further_and_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.5)
    answered = 0

    async def test(connect: Site) -> None:
        nonlocal answered
        client = await connect()
        # 500 answers of a megabyte: no socket holds as much.
        await client.send(GET % b"/large" * 500)
        await asyncio.sleep(1.0)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            while True:
                await client.answer()
                answered += 1

    run(test)
    assert answered < 100


def test_too_many_connections_are_refused_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)

    async def test(connect: Site) -> None:
        first, second = await connect(), await connect()
        assert (await second.get(b"/number"))[0] == 200
        assert await (await connect()).is_closed()
        first.close()
        while True:
            third = await connect()
            try:
                assert (await third.get(b"/number"))[0] == 200
            except (asyncio.IncompleteReadError, ConnectionError):
                continue  # the server has not noticed yet
            return

    run(test)


def test_a_port_in_use_is_an_error() -> None:
    async def test() -> None:
        first = HttpServer({}, listen=0)
        address = await first.start()
        second = HttpServer({}, listen=address.port)
        with pytest.raises(OSError, match="in use"):
            await second.start()
        await second.stop()
        await first.stop()

    asyncio.run(test())


POST = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


def test_errors_are_json() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        assert json.loads((await client.get(b"/nothing"))[2]) == {
            "error": "NotFound",
            "message": "Nothing matches the given URI",
            "retryable": False,
        }

    run(test)


def test_a_handler_sees_what_was_sent() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        head = b"POST /echo?a=1&b=2 HTTP/1.1\r\nHost: me\r\nContent-Type: text/x\r\ncontent-length: 3\r\n\r\n"
        await client.send(head + b"a")
        await client.send(b"bc")
        assert (await client.answer())[2] == b"abc"
        (request,) = connect.requests
        assert (request.method, request.path, request.query) == ("POST", "/echo", "a=1&b=2")
        assert request.headers == {"host": "me", "content-type": "text/x", "content-length": "3"}

    run(test)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_bug_is_status_500_and_logged(method: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send((GET if method == "GET" else POST) % b"/bug")
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]) == (500, "InternalServerError")
        assert (await client.get(b"/number"))[0] == 200

    with caplog.at_level(logging.ERROR):
        run(test)
    assert "RuntimeError: a bug" in caplog.text


def test_requests_behind_one_that_takes_its_time_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.3)

    async def test(connect: Site) -> None:
        client, other = await connect(), await connect()
        await client.send(POST % b"/slow" + GET % b"/number")
        await asyncio.sleep(0.1)
        await client.send(GET % b"/gone")
        # What the node takes is not the client's fault; and others do not wait.
        await asyncio.sleep(0.3)
        assert (await (await connect()).get(b"/number"))[0] == 200
        assert await other.is_closed()
        connect.go.set()
        assert [(await client.answer())[0] for _ in range(3)] == [200, 200, 410]

    run(test)


def test_a_client_cannot_send_ahead_without_end() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        long = b"GET /number HTTP/1.1\r\nhost: x\r\nx-pad: %s\r\n\r\n" % (b"x" * 8192)
        await client.send(POST % b"/slow")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                while True:
                    await client.send(long * 100)
        connect.go.set()
        assert (await client.answer())[0] == 200
        client.reset()

    run(test)


def test_a_client_that_goes_while_it_waits_is_noticed() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(POST % b"/slow")
        await (await connect()).get(b"/number")
        client.reset()
        await connect.over.wait()

    run(test)


def test_a_client_that_closes_its_side_gets_an_answer_that_takes_time() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(POST % b"/slow")
        client.half_close()
        await (await connect()).get(b"/number")
        connect.go.set()
        assert (await client.answer())[0] == 200
        assert await client.is_closed()

    run(test)


@pytest.mark.parametrize("path", [b"/stream", b"/later"])
def test_a_stream_arrives_whole_and_the_connection_stays(path: bytes) -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        status, headers, body = await client.get(path)
        assert (status, headers["content-type"]) == (200, "application/octet-stream")
        assert headers["x-own"] == "yes"
        assert body == b"".join([bytes((number,)) * BLOCK for number in range(64)])
        assert (await client.get(b"/number"))[0] == 200

    run(test)


def test_the_head_of_a_stream_takes_nothing_of_it() -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(b"HEAD /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        status, headers, _ = await client.answer(body=False)
        assert (status, int(headers["content-length"])) == (200, 64 * BLOCK)
        assert connect.blocks == 0
        assert (await client.get(b"/number"))[0] == 200

    run(test)


def test_a_stream_waits_for_its_client_and_in_the_end_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.5)

    async def test(connect: Site) -> None:
        client = await connect()
        await client.send(GET % b"/stream")
        await asyncio.sleep(0.3)
        # The system's buffers hold some of it, the server's none of the rest.
        waiting = connect.blocks
        assert 0 < waiting < 40
        await asyncio.sleep(0.1)
        assert connect.blocks == waiting
        await connect.over.wait()
        assert connect.blocks == waiting

    run(test)


@pytest.mark.parametrize("path", [b"/broken", b"/short"])
def test_a_stream_that_fails_is_cut_so_that_the_client_can_tell(
    path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(connect: Site) -> None:
        client = await connect()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.get(path)
        assert connect.over.is_set()
        assert (await (await connect()).get(b"/number"))[0] == 200

    with caplog.at_level(logging.ERROR):
        run(test)
    assert "cut short" in caplog.text


def test_a_server_that_stops_finishes_what_it_was_asked() -> None:
    async def test() -> None:
        go = asyncio.Event()

        async def slow(request: Request) -> Reply:
            await go.wait()
            return Reply("done")

        server = HttpServer({"/slow": {"POST": slow}}, listen=0)
        address = await server.start()
        idle = Connection(*await asyncio.open_connection(address.host, address.port))
        busy = Connection(*await asyncio.open_connection(address.host, address.port))
        await busy.send(POST % b"/slow")
        await asyncio.sleep(0.1)
        stopping = asyncio.ensure_future(server.stop())
        assert await idle.is_closed()
        assert not stopping.done()
        go.set()
        status, headers, body = await busy.answer()
        assert (status, headers["connection"], body) == (200, "close", b"done")
        assert await busy.is_closed()
        await stopping
        idle.close()
        busy.close()

    asyncio.run(asyncio.wait_for(test(), 10))


def test_a_server_that_must_stop_now_cuts_what_is_under_way() -> None:
    async def test() -> None:
        async def never(request: Request) -> Reply:
            await asyncio.Event().wait()
            return Reply("done")

        server = HttpServer({"/slow": {"POST": never}}, listen=0)
        address = await server.start()
        busy = Connection(*await asyncio.open_connection(address.host, address.port))
        await busy.send(POST % b"/slow")
        await asyncio.sleep(0.1)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await server.stop()
        assert await busy.is_closed()
        busy.close()

    asyncio.run(asyncio.wait_for(test(), 10))
