"""Nodes for commands to operate: each in a thread of its own, so that a command can run here."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.server.operated import Pretended, hosted

__all__ = ["dead", "running"]


@contextmanager
def running(server: Pretended) -> Iterator[str]:
    """Serve a pretended node; gives its address."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with hosted(server) as address:
            found.append(str(address))
            ready.set()
            await end.wait()

    end = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()


@contextmanager
def dead() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{probe.getsockname()[1]}"
