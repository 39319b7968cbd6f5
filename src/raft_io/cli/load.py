"""A closed-loop load: so many clients, each of which sends its next writes when its last were answered."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from time import perf_counter
from typing import Final, cast

from raft_io.cli.errors import CommandFailedError
from raft_io.server.address import Address

__all__ = ["KEYS", "VALUE_BYTES", "Load", "LoadResult", "run_load"]

KEYS: Final = 100_000
VALUE_BYTES: Final = 100

ANSWER_TIMEOUT: Final = 30.0
"""Seconds after the end within which the last answers must be there."""

_OK: Final = b"+OK\r\n"


@dataclass(frozen=True)
class Load:
    """`clients` connections, with `pipeline` writes under way on each."""

    clients: int
    pipeline: int


@dataclass(frozen=True)
class LoadResult:
    """What came of a load: writes a second, and milliseconds that a client waited."""

    tool: str
    load: Load
    writes_per_second: float
    p50: float
    p99: float


class _Client(asyncio.Protocol):
    def __init__(self, pipeline: int, rng: random.Random, until: float, waits: list[float]) -> None:
        self._pipeline = pipeline
        self._rng = rng
        self._until = until
        self._waits = waits
        self._answers = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        """Send the next writes."""
        value = b"x" * VALUE_BYTES
        writes = [
            b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%b\r\n"
            % (self._rng.randrange(KEYS), VALUE_BYTES, value)
            for _ in range(self._pipeline)
        ]
        assert self._transport is not None
        self._sent = perf_counter()
        self._transport.write(b"".join(writes))

    def data_received(self, data: bytes) -> None:
        self._answers += data
        if len(self._answers) < len(_OK) * self._pipeline and not self._answers.startswith(b"-"):
            return
        if self._answers != _OK * self._pipeline:
            reason = self._answers[:100].decode(errors="replace").strip()
            self._end(CommandFailedError(f"a write was refused: {reason}"))
            return
        self._answers = b""
        now = perf_counter()
        self._waits.append(now - self._sent)
        if now < self._until:
            self.send()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(CommandFailedError("the node closed a connection"))

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        if self._transport is not None:
            self._transport.close()


async def run_load(address: Address, load: Load, seconds: float) -> LoadResult:
    """Put `load` on the node for so many seconds. Raises `CommandFailedError` when a write fails."""
    waits: list[float] = []
    until = perf_counter() + seconds
    clients: list[_Client] = []
    for number in range(load.clients):
        client = _Client(load.pipeline, random.Random(number), until, waits)
        await _connect(address, client)
        clients.append(client)
    start = perf_counter()
    for client in clients:
        client.send()
    try:
        async with asyncio.timeout(seconds + ANSWER_TIMEOUT):
            await asyncio.gather(*[client.done for client in clients])
    except TimeoutError as error:
        raise CommandFailedError(f"no answer within {ANSWER_TIMEOUT:.0f} seconds") from error
    elapsed = perf_counter() - start
    waits.sort()
    rate = len(waits) * load.pipeline / elapsed
    return LoadResult("built-in", load, rate, _percentile(waits, 0.5), _percentile(waits, 0.99))


async def _connect(address: Address, client: _Client) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: client, address.host, address.port)
    except OSError as error:
        raise CommandFailedError(f"cannot connect to {address}: {error.strerror}") from error


def _percentile(ordered: list[float], share: float) -> float:
    """In milliseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
