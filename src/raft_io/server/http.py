"""HTTP for operators: a small table of routes, each with a function that answers.

`h11` knows the protocol; here is what it leaves open: how long a client may take, how much it may send, how
much waits for it, and how many there may be. A client that breaks the rules gets an error if it can take one,
and is disconnected.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast

import h11

from raft_io.server.address import Address, port_of, stop_listening

__all__ = ["Handler", "HttpServer", "Reply", "Request", "Routes", "Stream", "failure"]

log = logging.getLogger("raft_io.server")

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request's line and headers."""

MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body."""

MAX_AHEAD: Final = 64 * 1024
"""Bytes that a client may send ahead while a request of it is being carried out."""

PATIENCE: Final = 10.0
"""Seconds that a client may take for a request, counted from the answer to the one before, and for a block of
an answer. How long the node works on a request is not counted."""

MAX_CONNECTIONS: Final = 64


@dataclass(frozen=True)
class Request:
    """What is asked. `headers` has lower-case names; of a header that came twice it has the last."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """An answer. `value` goes out as JSON, a text as it is."""

    value: Any
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> tuple[bytes, bytes]:
        """The content type and the body."""
        if isinstance(self.value, str):
            return b"text/plain; charset=utf-8", self.value.encode()
        return b"application/json", json.dumps(self.value).encode() + b"\n"


@dataclass(frozen=True)
class Stream:
    """An answer that is never in memory whole: each block is asked for once the client has taken those before
    it. When `blocks` fails, or ends early, the connection is cut, so that the client can tell."""

    blocks: AsyncGenerator[bytes, None]
    size: int
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Reply | Stream

Handler = Callable[[Request], Answer | Awaitable[Answer]]

Routes = Mapping[str, Mapping[str, Handler]]
"""Who answers, by path and method. A handler returns an answer, or something to be awaited for one; it raises
nothing that is meant for the client."""


def failure(status: int, kind: str = "", message: str = "", *, retryable: bool = False) -> Reply:
    """The answer to what cannot be done. `kind` and `message` are the status's own unless told otherwise."""
    known = HTTPStatus(status)
    body = {
        "error": kind or known.phrase.title().replace(" ", ""),
        "message": message or known.description or known.phrase,
        "retryable": retryable,
    }
    return Reply(body, status)


class _Connection(asyncio.Protocol):
    """One client. Its requests are answered one after the other."""

    def __init__(self, owner: HttpServer) -> None:
        self._owner = owner
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._choked = False
        self._taken = asyncio.Event()
        self._ahead = 0
        self._last = False
        self.task: asyncio.Task[None] | None = None
        """What is carrying out a request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base class
        if self._owner.admit(self):
            self._wait()
        else:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        if self.task is None:
            self._advance()
            return
        self._ahead += len(data)
        if self._ahead > MAX_AHEAD and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._http.receive_data(b"")
        if self.task is None:
            self._advance()
        # It may have closed only its side, and still wait for the answer.
        return self.task is not None

    def pause_writing(self) -> None:
        # It does not take its answers: read no more requests from it.
        self._choked = True
        self._taken.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._choked = False
        self._taken.set()
        if self.task is None:
            self._resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._relax()
        if self.task is not None:
            self.task.cancel()
        self._owner.forget(self)

    def finish(self) -> None:
        """End the connection, after the request that is being carried out."""
        self._last = True
        if self.task is None:
            self._close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _wait(self) -> None:
        self._relax()
        # One that does not even take its answers would keep a friendly close waiting.
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self.abort)

    def _relax(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and not self._choked:
            self._transport.resume_reading()
            self._advance()

    def _advance(self) -> None:
        """Answer all requests that are complete, up to one that has to be carried out first."""
        try:
            while (
                self._transport is not None
                and not self._transport.is_closing()
                and not self._choked
                and self.task is None
            ):
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return
                if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    self._close()
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def _take(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._request = event
            self._body.clear()
            if _announced(event) > MAX_BODY:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            elif self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[]))
        elif isinstance(event, h11.Data):
            if len(self._body) + len(event.data) > MAX_BODY:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            else:
                self._body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert self._request is not None
            answer = self._owner.reply(_as_request(self._request, bytes(self._body)))
            if isinstance(answer, Reply):
                self._answer(answer)
                self._next()
            else:
                self._relax()
                self._ahead = 0
                self.task = asyncio.ensure_future(self._carry_out(answer))

    async def _carry_out(self, work: Stream | Awaitable[Answer]) -> None:
        try:
            answer = work if isinstance(work, Stream) else await self._owner.guarded(work)
            if isinstance(answer, Reply):
                self._answer(answer)
            else:
                await self._stream(answer)
        except asyncio.CancelledError:
            if self._transport is not None:
                raise  # not by this connection's end
            return
        except Exception:
            # The head is out: all that can be said now is that this is not the whole.
            log.exception("an answer over HTTP was cut short")
            self.abort()
        finally:
            self.task = None
        self._next()
        self._resume()

    async def _stream(self, stream: Stream) -> None:
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % stream.size)]
        head = h11.Response(status_code=200, headers=[*headers, *_encoded(stream.headers)], reason=b"OK")
        async with aclosing(stream.blocks) as blocks:
            self._send(head)
            if self._request is not None and self._request.method != b"HEAD":
                async for block in blocks:
                    self._send(h11.Data(data=block))
                    await self._drained()
        self._send(h11.EndOfMessage())

    async def _drained(self) -> None:
        """Return once the client has taken most of what was sent to it."""
        if self._choked:
            self._wait()
            await self._taken.wait()
            self._relax()

    def _next(self) -> None:
        """Be ready for the next request."""
        self._request = None
        if self._last or self._http.our_state is not h11.DONE:
            self._close()
        else:
            self._http.start_next_cycle()
            self._wait()

    def _refuse(self, status: int) -> None:
        """Answer that nothing more is taken from this client."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer(failure(status), closing=True)
        self._close()

    def _answer(self, reply: Reply, closing: bool = False) -> None:
        kind, body = reply.encode()
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *_encoded(reply.headers)]
        if closing or self._last:
            headers.append((b"connection", b"close"))
        reason = HTTPStatus(reply.status).phrase.encode()
        head = h11.Response(status_code=int(reply.status), headers=headers, reason=reason)
        if self._request is not None and self._request.method == b"HEAD":
            self._send(head, h11.EndOfMessage())
        else:
            self._send(head, h11.Data(data=body), h11.EndOfMessage())

    def _send(self, *events: h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage) -> None:
        parts = [self._http.send(event) or b"" for event in events]
        if self._transport is not None:
            self._transport.write(b"".join(parts))


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), text.encode("ascii")) for name, text in headers.items()]


