"""`raft-io serve` as a process: what it refuses, and what it withstands."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.process.harness import Dev, running
from tests.process.nodes import COMMAND, client_of, is_running, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Dev]:
    """A running cluster of one."""
    with running(tmp_path / "data", nodes=1) as dev:
        yield dev


def serve(*arguments: str) -> tuple[int, str]:
    """Run a node that should not start: its exit status and what it said, without what it logged."""
    done = subprocess.run(
        [*COMMAND, "serve", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stdout
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("raft-io")]
    assert len(said) == 1, done.stderr
    return done.returncode, said[0]


def config_of(dev: Dev, node: int = 1) -> Path:
    """The file with the node's settings."""
    return dev.folder / f"node-{node}" / "raft.toml"


def test_a_typo_in_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "raft.toml"
    path.write_text("id = 1\nelection_timout = [10, 20]\n")
    status, said = serve("--config", str(path))
    assert status == 2
    assert said == f'raft-io: {path}: unknown setting "election_timout"; did you mean "election_timeout"?'


@pytest.mark.parametrize("which", ["listen", "resp", "http"])
def test_a_port_in_use_is_named(node: Dev, tmp_path: Path, which: str) -> None:
    taken = node.base + 1
    own = {"listen": "127.0.0.1:0", "resp": "127.0.0.1:0", "http": "127.0.0.1:0", which: f"127.0.0.1:{taken}"}
    options = [part for name, address in own.items() for part in (f"--{name}", address)]
    status, said = serve("--id", "1", "--data-dir", str(tmp_path / "other"), *options)
    assert status == 1
    assert said == f"raft-io: node 1: cannot listen on 127.0.0.1:{taken} ({which}): Address already in use"


def test_the_data_of_another_node_is_refused_and_left_alone(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        dev.client(1).set("a", "1")
        dev.kill(2, 3)
        status, said = serve("--config", str(config_of(dev, 2)), "--data-dir", str(dev.folder / "node-3"))
        assert status == 1
        assert "is the data directory of node 3" in said
        assert "asked for was node 2" in said
        dev.start_by_hand(2, 3)
        dev.wait_up(3)
        dev.leader()
        assert dev.client(3).get("a") == b"1"


def test_the_data_of_a_running_node_is_refused_and_its_pid_file_stays(node: Dev) -> None:
    pid = node.pid(1)
    ports = ["--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    path = config_of(node)
    status, said = serve("--config", str(path), *ports, "--peers", "1=127.0.0.1:1")
    assert status == 1
    assert "in use by another process" in said
    assert node.pid(1) == pid
    assert node.client(1).ping()


def test_a_damaged_log_is_refused_and_named(node: Dev) -> None:
    for number in range(200):
        node.client(1).set(f"key-{number}", "value" * 100)
    assert node.stop() == 0
    log = max((node.folder / "node-1" / "log").iterdir(), key=lambda path: path.stat().st_size)
    with log.open("r+b") as file:
        file.seek(30_000)
        file.write(b"damage, not a torn tail")
    before = log.read_bytes()
    status, said = serve("--config", str(config_of(node)))
    assert status == 1
    assert str(log) in said
    assert "byte" in said
    assert log.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_node_that_was_started_by_hand(node: Dev, number: signal.Signals) -> None:
    node.kill(1)
    process = subprocess.Popen(
        [*COMMAND, "serve", "--config", str(config_of(node))],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for("it runs", lambda: node.status(1) is not None and node.pid(1) == process.pid)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0
        assert b"node 1: stopped" in said
        assert not node.pids()
    finally:
        process.kill()
        process.wait()


def test_a_thousand_idle_connections_disturb_nobody(node: Dev) -> None:
    idle = [socket.create_connection(("127.0.0.1", node.port(1))) for _ in range(1000)]
    try:
        for connection in idle[:500]:
            connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk")
        assert node.client(1).set("a", "1")
        assert node.client(1).get("a") == b"1"
        idle[0].sendall(b"\r\n$1\r\n5\r\n")
        assert idle[0].recv(100) == b"+OK\r\n"
    finally:
        for connection in idle:
            connection.close()
    assert node.client(1).get("k") == b"5"


def test_a_client_that_takes_no_answers_does_not_keep_a_node_from_stopping(node: Dev) -> None:
    node.client(1).set("a", "x" * 500_000)
    request = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
    with socket.create_connection(("127.0.0.1", node.port(1))) as deaf:
        deaf.setblocking(False)
        sent = 0

        def choked() -> bool:
            nonlocal sent
            try:
                sent += deaf.send(request * 100)
            except BlockingIOError:
                return True
            return sent > 100_000

        wait_for("it has more answers than it takes", choked)
        assert node.client(1).ping()
        pid = node.pid(1)
        node.signal(1, signal.SIGTERM)
        wait_for("it stops", lambda: not is_running(pid), timeout=15)


@pytest.mark.parametrize(
    ("port", "noise"),
    [
        pytest.param(1, b"*\x00\xff\x13garbage\r\n" * 100, id="resp"),
        pytest.param(1, b"*2\r\n$3\r\nGET\r\n$10000000000\r\n", id="resp-10GB"),
        pytest.param(1, b"*2000000000\r\n", id="resp-arguments"),
        pytest.param(101, b"\xff" * 4096, id="peer"),
        pytest.param(101, b"GET / HTTP/1.1\r\n\r\n", id="peer-http"),
        pytest.param(201, b"\xff" * 4096 + b"\r\n\r\n", id="http"),
        pytest.param(201, b"GET /status HTTP/1.1\r\nx: " + b"y" * 100_000, id="http-head"),
    ],
)
def test_noise_on_a_port_ends_that_connection_and_nothing_else(node: Dev, port: int, noise: bytes) -> None:
    client = node.client(1)
    client.set("a", "1")
    with socket.create_connection(("127.0.0.1", node.base + port)) as connection:
        connection.settimeout(30)
        connection.sendall(noise)
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert client.get("a") == b"1"
    assert node.status(1) is not None
    assert "Traceback" not in (node.folder / "node-1" / "node.log").read_text()


def test_a_node_without_a_file(tmp_path: Path) -> None:
    files = [f"--data-dir={tmp_path / 'data'}", f"--pid-file={tmp_path / 'pid'}"]
    addresses = ["--listen=0", "--resp=127.0.0.1:0", "--http=127.0.0.1:0"]
    process = subprocess.Popen(
        [*COMMAND, "serve", "--id=7", *files, *addresses],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "serving Redis clients on" in line)
        client = client_of(int(line.rpartition(":")[2]))
        assert client.set("a", "1")
        assert client.info("raft")["raft_id"] == 7
        wait_for("its pid is told", (tmp_path / "pid").exists)
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
