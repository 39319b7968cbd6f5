"""Measure the core, or a cluster on this machine.

The core is measured compiled and interpreted; with pyperf where it is installed (the extra `bench`).
The cluster is measured with writes and reads of 100 bytes, by a load of its own and by redis-benchmark where
it is installed; every write is on the disks of a majority before it is answered, every read is linearizable.
With failover the leader is killed 50 times, and hands over 20 times: how long do clients wait?
With snapshot one of 256 MiB is taken, sent and installed: how much memory, and how long do clients wait?
With sim the simulator runs seeds on one core: how much is simulated a second?
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import raft_io
from raft_io.cli.bench_cluster import measure_cluster
from raft_io.cli.bench_core import CoreResult, measure_core
from raft_io.cli.bench_failover import FailoverResult, measure_failover
from raft_io.cli.bench_sim import SimResult, measure_sim
from raft_io.cli.bench_snapshot import SnapshotResult, measure_snapshot
from raft_io.cli.cluster import MAX_NODES
from raft_io.cli.load import LoadResult

__all__ = ["add_arguments", "run"]

Result = CoreResult | LoadResult | FailoverResult | SnapshotResult | SimResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io bench`."""
    kinds = ("core", "cluster", "failover", "snapshot", "sim")
    parser.add_argument("what", choices=kinds, help="what to measure")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth to a fifth, and less exact (core: without pyperf)"
    )
    parser.add_argument(
        "--nodes",
        type=int,
        choices=range(1, MAX_NODES + 1),
        default=3,
        metavar="N",
        help="cluster: its size (3)",
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="cluster: on whose disk (of temporary files)"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, and print a table."""
    results: Sequence[Result]
    if options.what == "core":
        results = measure_core(options.quick)
    elif options.what == "failover":
        kills, transfers = (5, 5) if options.quick else (50, 20)
        results = measure_failover(kills, transfers, options.data_dir, _say)
    elif options.what == "snapshot":
        results = measure_snapshot(32 if options.quick else 256, options.data_dir, _say)
    elif options.what == "sim":
        results = measure_sim(20 if options.quick else 100, _say)
    else:
        results = measure_cluster(options.nodes, 1.0 if options.quick else 5.0, options.data_dir, _say)
    if options.json:
        print(
            json.dumps({"machine": machine(), "results": [as_fields(result) for result in results]}, indent=2)
        )
    else:
        _print(results)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "raft-io": importlib.metadata.version("raft-io") if _installed("raft-io") else "not installed",
        "compiled": raft_io.COMPILED,
        "uvloop": importlib.util.find_spec("uvloop") is not None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _installed(name: str) -> bool:
    return next(iter(importlib.metadata.distributions(name=name)), None) is not None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def as_fields(result: Result) -> dict[str, Any]:
    """A result as JSON has it; times of the core in nanoseconds, of the cluster in milliseconds."""
    fields = asdict(result)
    if isinstance(result, CoreResult):
        return {**fields, "ratio": result.ratio}
    if isinstance(result, LoadResult):
        fields.update(fields.pop("load"))
    return fields


def _print(results: Sequence[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    titles: tuple[str, ...]
    if isinstance(results[0], CoreResult):
        titles = ("benchmark", "compiled", "interpreted", "times faster")
    elif isinstance(results[0], SnapshotResult):
        titles = ("snapshot", "seconds", "leader MiB", "follower MiB", "p50 ms", "p99 ms")
    elif isinstance(results[0], SimResult):
        titles = ("nodes", "runs", "simulated s/s", "messages/s", "operations/s")
    elif isinstance(results[0], FailoverResult):
        titles = ("event", "times", "p50 ms", "p95 ms", "longest ms", "failed writes")
    else:
        titles = ("load", "command", "clients", "at a time", "per second", "p50 ms", "p99 ms")
    for title in titles:
        table.add_column(title, justify="left" if title == titles[0] else "right")
    for result in results:
        table.add_row(*_row(result))
    console = Console()
    console.print(table)
    for name, value in machine().items():
        console.print(f"{name}: {value}", highlight=False)


def _row(result: Result) -> list[str]:
    if isinstance(result, CoreResult):
        ratio = "-" if result.ratio is None else f"{result.ratio:.1f}"
        return [result.name, _duration(result.compiled), _duration(result.interpreted), ratio]
    if isinstance(result, SnapshotResult):
        memory = [f"{mib:+.0f}" for mib in (result.leader_mib, result.follower_mib)]
        return [result.what, f"{result.seconds:.1f}", *memory, f"{result.p50:.1f}", f"{result.p99:.1f}"]
    if isinstance(result, FailoverResult):
        times = [f"{time:.0f}" for time in (result.p50, result.p95, result.longest)]
        return [result.what, str(result.count), *times, str(result.failed)]
    if isinstance(result, SimResult):
        speeds = [f"{speed:,.0f}" for speed in (result.seconds, result.messages, result.operations)]
        return [result.what, str(result.runs), *speeds]
    load = result.load
    numbers = [f"{result.per_second:,.0f}", f"{result.p50:.2f}", f"{result.p99:.2f}"]
    return [result.tool, load.command, str(load.clients), str(load.pipeline), *numbers]


def _duration(nanoseconds: float | None) -> str:
    if nanoseconds is None:
        return "-"
    return f"{nanoseconds:.0f} ns" if nanoseconds < 1000 else f"{nanoseconds / 1000:.2f} us"
