"""HTTP for operators: a small table of routes, each with a function that answers.

`h11` knows the protocol; here is what it leaves open: how long a client may take, how much it may send, and
how many there may be. A client that breaks the rules gets an error if it can take one, and is disconnected.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import h11

from raft_io.core.status import Status
from raft_io.server.address import Address

__all__ = ["HttpServer", "Reply", "Routes", "status_fields"]

log = logging.getLogger("raft_io.server")

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request's line and headers."""

MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body."""

PATIENCE: Final = 10.0
"""Seconds that a client may take for a request, counted from the answer to the one before."""

MAX_CONNECTIONS: Final = 128


@dataclass(frozen=True)
class Reply:
    """An answer. `value` goes out as JSON, a text as it is."""

    value: Any
    status: int = HTTPStatus.OK

    def encode(self) -> tuple[bytes, bytes]:
        """The content type and the body."""
        if isinstance(self.value, str):
            return b"text/plain; charset=utf-8", self.value.encode()
        return b"application/json", json.dumps(self.value).encode() + b"\n"


Routes = Mapping[str, Mapping[str, Callable[[], Reply]]]
"""Who answers, by path and method."""


def status_fields(status: Status, cluster_id: str, address: Mapping[str, str]) -> dict[str, Any]:
    """What `GET /status` answers."""
    return {
        "id": status.id,
        "cluster_id": cluster_id,
        "role": status.role.value,
        "term": status.term,
        "leader": status.leader,
        "voted_for": status.voted_for,
        "commit_index": status.commit_index,
        "last_applied": status.last_applied,
        "last_index": status.last_index,
        "last_term": status.last_term,
        "stable_index": status.stable_index,
        "uncommitted_bytes": status.uncommitted_bytes,
        "membership": {
            "voters": sorted(status.membership.voters),
            "learners": sorted(status.membership.learners),
            "outgoing": sorted(status.membership.outgoing),
        },
        "followers": [
            {
                "id": follower.id,
                "state": follower.state,
                "match_index": follower.match_index,
                "next_index": follower.next_index,
                "inflight": follower.inflight,
            }
            for follower in status.followers
        ],
        "address": dict(address),
    }


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, owner: HttpServer) -> None:
        self._owner = owner
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._request: h11.Request | None = None
        self._body = 0
        self._choked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base class
        if self._owner.admit(self):
            self._wait()
        else:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._advance()

    def eof_received(self) -> None:
        self._http.receive_data(b"")
        self._advance()

    def pause_writing(self) -> None:
        # It does not take its answers: read no more requests from it.
        self._choked = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._choked = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._owner.forget(self)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._lose_patience)

    def _lose_patience(self) -> None:
        # One that does not even take its answers would keep a friendly close waiting.
        if self._transport is not None:
            self._transport.abort()

    def _advance(self) -> None:
        """Answer all requests that are complete."""
        try:
            while self._transport is not None and not self._transport.is_closing() and not self._choked:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return
                if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    self.close()
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def _take(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._request = event
            self._body = 0
            if self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[]))
        elif isinstance(event, h11.Data):
            self._body += len(event.data)
            if self._body > MAX_BODY:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif isinstance(event, h11.EndOfMessage):
            assert self._request is not None
            self._answer(self._owner.reply(self._request))
            self._request = None
            if self._http.our_state is h11.MUST_CLOSE:
                self.close()
            else:
                self._http.start_next_cycle()
                self._wait()

    def _refuse(self, status: int) -> None:
        """Answer that nothing more is taken from this client."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer((_error(status), []), closing=True)
        self.close()

    def _answer(self, answer: tuple[Reply, list[tuple[bytes, bytes]]], closing: bool = False) -> None:
        reply, headers = answer
        kind, body = reply.encode()
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers]
        if closing:
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


def _error(status: int) -> Reply:
    return Reply(f"{status} {HTTPStatus(status).phrase}\n", status)


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
        port: int = self._listener.sockets[0].getsockname()[1]
        return Address(self._listen.host, port)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.close()
        if self._listener is not None:
            await self._listener.wait_closed()

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

    def reply(self, request: h11.Request) -> tuple[Reply, list[tuple[bytes, bytes]]]:
        """The answer to a request, and headers of its own."""
        path = request.target.partition(b"?")[0].decode("latin-1")
        method = request.method.decode("latin-1")
        methods = self._routes.get(path)
        if methods is None:
            return _error(HTTPStatus.NOT_FOUND), []
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(methods)
            return _error(HTTPStatus.METHOD_NOT_ALLOWED), [(b"allow", allowed.encode())]
        return handler(), []
