"""Asks a node over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import h11

from raft_io.cli.errors import CommandFailedError
from raft_io.server.address import Address, reason_of

__all__ = ["NodeRefusedError", "UnreachableError", "ask", "download", "get_status"]

MAX_ANSWER: Final = 4 * 1024 * 1024
BLOCK: Final = 256 * 1024


class UnreachableError(CommandFailedError):
    """There was no answer from a node, or none that makes sense."""


class NodeRefusedError(CommandFailedError):
    """What a node says about why it does not do what was asked."""

    def __init__(self, status: int, kind: str, message: str, retryable: bool) -> None:
        super().__init__(message)
        self.status_code = status
        self.kind = kind
        self.retryable = retryable


async def get_status(address: Address, timeout: float = 1.0) -> dict[str, Any] | None:
    """What `GET /status` says at `address`; `None` if there is no such answer within `timeout` seconds."""
    try:
        value = await ask(address, "GET", "/status", timeout=timeout)
    except CommandFailedError:
        return None
    return value if isinstance(value, dict) else None


async def ask(
    address: Address, method: str, path: str, body: Any = None, *, timeout: float = 10.0, margin: float = 0.0
) -> Any:
    """The JSON in the answer of the node at `address`. Raises `UnreachableError`, `NodeRefusedError`.

    `margin`: seconds beyond `timeout` that the answer may take, of a node that was itself given `timeout`.
    """
    found = bytearray()
    async with _answer(address, method, path, body, timeout, margin) as (response, blocks):
        async for block in blocks:
            found += block
            if len(found) > MAX_ANSWER:
                raise UnreachableError(f"{address}: the answer is far too long")
    return _understood(address, response, bytes(found))


async def download(
    address: Address, path: str, take: Callable[[bytes], object], *, timeout: float, margin: float = 0.0
) -> None:
    """Hand the answer of the node at `address` to `take`, in pieces. Times and errors are those of `ask`."""
    async with _answer(address, "GET", path, None, timeout, margin) as (response, blocks):
        if response.status_code == 200:
            async for block in blocks:
                await asyncio.to_thread(take, block)
            return
        found = bytearray()
        async for block in blocks:
            found += block[: MAX_ANSWER - len(found)]
        _understood(address, response, bytes(found))


def _understood(address: Address, response: h11.Response, body: bytes) -> Any:
    try:
        value = json.loads(body)
        if response.status_code == 200:
            return value
        refused = NodeRefusedError(
            response.status_code, str(value["error"]), str(value["message"]), value["retryable"] is True
        )
    except (ValueError, TypeError, KeyError):
        raise UnreachableError(
            f"{address}: no answer of a raft-io node (status {response.status_code})"
        ) from None
    raise refused


@contextlib.asynccontextmanager
async def _answer(
    address: Address, method: str, path: str, body: Any, timeout: float, margin: float
) -> AsyncIterator[tuple[h11.Response, AsyncIterator[bytes]]]:
    """An answer's head, and its body in pieces."""
    writer: asyncio.StreamWriter | None = None
    begun = False
    try:
        async with asyncio.timeout(timeout + margin):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=BLOCK)
            http = h11.Connection(h11.CLIENT)
            writer.write(_request(http, writer, method, path, body))
            response = await _next(http, reader)
            while not isinstance(response, h11.Response):
                response = await _next(http, reader)
            begun = True
            yield response, _blocks(http, reader)
    except TimeoutError:
        raise UnreachableError(f"{address} does not answer within {timeout:g} seconds") from None
    except (h11.RemoteProtocolError, asyncio.IncompleteReadError) as error:
        if begun:
            raise UnreachableError(f"{address}: the answer was cut short") from error
        raise UnreachableError(f"{address} does not answer as HTTP: give a node's http address") from error
    except OSError as error:
        raise UnreachableError(f"cannot reach {address}: {reason_of(error)}") from error
    finally:
        if writer is not None:
            writer.close()


def _request(http: h11.Connection, writer: asyncio.StreamWriter, method: str, path: str, body: Any) -> bytes:
    # Its address rather than the name by which it was found, of which the node need not know.
    host, port = writer.get_extra_info("peername")[:2]
    headers = [("host", str(Address(host.partition("%")[0], port))), ("connection", "close")]
    content = b""
    if method == "POST":
        content = json.dumps({} if body is None else body).encode()
        headers += [("content-type", "application/json"), ("content-length", str(len(content)))]
    parts = [http.send(h11.Request(method=method, target=path, headers=headers))]
    if content:
        parts.append(http.send(h11.Data(data=content)))
    parts.append(http.send(h11.EndOfMessage()))
    return b"".join([part for part in parts if part])


async def _next(http: h11.Connection, reader: asyncio.StreamReader) -> Any:
    while True:
        event = http.next_event()
        if event is not h11.NEED_DATA:
            return event
        http.receive_data(await reader.read(BLOCK))


async def _blocks(http: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        event = await _next(http, reader)
        if isinstance(event, h11.Data):
            yield bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return
