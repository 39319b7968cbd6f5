"""Operating a cluster of real processes: growing, shrinking, repairing, starting over."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.process.harness import Dev, running
from tests.process.load import Load
from tests.process.nodes import COMMAND, PATIENCE, client_of, free_base, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def run(*arguments: str, status: int = 0) -> str:
    """What a command prints: to standard error if it is to fail."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


def http(dev: Dev, node: int) -> str:
    """The option for asking a node."""
    return f"--node=127.0.0.1:{dev.base + 200 + node}"


def asked(dev: Dev, node: int, *command: str) -> Any:
    """What a command says as JSON."""
    return json.loads(run(*command, "--json", http(dev, node)))


class Process:
    """A node that was started by hand."""

    def __init__(self, options: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", *options], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)

    def said(self) -> list[str]:
        """What it wrote last."""
        return self._log.read_text().splitlines()


@contextmanager
def serving(options: Sequence[str], log: Path) -> Iterator[Process]:
    """Run a node by hand."""
    node = Process(options, log)
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.process.terminate()
            try:
                node.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()


def options_of(dev: Dev, node: int, *more: str) -> list[str]:
    """The options of a node that is to join."""
    cluster = json.loads(run("status", "--json", http(dev, 1)))["cluster_id"]
    ports = [
        f"--{name}=127.0.0.1:{dev.base + offset + node}"
        for name, offset in (("resp", 0), ("listen", 100), ("http", 200))
    ]
    return [f"--id={node}", f"--cluster-id={cluster}", f"--data-dir={dev.folder}/node-{node}", *ports, *more]


def empty(folder: Path) -> None:
    """Lose what a node has written."""
    shutil.rmtree(folder / "log")
    for path in folder.glob("*.json"):
        path.unlink()


def voters(dev: Dev, node: int) -> list[int]:
    """The voters, as a node sees them."""
    status = dev.status(node)
    assert status is not None
    found: list[int] = status["membership"]["voters"]
    return found


def test_a_cluster_is_shown_with_the_node_that_is_down(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        dev.client(1).set("a", "1")
        leader = dev.leader()
        follower = min(dev.others(leader))
        shown = run("status", http(dev, follower))
        assert "3 of 3 voters answer" in shown and f"node {leader} leads" in shown
        dev.kill(leader)
        new = dev.leader(dev.others(leader))
        shown = run("status", http(dev, follower))
        assert f"node {new} leads" in shown and f"no answer: {leader}" in shown
        nodes = asked(dev, follower, "status")["nodes"]
        assert [node["id"] for node in nodes if node["status"] is None] == [leader]


def test_leadership_is_handed_over_by_command_and_by_sigterm(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        dev.client(1).set("a", "1")
        leader = dev.leader()
        heir = min(dev.others(leader))
        assert run("transfer", str(heir), http(dev, max(dev.others(leader)))) == f"node {heir} leads\n"
        assert dev.leader() == heir
        with Load(dev) as load:
            load.wait_acknowledged(50)
            dev.signal(heir, signal.SIGTERM)
            other = dev.leader(dev.others(heir))
            load.wait_acknowledged(50)
        wait_for("it has stopped", lambda: dev.said(f"node {heir}: exited with status 0"))
        log = (dev.folder / f"node-{other}" / "node.log").read_text()
        # Asked to lead, not after a timeout: nobody was without a leader in between.
        assert "candidate in term" in log
        dev.start_by_hand(heir)
        dev.wait_up(heir)
        load.check()


def test_a_cluster_grows_and_shrinks(tmp_path: Path) -> None:
    with running(tmp_path / "data", nodes=1) as dev:
        dev.client(1).set("a", "1")
        join = f"--join=127.0.0.1:{dev.base + 101}"
        with ExitStack() as stack:
            second = stack.enter_context(serving(options_of(dev, 2, join), tmp_path / "2.log"))
            wait_for("node 2 votes", lambda: voters(dev, 1) == [1, 2])
            stack.enter_context(serving(options_of(dev, 3, join, "--learner"), tmp_path / "3.log"))
            wait_for("node 3 is there", lambda: asked(dev, 1, "members")["learners"] == [3])
            assert client_of(dev.base + 3).get("a") == b"1"
            assert "node 3 is a voter" in run("members", "promote", "3", http(dev, 2))
            assert voters(dev, 3) == [1, 2, 3]
            assert run("members", "remove", "1", http(dev, 3)) == "node 1 is removed\n"
            wait_for("it has ended", lambda: dev.said("node 1: exited with status 1"))
            assert dev.said("node 1 was removed from the cluster")
            assert run("members", "remove", "1", http(dev, 3), status=1) == "raft-io: node 1 is no member\n"
            client_of(dev.base + 2).set("b", "2")
            assert run("members", "remove", "2", http(dev, 3)) == "node 2 is removed\n"
            assert second.wait() == 1
            assert second.said()[-1] == "raft-io: node 2 was removed from the cluster"
            assert client_of(dev.base + 3).get("b") == b"2"


def test_a_backup_under_load_becomes_another_cluster(tmp_path: Path) -> None:
    backup = tmp_path / "data.backup"
    with running(tmp_path / "data") as dev, Load(dev) as load:
        load.wait_acknowledged(200)
        before = load.written
        run("backup", str(backup), http(dev, min(dev.others(dev.leader()))))
        load.wait_acknowledged(20)
    base = free_base()
    peers = ", ".join([f'{node} = "127.0.0.1:{base + 100 + node}"' for node in (1, 2, 3)])
    configs = []
    for node in (1, 2, 3):
        path = tmp_path / f"new-{node}.toml"
        path.write_text(
            f'id = {node}\ncluster_id = "new"\ndata_dir = "new-{node}"\nresp = "127.0.0.1:{base + node}"\n'
            f'http = "127.0.0.1:{base + 200 + node}"\npeers = {{ {peers} }}\n'
        )
        configs.append(path)
    run("restore", str(backup), *[f"--config={path}" for path in configs])
    with ExitStack() as stack:
        for path in configs:
            stack.enter_context(serving(["--config", str(path)], path.with_suffix(".log")))
        client = client_of(base + 1)

        def answers() -> bool:
            with ExitStack() as attempt:
                attempt.callback(lambda: None)
                try:
                    return bool(client.set("new", "1"))
                except Exception:
                    return False

        wait_for("the new cluster takes writes", answers)
        for node in (1, 2, 3):
            found = client_of(base + node).mget(sorted(before))
            assert all(
                int(value or 0) >= before[key] for key, value in zip(sorted(before), found, strict=True)
            )


def test_a_lost_majority_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        for number in range(100):
            dev.client(1).set(f"key-{number}", "x")
        dev.wait_caught_up()
        dev.kill(1, 2, 3)
        for node in (2, 3):
            empty(dev.folder / f"node-{node}")
        data_dir = f"--data-dir={dev.folder}/node-1"
        run("recover", data_dir, "--id=1", "--voters=1", status=1)
        run("recover", data_dir, "--id=1", "--voters=1", "--yes-i-lost-a-majority")
        dev.start_by_hand(1)
        wait_for("node 1 leads alone", lambda: (dev.status(1) or {}).get("role") == "leader")
        assert voters(dev, 1) == [1]
        assert dev.client(1).dbsize() == 100
        with ExitStack() as stack:
            for node in (2, 3):
                # The file has peers; to join instead is said on the command line.
                config = f"--config={dev.folder}/node-{node}/raft.toml"
                join = f"--join=127.0.0.1:{dev.base + 101}"
                stack.enter_context(serving([config, join], tmp_path / f"{node}.log"))
            wait_for("all vote again", lambda: voters(dev, 1) == [1, 2, 3])
            assert dev.client(3).dbsize() == 100


def test_a_node_whose_disk_was_replaced_joins_anew(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        dev.client(1).set("a", "1")
        dev.wait_caught_up()
        lost = min(dev.others(dev.leader()))
        dev.kill(lost)
        folder = dev.folder / f"node-{lost}"
        empty(folder)
        config = f"--config={folder}/raft.toml"
        other = min(dev.others(lost))
        with serving([config], tmp_path / "refused.log") as refused:
            # As the voter that it was it is not taken: it has forgotten what it promised.
            assert refused.wait() == 1
            assert f"node {lost} has lost its data; empty its data directory" in refused.said()[-1]
        # Without the third there is no majority, and nobody makes one of it.
        leader = dev.leader()
        third = min(dev.others(lost) - {leader})
        dev.kill(third)
        wait_for("nobody leads", lambda: (dev.status(leader) or {})["leader"] is None)
        with serving([config], tmp_path / "again.log") as refused:
            assert refused.wait() == 1
            assert (dev.status(leader) or {})["leader"] is None
        dev.start_by_hand(third)
        assert dev.leader() != lost
        dev.client(third).set("a", "3")
        empty(folder)
        with serving([config, f"--join=127.0.0.1:{dev.base + 100 + other}"], tmp_path / "joined.log"):
            wait_for("it is level", lambda: (dev.status(lost) or {}).get("last_applied", 0) > 0)
            wait_for("it votes", lambda: voters(dev, lost) == [1, 2, 3])
            assert dev.client(lost).get("a") == b"3"


@pytest.mark.parametrize("what", ["log", "snapshot"])
def test_a_damaged_log_or_snapshot_is_set_aside_and_the_node_joins_anew(tmp_path: Path, what: str) -> None:
    with running(tmp_path / "data") as dev:
        for number in range(50):
            dev.client(1).set(f"key-{number}", "x" * 1000)
        dev.wait_caught_up()
        hurt = min(dev.others(dev.leader()))
        if what == "snapshot":
            asked(dev, hurt, "snapshot")
        dev.kill(hurt)
        folder = dev.folder / f"node-{hurt}"
        segment = next((folder / "log").glob("*.wal" if what == "log" else "*.snap"))
        data = bytearray(segment.read_bytes())
        data[10_000] ^= 0xFF
        segment.write_bytes(data)
        found = run("wal", "verify", str(folder), status=1)
        assert found == ""
        with serving([f"--config={folder}/raft.toml"], tmp_path / "refused.log") as refused:
            assert refused.wait() == 1
            assert segment.name in refused.said()[-1]
        run("recover", f"--data-dir={folder}", f"--id={hurt}", "--salvage")
        other = min(dev.others(hurt))
        options = [f"--config={folder}/raft.toml", f"--join=127.0.0.1:{dev.base + 100 + other}"]
        with serving(options, tmp_path / "joined.log"):
            wait_for("it votes", lambda: dev.status(hurt) and voters(dev, hurt) == [1, 2, 3])
            assert dev.client(hurt).dbsize() == 50
            run("wal", "verify", str(folder))
