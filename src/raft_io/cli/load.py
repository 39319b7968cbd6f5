"""A closed-loop load: so many clients, each of which sends its next commands when its last were answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass
from time import perf_counter
from typing import Final, cast

from raft_io.cli.errors import CommandFailedError
from raft_io.server.address import Address

__all__ = ["KEYS", "VALUE_BYTES", "Load", "LoadResult", "percentile", "run_load", "run_load_during"]

KEYS: Final = 100_000
VALUE_BYTES: Final = 100

OPERATION_TIMEOUT: Final = 300.0
"""Seconds that what a load accompanies may take."""

ANSWER_TIMEOUT: Final = 30.0
"""Seconds after the end within which the last answers must be there."""

_SET_REPLIES: Final = (b"+OK\r\n",)
_GET_REPLIES: Final = (b"$%d\r\n%b\r\n" % (VALUE_BYTES, b"x" * VALUE_BYTES), b"$-1\r\n")


@dataclass(frozen=True)
class Load:
    """`clients` connections, with `pipeline` commands under way on each: `"set"` or `"get"`."""

    clients: int
    pipeline: int
    command: str = "set"


@dataclass(frozen=True)
class LoadResult:
    """What came of a load: commands a second, and milliseconds that a client waited."""

    tool: str
    load: Load
    per_second: float
    p50: float
    p99: float


class _Until:
    """When a load ends; may be moved."""

    def __init__(self, time: float) -> None:
        self.time = time


class _Client(asyncio.Protocol):
    def __init__(self, load: Load, rng: random.Random, until: _Until, waits: list[float]) -> None:
        self._pipeline = load.pipeline
        self._reads = load.command == "get"
        self._replies = _GET_REPLIES if self._reads else _SET_REPLIES
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
        """Send the next commands."""
        value = b"$%d\r\n%b\r\n" % (VALUE_BYTES, b"x" * VALUE_BYTES)
        keys = [self._rng.randrange(KEYS) for _ in range(self._pipeline)]
        if self._reads:
            commands = [b"*2\r\n$3\r\nGET\r\n$16\r\nkey:%012d\r\n" % key for key in keys]
        else:
            commands = [b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n%b" % (key, value) for key in keys]
        assert self._transport is not None
        self._sent = perf_counter()
        self._transport.write(b"".join(commands))

    def data_received(self, data: bytes) -> None:
        self._answers += data
        count, end = self._complete()
        rest = self._answers[end:]
        if count > self._pipeline or (rest and not any(reply.startswith(rest) for reply in self._replies)):
            reason = (rest or self._answers)[:100].decode(errors="replace").strip()
            self._end(CommandFailedError(f"a command was refused: {reason}"))
            return
        if count < self._pipeline:
            return
        self._answers = b""
        now = perf_counter()
        self._waits.append(now - self._sent)
        if now < self._until.time:
            self.send()
        else:
            self._end(None)

    def _complete(self) -> tuple[int, int]:
        """How many replies are there, and where they end."""
        count = pos = 0
        for reply in self._replies * self._pipeline:
            while self._answers.startswith(reply, pos):
                count += 1
                pos += len(reply)
            if pos == len(self._answers):
                break
        return count, pos

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
    """Put `load` on the node for so many seconds. Raises `CommandFailedError` when a command fails."""
    return await _run(address, load, _Until(perf_counter() + seconds), seconds)


async def run_load_during(address: Address, load: Load, operation: Awaitable[object]) -> LoadResult:
    """Put `load` on the node for as long as `operation` takes. Raises what either of them raises."""
    until = _Until(float("inf"))

    async def operate() -> None:
        try:
            await operation
        finally:
            until.time = 0.0

    result, _ = await asyncio.gather(_run(address, load, until, OPERATION_TIMEOUT), operate())
    return result


async def _run(address: Address, load: Load, until: _Until, seconds: float) -> LoadResult:
    waits: list[float] = []
    clients: list[_Client] = []
    for number in range(load.clients):
        client = _Client(load, random.Random(number), until, waits)
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
    return LoadResult("built-in", load, rate, percentile(waits, 0.5), percentile(waits, 0.99))


async def _connect(address: Address, client: _Client) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: client, address.host, address.port)
    except OSError as error:
        raise CommandFailedError(f"cannot connect to {address}: {error.strerror}") from error


def percentile(ordered: list[float], share: float) -> float:
    """Of seconds in ascending order, in milliseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
