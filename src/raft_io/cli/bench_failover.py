"""`raft-io bench failover`: what clients see when the leader is killed, and when it hands over."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Final

from raft_io.cli.bench_cluster import free_base
from raft_io.cli.client import NodeRefusedError, ask
from raft_io.cli.cluster import Cluster, Observed, plan, prepare
from raft_io.cli.errors import CommandFailedError
from raft_io.cli.load import percentile
from raft_io.server.address import Address

__all__ = ["FailoverResult", "measure_failover"]

RATE: Final = 5_000
"""Writes a second under which leadership is handed over."""

STEP: Final = 0.01
"""Seconds between two bursts of them."""

PATIENCE: Final = 30.0
"""Seconds after which something is wrong."""

_SET: Final = b"*3\r\n$3\r\nSET\r\n$5\r\nprobe\r\n$1\r\n1\r\n"
_OK: Final = b"+OK\r\n"


@dataclass(frozen=True)
class FailoverResult:
    """One row: how often something was done, and how many milliseconds it took clients.

    Of a kill: the time between the last write acknowledged before it and the first one after. Of a transfer:
    from the request to the answer that the other one leads. `failed`: writes that were answered with an error
    meanwhile.
    """

    what: str
    count: int
    p50: float
    p95: float
    longest: float
    failed: int


def measure_failover(
    kills: int, transfers: int, folder: Path | None, say: Callable[[str], None]
) -> list[FailoverResult]:
    """Start three nodes with the default timing; kill the leader `kills` times, then hand leadership over
    `transfers` times under 5,000 writes a second."""
    try:
        with tempfile.TemporaryDirectory(prefix="raft-io-bench-", dir=folder) as directory:
            members = plan(Path(directory), 3, free_base())
            prepare(Path(directory), members)
            return asyncio.run(_measure(Cluster(members), kills, transfers, say))
    except OSError as error:
        raise CommandFailedError(f"{error.filename or folder}: {error.strerror}") from error


async def _measure(
    cluster: Cluster, kills: int, transfers: int, say: Callable[[str], None]
) -> list[FailoverResult]:
    try:
        await cluster.start()
        await cluster.wait_ready()
        say(f"killing the leader {kills} times")
        gaps, failed = await _kill_leaders(cluster, kills)
        results = [_result("leader killed", gaps, failed)]
        say(f"handing leadership over {transfers} times, under {RATE} writes a second")
        times, failed = await _transfer(cluster, transfers)
        return [*results, _result("leadership handed over", times, failed)]
    finally:
        for complaint in await cluster.stop():
            say(complaint)


def _result(what: str, seconds: list[float], failed: int) -> FailoverResult:
    ordered = sorted(seconds)
    return FailoverResult(
        what,
        len(ordered),
        statistics.median(ordered) * 1000,
        percentile(ordered, 0.95),
        ordered[-1] * 1000,
        failed,
    )


# Kills.


async def _kill_leaders(cluster: Cluster, kills: int) -> tuple[list[float], int]:
    gaps: list[float] = []
    failed = 0
    for _ in range(kills):
        victim = await cluster.wait_ready()
        survivor = next(node for node in cluster.nodes if node is not victim)
        probe = _Probe(survivor.member.resp)
        running = asyncio.create_task(probe.run())
        try:
            await asyncio.sleep(0.2)
            killed = perf_counter()
            await cluster.kill(victim)
            gaps.append(await probe.gap_around(killed))
        finally:
            probe.stop()
            await running
        failed += probe.failed
        await cluster.start_again(victim)
    return gaps, failed


class _Probe:
    """A client that writes, one write after the other, and notes when each was acknowledged."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._acknowledged: list[float] = []
        self._news = asyncio.Event()
        self._stopped = False
        self.failed = 0

    def stop(self) -> None:
        """No more writes."""
        self._stopped = True

    async def run(self) -> None:
        """Write until told to stop."""
        reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        with contextlib.closing(writer):
            while not self._stopped:
                writer.write(_SET)
                answer = await reader.readline()
                if answer == _OK:
                    self._acknowledged.append(perf_counter())
                    self._news.set()
                elif answer.startswith(b"-"):
                    self.failed += 1
                else:
                    raise CommandFailedError(f"{self._address} closed the connection")

    async def gap_around(self, moment: float) -> float:
        """Seconds between two writes in a row, of which the second came after `moment`: the longest such gap
        among those until writes flow again."""
        async with asyncio.timeout(PATIENCE):
            while sum(time > moment for time in self._acknowledged[-200:]) < 100:
                self._news.clear()
                await self._news.wait()
        times = self._acknowledged
        pairs = pairwise(times)
        return max(later - earlier for earlier, later in pairs if later > moment)


# Transfers.


async def _transfer(cluster: Cluster, transfers: int) -> tuple[list[float], int]:
    await cluster.wait_ready()
    loads = [_Steady(node.member.resp, RATE // len(cluster.nodes)) for node in cluster.nodes]
    running = [asyncio.create_task(load.run()) for load in loads]
    times: list[float] = []
    try:
        await asyncio.sleep(0.5)
        for number in range(transfers):
            leader = await cluster.wait_ready()
            others = [node for node in cluster.nodes if node is not leader]
            times.append(await _hand_over(leader, others[number % 2]))
            await asyncio.sleep(0.2)
    finally:
        for load in loads:
            load.stop()
        await asyncio.gather(*running)
    return times, sum(load.failed for load in loads)


async def _hand_over(leader: Observed, target: Observed) -> float:
    started = perf_counter()
    try:
        await ask(leader.member.http, "POST", "/transfer", {"target": target.member.id}, timeout=PATIENCE)
    except NodeRefusedError as error:
        raise CommandFailedError(f"leadership was not handed over: {error}") from error
    return perf_counter() - started


class _Steady:
    """So many writes a second on one connection, whether they are answered or not."""

    def __init__(self, address: Address, rate: int) -> None:
        self._address = address
        self._burst = max(1, round(rate * STEP))
        self._stopped = False
        self.failed = 0

    def stop(self) -> None:
        """No more writes."""
        self._stopped = True

    async def run(self) -> None:
        """Write until told to stop; then wait for the answers."""
        reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        with contextlib.closing(writer):
            answers = asyncio.create_task(self._count(reader))
            sent = 0
            loop = asyncio.get_running_loop()
            due = loop.time()
            while not self._stopped:
                writer.write(_SET * self._burst)
                sent += self._burst
                due += STEP
                await asyncio.sleep(max(due - loop.time(), 0))
            writer.write(b"QUIT\r\n")
            async with asyncio.timeout(PATIENCE):
                answered = await answers - 1
            self.failed += sent - answered

    async def _count(self, reader: asyncio.StreamReader) -> int:
        """How many answers there were until the connection ends; notes those that are errors."""
        answered = 0
        while line := await reader.readline():
            answered += 1
            if line != _OK:
                self.failed += 1
        return answered
