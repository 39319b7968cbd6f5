"""HTTP: answers that take their time, or are long: what may wait for what, and for how long."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest
from tests.server.sites import BLOCK, GET, POST, Connection, Site, run

from raft_io.server import http
from raft_io.server.http import HttpServer, Reply, Request


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
