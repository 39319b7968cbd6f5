"""HTTP: what is answered, how long that may take, and to whom nothing more is answered."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from tests.server.sites import GET, POST, Site, run

from raft_io.server import http
from raft_io.server.http import HttpServer


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
        pytest.param(
            b"POST /gone HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n",
            413,
            id="body that is only announced",
        ),
        pytest.param(
            b"POST /gone HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
            % (http.MAX_BODY + 1),
            413,
            id="body that is asked about",
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
