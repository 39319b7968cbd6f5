"""`raft-io bench cluster`: three durable nodes on this machine, under load."""

from __future__ import annotations

import asyncio
import csv
import random
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

from raft_io.cli.cluster import Cluster, plan, prepare
from raft_io.cli.errors import CommandFailedError
from raft_io.cli.limits import raise_open_files
from raft_io.cli.load import KEYS, VALUE_BYTES, Load, LoadResult, run_load
from raft_io.server.address import LOOPBACK, Address

__all__ = ["LOADS", "free_base", "measure_cluster"]

LOADS: Final = {
    Load(1, 1): 5_000,
    Load(50, 1): 100_000,
    Load(1000, 1): 100_000,
    Load(50, 16): 400_000,
    Load(1, 1, "get"): 10_000,
    Load(50, 1, "get"): 200_000,
    Load(50, 16, "get"): 1_000_000,
}
"""The loads, and how many commands of each `redis-benchmark` is asked for."""

TOOL: Final = "redis-benchmark"
TOOL_TIMEOUT: Final = 300.0


def measure_cluster(
    nodes: int, seconds: float, folder: Path | None, say: Callable[[str], None]
) -> list[LoadResult]:
    """Start a cluster of `nodes`, put every load on its leader, for `seconds` each, and stop it again.

    Its data is in a temporary directory in `folder`: the disk matters most. `say` is told how far it is.
    """
    raise_open_files()
    try:
        with tempfile.TemporaryDirectory(prefix="raft-io-bench-", dir=folder) as directory:
            members = plan(Path(directory), nodes, free_base())
            prepare(Path(directory), members)
            return asyncio.run(_measure(Cluster(members), seconds, say))
    except OSError as error:
        raise CommandFailedError(f"{error.filename or folder}: {error.strerror}") from error


def free_base() -> int:
    """A base port above which the ports seem free; `prepare` looks at each of those that are used."""
    while True:
        base = random.randrange(10_000, 32_000)
        with ExitStack() as stack, suppress(OSError):
            for offset in (1, 101, 201):
                stack.enter_context(socket.socket()).bind((LOOPBACK, base + offset))
            return base


async def _measure(cluster: Cluster, seconds: float, say: Callable[[str], None]) -> list[LoadResult]:
    results = []
    try:
        await cluster.start()
        leader = await cluster.wait_ready()
        address = leader.member.resp
        say(f"{len(cluster.nodes)} nodes; node {leader.member.id} leads and takes the load")
        for load in LOADS:
            say(f"built-in load: {_described(load)}")
            results.append(await run_load(address, load, seconds))
        if shutil.which(TOOL) is None:
            say(f"{TOOL} is not installed: left out")
            return results
        for load, count in LOADS.items():
            say(f"{TOOL}: {_described(load)}")
            results.append(await _redis_benchmark(address, load, count))
    finally:
        for complaint in await cluster.stop():
            say(complaint)
    return results


def _described(load: Load) -> str:
    return f"{load.command}, {load.clients} clients, {load.pipeline} at a time"


async def _redis_benchmark(address: Address, load: Load, count: int) -> LoadResult:
    process = await asyncio.create_subprocess_exec(
        *(TOOL, "-h", address.host, "-p", str(address.port), "-t", load.command, "--csv"),
        *("-d", str(VALUE_BYTES), "-r", str(KEYS), "-n", str(count)),
        *("-c", str(load.clients), "-P", str(load.pipeline)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(TOOL_TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError as error:
        # It tries for ever to reach a node that is gone.
        raise CommandFailedError(f"{TOOL} did not end within {TOOL_TIMEOUT:.0f} seconds") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return parse_csv(output.decode(), load)


def parse_csv(text: str, load: Load) -> LoadResult:
    """The result in what `redis-benchmark --csv` printed."""
    rows = list(csv.reader(text.splitlines()))
    for titles, values in pairwise(rows):
        found = dict(zip(titles, values, strict=False))
        if "rps" in found:
            p50, p99 = float(found["p50_latency_ms"]), float(found["p99_latency_ms"])
            return LoadResult(TOOL, load, float(found["rps"]), p50, p99)
    raise CommandFailedError(f"{TOOL} printed no result (versions before 6.2 cannot be read)")
