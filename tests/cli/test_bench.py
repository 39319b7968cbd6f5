"""`raft-io bench`: the built-in load, what is read from redis-benchmark, what is printed."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from raft_io.cli import bench, core_benchmarks
from raft_io.cli.bench_cluster import LOADS, parse_csv
from raft_io.cli.bench_core import CoreResult
from raft_io.cli.bench_sim import measure_sim
from raft_io.cli.errors import CommandFailedError
from raft_io.cli.load import Load, LoadResult, run_load
from raft_io.cli.main import main
from raft_io.server.address import Address

CSV = """WARNING: Could not fetch server CONFIG
"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","177.68","5.603","0.536","3.951","15.559","25.535","104.703"
"""


def against(answer: Callable[[bytes], bytes], load: Load) -> tuple[LoadResult, bytes]:
    """The result of a load on a server that answers so, and all that it was sent."""
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            received.extend(data)
            writer.write(answer(data))
        writer.close()

    async def test() -> LoadResult:
        async with asyncio.timeout(20), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
            return await run_load(address, load, 0.2)

    return asyncio.run(test()), bytes(received)


def test_a_load_counts_what_was_answered() -> None:
    load = Load(clients=3, pipeline=4)
    result, received = against(lambda data: b"+OK\r\n" * data.count(b"SET"), load)
    assert result.load == load
    assert 0 < result.p50 <= result.p99 < 20_000
    writes = received.count(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:")
    assert writes % 4 == 0
    assert writes >= 12
    assert received.count(b"\r\n$100\r\n" + b"x" * 100 + b"\r\n") == writes
    # It took the time that it was asked for, or a little longer.
    assert result.per_second <= writes / 0.15


def test_a_load_of_reads_counts_values_and_missing_ones() -> None:
    value = b"$100\r\n" + b"x" * 100 + b"\r\n"

    def answer(data: bytes) -> bytes:
        return b"".join([value, b"$-1\r\n"][place % 2] for place in range(data.count(b"GET")))

    result, received = against(answer, Load(clients=2, pipeline=3, command="get"))
    reads = received.count(b"*2\r\n$3\r\nGET\r\n$16\r\nkey:")
    assert reads >= 6 and reads % 3 == 0
    assert 0 < result.per_second <= reads / 0.15


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"-CLUSTERDOWN no leader\r\n", "a command was refused: -CLUSTERDOWN no leader"),
        (b"+OK\r\n-ERR no\r\n", "a command was refused: "),
        (b"+OK\r\n" * 3, "a command was refused: "),
    ],
)
def test_a_load_ends_when_a_write_is_refused(answer: bytes, expected: str) -> None:
    with pytest.raises(CommandFailedError, match=expected):
        against(lambda data: answer, Load(1, 2))


def test_a_load_needs_a_node() -> None:
    with pytest.raises(CommandFailedError, match=r"cannot connect to 127\.0\.0\.1:1"):
        asyncio.run(run_load(Address("127.0.0.1", 1), Load(1, 1), 0.1))


def test_what_redis_benchmark_prints() -> None:
    result = parse_csv(CSV, Load(1, 1))
    assert result == LoadResult("redis-benchmark", Load(1, 1), 177.68, 3.951, 25.535)


@pytest.mark.parametrize("text", ["", '"SET","177.68"\n', "Error: Server closed the connection\n"])
def test_what_redis_benchmark_may_print_instead(text: str) -> None:
    with pytest.raises(CommandFailedError, match="printed no result"):
        parse_csv(text, Load(1, 1))


@pytest.mark.parametrize("name", list(core_benchmarks.BENCHMARKS))
def test_each_benchmark_of_the_core_runs(name: str) -> None:
    function, things = core_benchmarks.BENCHMARKS[name]
    assert function(3) > 0
    assert things >= 1


def test_the_plain_timer_takes_the_fastest_round() -> None:
    speeds = iter([1.0, 3.0, 2.0, 1.5, 2.5, 1.0, 9.0, 4.0, 0.5])

    def pretend(loops: int) -> float:
        return loops * next(speeds)

    assert core_benchmarks.measure(pretend, 2) == pytest.approx(0.5e9)


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints when both kinds of measurement find these numbers."""
    core = [CoreResult("tick", 44.0, 381.0), CoreResult("commit", None, 4990.0)]
    cluster = [LoadResult("built-in", Load(50, 16), 12345.6, 1.234, 5.678)]
    monkeypatch.setattr(bench, "measure_core", lambda quick: core)
    monkeypatch.setattr(bench, "measure_cluster", lambda nodes, seconds, folder, say: cluster)
    assert main(["bench", *arguments]) == 0
    return capsys.readouterr().out


def test_tables_hold_the_numbers_and_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = shown(monkeypatch, capsys, "core")
    assert [word in said for word in ("tick", "44 ns", "381 ns", "8.7", "4.99 us")] == [True] * 5
    assert "cores: " in said
    said = shown(monkeypatch, capsys, "cluster")
    assert [word in said for word in ("built-in", "12,346", "1.23", "5.68")] == [True] * 4


def test_the_simulator_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "measure_sim", lambda runs, say: measure_sim(1, say))
    assert main(["bench", "sim", "--quick", "--json"]) == 0
    three, drawn = json.loads(capsys.readouterr().out)["results"]
    assert three["runs"] == drawn["runs"] == 1
    assert three["messages"] > three["seconds"] > 0
    assert main(["bench", "sim", "--quick"]) == 0
    assert "one to nine" in capsys.readouterr().out


def test_json_holds_the_numbers_and_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Any] = json.loads(shown(monkeypatch, capsys, "core", "--json"))
    assert set(found["machine"]) >= {"python", "system", "processor", "cores", "compiled"}
    assert found["results"][0] == {
        "name": "tick",
        "compiled": 44.0,
        "interpreted": 381.0,
        "ratio": pytest.approx(8.66, abs=0.01),
    }
    assert found["results"][1]["ratio"] is None
    found = json.loads(shown(monkeypatch, capsys, "cluster", "--json"))
    assert found["results"] == [
        {
            "tool": "built-in",
            "clients": 50,
            "pipeline": 16,
            "command": "set",
            "per_second": 12345.6,
            "p50": 1.234,
            "p99": 5.678,
        }
    ]


def test_the_loads_are_those_that_the_documentation_names() -> None:
    loads = [(load.command, load.clients, load.pipeline) for load in LOADS]
    assert loads == [
        ("set", 1, 1),
        ("set", 50, 1),
        ("set", 1000, 1),
        ("set", 50, 16),
        ("get", 1, 1),
        ("get", 50, 1),
        ("get", 50, 16),
    ]


def test_options() -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    given = parser.parse_args(["cluster", "--nodes", "5", "--quick"])
    assert (given.what, given.nodes, given.quick, given.json) == ("cluster", 5, True, False)
