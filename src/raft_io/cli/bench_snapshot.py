"""`raft-io bench snapshot`: what a large snapshot costs in memory and in waiting, while writes go on."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

from raft_io.cli.bench_cluster import free_base
from raft_io.cli.client import ask
from raft_io.cli.cluster import Cluster, Observed, plan, prepare
from raft_io.cli.errors import CommandFailedError
from raft_io.cli.load import Load, LoadResult, run_load, run_load_during
from raft_io.server.address import Address

__all__ = ["SnapshotResult", "measure_snapshot"]

MIB: Final = 1024 * 1024
VALUE: Final = 4096
LOAD: Final = Load(50, 1)
PATIENCE: Final = 300.0

_OK: Final = b"+OK\r\n"


@dataclass(frozen=True)
class SnapshotResult:
    """One row: how long it took, in seconds; by how many MiB the anonymous memory of the leader, and of the
    follower, was at most above what it was before (of a follower that installs one: after); how long writes
    took meanwhile, in milliseconds."""

    what: str
    seconds: float
    leader_mib: float
    follower_mib: float
    p50: float
    p99: float


def measure_snapshot(mib: int, folder: Path | None, say: Callable[[str], None]) -> list[SnapshotResult]:
    """Fill a store of `mib` MiB while one of three nodes is down; then take a snapshot, and start that node,
    which must be sent it, each under a load of writes."""
    try:
        with tempfile.TemporaryDirectory(prefix="raft-io-bench-", dir=folder) as directory:
            members = plan(Path(directory), 3, free_base())
            prepare(Path(directory), members)
            return asyncio.run(_measure(Cluster(members), mib, say))
    except OSError as error:
        raise CommandFailedError(f"{error.filename or folder}: {error.strerror}") from error


async def _measure(cluster: Cluster, mib: int, say: Callable[[str], None]) -> list[SnapshotResult]:
    try:
        await cluster.start()
        leader = await cluster.wait_ready()
        away = next(node for node in cluster.nodes if node is not leader)
        other = next(node for node in cluster.nodes if node not in (leader, away))
        await cluster.kill(away)
        say(f"filling the store with {mib} MiB, while node {away.member.id} is down")
        await _fill(leader.member.resp, mib)
        say("writing as usual")
        usual = await run_load(leader.member.resp, LOAD, 10.0)
        results = [SnapshotResult("as usual", 10.0, 0.0, 0.0, usual.p50, usual.p99)]
        say("taking a snapshot")
        results.append(await _during("taken", leader, other, _take(leader)))
        say(f"starting node {away.member.id} again")
        results.append(await _during("sent and installed", leader, away, _install(cluster, leader, away)))
        return results
    finally:
        for complaint in await cluster.stop():
            say(complaint)


async def _fill(address: Address, mib: int) -> None:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    burst = MIB // VALUE
    with contextlib.closing(writer):
        for number in range(mib):
            for key in range(number * burst, (number + 1) * burst):
                writer.write(b"*3\r\n$3\r\nSET\r\n$12\r\nbig:%08d\r\n$%d\r\n" % (key, VALUE))
                writer.write(b"v" * VALUE + b"\r\n")
            answers = await reader.readexactly(len(_OK) * burst)
            if answers != _OK * burst:
                raise CommandFailedError(f"a write was refused: {answers[:100].decode(errors='replace')}")


async def _take(leader: Observed) -> None:
    await ask(leader.member.http, "POST", "/snapshot", {}, timeout=PATIENCE)


async def _install(cluster: Cluster, leader: Observed, away: Observed) -> None:
    """Start the node, and wait until it is level with the leader."""
    await cluster.start_again(away)
    async with asyncio.timeout(PATIENCE):
        while True:
            await cluster.observe()
            ours, its = leader.status, away.status
            if ours is not None and its is not None and its["last_applied"] + 1000 > ours["last_applied"] > 1:
                return
            await asyncio.sleep(0.1)


async def _during(
    what: str, leader: Observed, follower: Observed, operation: Awaitable[object]
) -> SnapshotResult:
    """Put the load on while `operation` runs, and watch the memory of both nodes."""
    before = (_anonymous(leader), _anonymous(follower))
    peaks = [0.0, 0.0]
    watching = asyncio.create_task(_watch(leader, follower, peaks))
    started = perf_counter()
    try:
        load: LoadResult = await run_load_during(leader.member.resp, LOAD, operation)
    finally:
        watching.cancel()
    seconds = perf_counter() - started
    await asyncio.sleep(2.0)
    # One that has just started holds nothing before; what it holds afterwards is the state itself.
    level = before[1] or _anonymous(follower)
    return SnapshotResult(what, seconds, peaks[0] - before[0], peaks[1] - level, load.p50, load.p99)


async def _watch(leader: Observed, follower: Observed, peaks: list[float]) -> None:
    while True:
        for place, node in enumerate((leader, follower)):
            peaks[place] = max(peaks[place], _anonymous(node))
        await asyncio.sleep(0.02)


def _anonymous(node: Observed) -> float:
    """MiB of anonymous memory that the node's process holds (`RssAnon`), `0` if it does not run."""
    try:
        pid = int((node.member.folder / "pid").read_text())
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (OSError, ValueError):
        return 0.0
    sizes = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
    return sizes[0] / 1024 if sizes else 0.0
