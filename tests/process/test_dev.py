"""`raft-io dev`, as somebody at a terminal meets it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.process.harness import Dev, running
from tests.process.nodes import COMMAND, free_base, is_running, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


def raft_io(*arguments: str) -> tuple[int, str]:
    """Run a command that ends by itself: its status and what it said."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr + done.stdout


def test_a_cluster_starts_serves_any_node_stops_and_keeps_its_data(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(folder) as dev:
        assert dev.client(1).set("a", "1")
        assert [dev.client(node).get("a") for node in dev.nodes] == [b"1"] * 3
        assert f"redis-cli -p {dev.port(1)} set a 1" in dev.output.read_text()
        assert dev.output.read_text().count("leader in term") == 1
        leader = dev.leader()
        for node in dev.nodes:
            status = dev.status(node)
            assert status is not None
            assert status["id"] == node
            assert status["role"] == ("leader" if node == leader else "follower")
            assert status["leader"] == leader
            assert status["membership"] == {"voters": [1, 2, 3], "learners": [], "outgoing": []}
            assert status["address"]["resp"] == f"127.0.0.1:{dev.base + node}"
            assert dev.client(node).info("raft")["raft_id"] == node
        pids = dev.pids()
        assert len(set(pids)) == 3
        assert dev.stop() == 0
        assert not any(is_running(pid) for pid in pids)
        assert not dev.pids()
    moved = free_base()
    with running(folder, base=moved) as dev:
        assert dev.client(3).get("a") == b"1"
        assert dev.base == moved


def test_ctrl_c_stops_it_too(tmp_path: Path) -> None:
    with running(tmp_path / "data", nodes=1) as dev:
        dev.process.send_signal(signal.SIGINT)
        assert dev.process.wait(30) == 0
        assert not dev.pids()


def test_nodes_do_not_outlive_a_dev_that_was_killed(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        pids = dev.pids()
        dev.process.kill()
        dev.process.wait()
        wait_for("the nodes have ended", lambda: not any(is_running(pid) for pid in pids))


def test_a_killed_node_is_reported_and_can_be_started_by_hand(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        dev.client(1).set("a", "1")
        dev.kill(2)
        config = dev.folder / "node-2" / "raft.toml"
        report = f"node 2: killed by SIGKILL; to start it again: raft-io serve --config {config}"
        wait_for("dev reports it", lambda: dev.said(report))
        stale = dev.pid(2)
        dev.start_by_hand(2)
        wait_for("the pid file is right again", lambda: dev.pid(2) != stale)
        assert is_running(dev.pid(2))
        dev.wait_up(2)
        assert dev.client(2).get("a") == b"1"
        assert dev.terminate() == 0
        wait_for("dev has stopped that one as well", lambda: dev.status(2) is None)


def test_another_number_of_nodes_than_the_data_was_made_with_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(folder, nodes=1) as dev:
        dev.client(1).set("a", "1")
        base = str(dev.base)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, said = raft_io("dev", "--nodes", "3", "--data-dir", str(folder), "--base-port", base)
    assert status == 1
    assert said.count("\n") == 1
    assert "cluster of 1" in said
    assert "--nodes 1" in said
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_dev_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "data", nodes=1) as dev:
        status, said = raft_io("dev", "--nodes", "1", "--data-dir", str(dev.folder), "--base-port", "9000")
        assert status == 1
        assert said == f"raft-io: {dev.folder} is in use by another raft-io dev\n"
        assert dev.client(1).ping()


def test_a_port_in_use_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with running(tmp_path / "data", nodes=1) as dev:
        other = tmp_path / "other"
        status, said = raft_io("dev", "--data-dir", str(other), "--base-port", str(dev.base))
        assert status == 1
        reason = "Address already in use; choose others with --base-port"
        assert said == f"raft-io: port {dev.base + 1} on 127.0.0.1: {reason}\n"
        assert not list(other.glob("node-*"))


def test_a_cluster_that_cannot_start_ends_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(folder, nodes=1) as dev:
        dev.client(1).set("a", "1")
        assert dev.stop() == 0
    (folder / "node-1" / "identity.json").write_text("{}")
    broken = Dev(folder, nodes=1)
    try:
        assert broken.process.wait(30) == 1
        said = broken.output.read_text()
        assert "node 1: exited with status 1: " in said
        assert "identity" in said
    finally:
        broken.clear()


def test_nothing_is_left_when_output_is_closed_early(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "dev", "--nodes=1", f"--data-dir={tmp_path / 'data'}", f"--base-port={free_base()}"],
        stdout=writing,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    os.close(reading)
    try:
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait()
    assert not list((tmp_path / "data").glob("node-*/pid"))
