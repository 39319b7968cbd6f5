"""Every example runs as a user would run it, and shows what it says. Each asserts its own claims."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import raft_io

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def environment() -> dict[str, str]:
    """This environment, with the package that is under test."""
    return {**os.environ, "PYTHONPATH": str(Path(raft_io.__file__).parents[1])}


def run(name: str, *arguments: str, cwd: Path) -> str:
    """Run an example to its end; its output."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_there_is_no_example_that_is_not_run() -> None:
    assert set(NAMES) == {
        "counter",
        "in_memory_cluster",
        "partition_recovery",
        "persistent_node",
        "replicated_log",
        "simulated",
        "single_node",
    }


def test_single_node_elects_itself_and_applies(tmp_path: Path) -> None:
    assert "state: {'x': '3', 'y': '2'}" in run("single_node", cwd=tmp_path)


def test_in_memory_cluster_elects_one_leader(tmp_path: Path) -> None:
    output = run("in_memory_cluster", cwd=tmp_path)
    assert len(re.findall(r": leader in term 1", output)) == 1
    assert len(re.findall(r": follower in term 1", output)) == 2


def test_simulated_finds_the_bug_and_no_other(tmp_path: Path) -> None:
    output = run("simulated", cwd=tmp_path)
    assert "found: seed " in output
    assert "mended: 5 runs" in output


def test_replicated_log_applies_the_same_on_every_node(tmp_path: Path) -> None:
    output = run("replicated_log", cwd=tmp_path)
    applied = [re.findall(rf"node {node} applies (.*)", output) for node in (1, 2, 3)]
    assert len(applied[0]) == 4 and applied[0] == applied[1] == applied[2]


def test_partition_recovery_loses_only_what_was_not_committed(tmp_path: Path) -> None:
    assert "all five have applied ['before', 'after']" in run("partition_recovery", cwd=tmp_path)


def test_persistent_node_goes_on_where_it_was(tmp_path: Path) -> None:
    assert "recovered: 1 entries, term 1, vote 1" in run("persistent_node", cwd=tmp_path)
    run("persistent_node", "log", cwd=tmp_path)
    assert "['first', 'second', 'first', 'second']" in run("persistent_node", "log", cwd=tmp_path)


def free_base_port() -> int:
    """A port after which three are free, at this moment."""
    for base in range(19100 + os.getpid() % 500 * 8, 32000, 8):
        sockets = [socket.socket() for _ in range(3)]
        try:
            for offset, one in enumerate(sockets, start=1):
                one.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
        return base
    raise AssertionError("no three free ports")


@contextmanager
def counting(port: int, *nodes: int, cwd: Path) -> Iterator[Iterator[int]]:
    """Run the counter, with the totals that it prints."""
    command = [sys.executable, str(EXAMPLES / "counter.py"), str(port), *map(str, nodes)]
    process = subprocess.Popen(
        command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        yield (int(line.rpartition(": ")[2]) for line in process.stdout)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            _, complaints = process.communicate(timeout=30)
        finally:
            # Where Ctrl-C is ignored, as by jobs in the background, the next test must not suffer for it.
            process.kill()
            process.communicate()
        assert process.returncode == 0 and "Traceback" not in complaints


@pytest.mark.process
def test_counter_counts_in_one_process_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    port = free_base_port()
    with counting(port, cwd=tmp_path) as totals:
        first = [next(totals) for _ in range(6)]
    assert len(set(first)) == 6 and min(first) == 1
    with counting(port, cwd=tmp_path) as totals:
        assert next(totals) > max(first)


@pytest.mark.process
def test_counter_counts_with_one_process_a_node(tmp_path: Path) -> None:
    port = free_base_port()
    with counting(port, 1, cwd=tmp_path) as one, counting(port, 2, cwd=tmp_path) as two:
        totals = [next(one), next(two), next(one), next(two)]
        assert len(set(totals)) == 4 and min(totals) == 1
    assert sorted(path.name for path in (tmp_path / "counter-data").iterdir()) == ["1", "2"]


def test_the_counter_is_short() -> None:
    assert len((EXAMPLES / "counter.py").read_text().splitlines()) < 40
