"""Asks a node over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import h11

from raft_io.server.address import Address

__all__ = ["get_status"]

MAX_ANSWER: Final = 4 * 1024 * 1024


async def get_status(address: Address, timeout: float = 1.0) -> dict[str, Any] | None:
    """What `GET /status` says at `address`; `None` if there is no such answer within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            value = json.loads(await _get(address, "/status"))
    except (OSError, TimeoutError, ValueError, h11.RemoteProtocolError):
        return None
    return value if isinstance(value, dict) else None


async def _get(address: Address, path: str) -> bytes:
    """The body of the answer. Raises `ValueError` unless its status is 200."""
    http = h11.Connection(h11.CLIENT)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        headers = [("host", str(address)), ("connection", "close")]
        writer.write(http.send(h11.Request(method="GET", target=path, headers=headers)) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        body = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response) and event.status_code != 200:
                raise ValueError(f"status {event.status_code}")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_ANSWER:
                    raise ValueError("the answer is far too long")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
    finally:
        writer.close()