def _announced(request: h11.Request) -> int:
    """Bytes of the body that is to come, as far as the client tells. `h11` sees to it that it is a number."""
    for name, value in request.headers:
        if name == b"content-length":
            return int(value[:20])  # a number of more digits is too large anyway
    return 0


def _as_request(request: h11.Request, body: bytes) -> Request:
    path, _, query = request.target.decode("latin-1").partition("?")
    headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in request.headers}
    return Request(request.method.decode("latin-1"), path, query, headers, body)


class HttpServer:
    """Serves `routes`. `HEAD` is answered wherever `GET` is."""

    def __init__(self, routes: Routes, *, listen: str | int) -> None:
        self._routes = routes
        self._listen = Address.parse(listen)
        self._connections: dict[_Connection, None] = {}
        self._listener: asyncio.Server | None = None

    async def start(self) -> Address:
        """Listen. Returns the address listened on. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Connection(self), self._listen.host, self._listen.port
        )
        return Address(self._listen.host, port_of(self._listener))

    async def stop(self) -> None:
        """Close the listener, finish the requests that are being carried out, close every connection. Who is
        cancelled waits no longer for them."""
        if self._listener is not None:
            await stop_listening(self._listener)
        for connection in list(self._connections):
            connection.finish()
        try:
            tasks = [connection.task for connection in self._connections if connection.task is not None]
            if tasks:
                await asyncio.wait(tasks)
            if self._listener is not None:
                await self._listener.wait_closed()
        except asyncio.CancelledError:
            for connection in list(self._connections):
                connection.abort()
            raise

    # What connections use.

    def admit(self, connection: _Connection) -> bool:
        """Count a connection; `False` when there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            return False
        self._connections[connection] = None
        return True

    def forget(self, connection: _Connection) -> None:
        """The connection is gone."""
        self._connections.pop(connection, None)

    def reply(self, request: Request) -> Answer | Awaitable[Answer]:
        """The answer to a request, or what to await for it."""
        methods = self._routes.get(request.path)
        if methods is None:
            return failure(HTTPStatus.NOT_FOUND)
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            refused = failure(HTTPStatus.METHOD_NOT_ALLOWED)
            return Reply(refused.value, refused.status, {"allow": ", ".join(methods)})
        try:
            return handler(request)
        except Exception:
            return _bug(request.path)

    async def guarded(self, answer: Awaitable[Answer]) -> Answer:
        """The answer that was waited for."""
        try:
            return await answer
        except Exception:
            return _bug("an asynchronous route")


def _bug(where: str) -> Reply:
    log.exception("a bug in the answer of %s over HTTP", where)
    return failure(HTTPStatus.INTERNAL_SERVER_ERROR)
