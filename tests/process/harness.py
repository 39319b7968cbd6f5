"""What the tests of real processes share: clusters that are started, hurt, and always cleared away."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, RedisError
from redis.retry import Retry

Value = TypeVar("Value")

COMMAND = [sys.executable, "-P", "-m", "raft_io.cli"]

PATIENCE = 30.0
"""Seconds to wait for what takes one on an idle machine."""


def wait_for(what: str, check: Callable[[], Value | None], timeout: float = PATIENCE) -> Value:
    """The first result of `check` that is neither `None` nor `False`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = check()
        if value is not None and value is not False:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout:.0f} seconds")


def free_base() -> int:
    """A base port above which all ports of a cluster are free, below those that the system hands out."""
    while True:
        base = random.randrange(10_000, 32_000)
        with ExitStack() as stack, suppress(OSError):
            for offset in (*range(1, 10), *range(101, 110), *range(201, 210)):
                probe = stack.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", base + offset))
            return base


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than a dead one that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return True


def client_of(port: int, timeout: float = 10.0) -> Redis:
    """A client that tries everything once."""
    return Redis(
        port=port, socket_timeout=timeout, retry=Retry(NoBackoff(), 0), single_connection_client=False
    )


class Dev:
    """`raft-io dev` as a process, and whatever was started by hand beside it."""

    def __init__(self, folder: Path, *, nodes: int = 3, base: int | None = None) -> None:
        self.folder = folder
        self.nodes = range(1, nodes + 1)
        self.base = free_base() if base is None else base
        self.output = folder.parent / f"{folder.name}.out"
        self._by_hand: list[subprocess.Popen[bytes]] = []
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = [f"--nodes={len(self.nodes)}", f"--data-dir={self.folder}", f"--base-port={self.base}"]
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [*COMMAND, "dev", *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self, text: str) -> bool:
        """Whether `dev` has printed it."""
        return text in self.output.read_text()

    def wait_ready(self) -> None:
        """Wait until `dev` says that the cluster is."""

        def ready() -> bool:
            assert self.process.poll() is None, self.output.read_text()
            return self.said("ready: ")

        wait_for("the cluster is ready", ready)

    def status(self, node: int) -> dict[str, Any] | None:
        """What the node says of itself."""
        try:
            url = f"http://127.0.0.1:{self.base + 200 + node}/status"
            with urllib.request.urlopen(url, timeout=2) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError):
            return None

    def leader(self, among: set[int] | None = None) -> int:
        """The node that leads, as a majority of all nodes says; one of `among`."""

        def find() -> int | None:
            states = [state for node in self.nodes if (state := self.status(node)) is not None]
            named = [state["leader"] for state in states]
            for state in states:
                leads = state["role"] == "leader" and named.count(state["id"]) * 2 > len(self.nodes)
                if leads and (among is None or state["id"] in among):
                    return int(state["id"])
            return None

        return wait_for("a leader", find)

    def others(self, node: int) -> set[int]:
        """All nodes but this."""
        return set(self.nodes) - {node}

    def port(self, node: int) -> int:
        """Where it speaks RESP."""
        return self.base + node

    def client(self, node: int, timeout: float = 10.0) -> Redis:
        """A client of the node."""
        return client_of(self.port(node), timeout)

    def pid(self, node: int) -> int:
        """Its process id, from its file."""
        return int((self.folder / f"node-{node}" / "pid").read_text())

    def signal(self, node: int, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid(node), number)

    def kill(self, *nodes: int) -> None:
        """kill -9, all at once."""
        pids = [self.pid(node) for node in nodes]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for process in self._by_hand:
            if process.pid in pids:
                process.wait()
        wait_for("they are gone", lambda: not any(is_running(pid) for pid in pids))

    def start_by_hand(self, *nodes: int) -> None:
        """`raft-io serve` on the node's file."""
        for node in nodes:
            folder = self.folder / f"node-{node}"
            with (folder / "node.log").open("ab") as log:
                self._by_hand.append(
                    subprocess.Popen(
                        [*COMMAND, "serve", "--config", str(folder / "raft.toml")],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
                )

    def wait_up(self, node: int) -> None:
        """Wait until the node answers."""
        wait_for(f"node {node} answers", lambda: self.status(node))

    def wait_caught_up(self) -> None:
        """Wait until every node has applied all that is committed anywhere."""

        def level() -> bool:
            states = [self.status(node) for node in self.nodes]
            return None not in states and len({s["last_applied"] for s in states if s is not None}) == 1

        wait_for("every node has applied the same", level)

    def pids(self) -> list[int]:
        """Of all nodes that have a file."""
        return [int(path.read_text()) for path in sorted(self.folder.glob("node-*/pid"))]

    def terminate(self) -> int:
        """SIGTERM to dev; returns the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """SIGTERM to all of it; returns dev's exit status."""
        status = self.terminate()
        for process in self._by_hand:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)
        return status

    def clear(self) -> None:
        """Leave nothing behind, whatever happened."""
        with suppress(OSError, ValueError):
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        for process in [self.process, *self._by_hand]:
            if process.poll() is None:
                process.terminate()
        for process in [self.process, *self._by_hand]:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(folder: Path, *, nodes: int = 3, base: int | None = None) -> Iterator[Dev]:
    """A cluster that is ready, and is cleared away."""
    dev = Dev(folder, nodes=nodes, base=base)
    try:
        dev.wait_ready()
        yield dev
    finally:
        dev.clear()


class Load:
    """Threads that write without pause, each its own keys and one counter that all share, each through a node
    of its own; notes what was acknowledged and what may have happened."""

    COUNTER = "counter"

    def __init__(self, dev: Dev) -> None:
        self._dev = dev
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.written: dict[str, str] = {}
        self.acknowledged = 0
        self.unknown = 0
        self._threads = [threading.Thread(target=self._run, args=(node,), daemon=True) for node in dev.nodes]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and wait for the answers that are still to come."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def wait_acknowledged(self, more: int) -> None:
        """Wait until so many more writes were acknowledged."""
        goal = self.acknowledged + more
        wait_for(f"{more} more writes", lambda: self.acknowledged >= goal)

    def _run(self, node: int) -> None:
        number = 0
        client = self._dev.client(node)
        while not self._stop.is_set():
            number += 1
            key, value = f"key-{node}-{number}", f"value-{number}"
            try:
                client.incr(self.COUNTER)
            except RedisError as error:
                self._failed(error)
            else:
                with self._lock:
                    self.acknowledged += 1
            with suppress(RedisError):
                if client.set(key, value):
                    with self._lock:
                        self.written[key] = value

    def _failed(self, error: RedisError) -> None:
        # CLUSTERDOWN and BUSY promise that nothing happened; anything else promises nothing.
        if not isinstance(error, ClusterDownError) and not str(error).startswith("BUSY"):
            with self._lock:
                self.unknown += 1
        time.sleep(0.02)

    def check(self) -> None:
        """Every node has everything that was acknowledged, and every INCR counted once or, if its outcome is
        unknown, at most once."""
        keys = sorted(self.written)
        assert keys, "nothing was written"
        for node in self._dev.nodes:
            client = self._dev.client(node)
            found = [value for at in range(0, len(keys), 500) for value in client.mget(keys[at : at + 500])]
            lost = [
                key for key, value in zip(keys, found, strict=True) if value != self.written[key].encode()
            ]
            assert not lost, f"node {node} lost {lost[:5]} and {len(lost) - 5} more"
            counter = int(client.get(self.COUNTER) or 0)
            assert self.acknowledged <= counter <= self.acknowledged + self.unknown
