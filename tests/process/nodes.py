"""The nodes of a cluster on this machine, each a process: asked, hurt, and always cleared away."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.process.proxy import Proxies

Value = TypeVar("Value")

COMMAND = [sys.executable, "-P", "-m", "raft_io.cli"]

PATIENCE = 30.0
"""Seconds to wait for what takes one on an idle machine."""


def wait_for(
    what: str, check: Callable[[], Value | None], timeout: float = PATIENCE, *, pause: float = 0.02
) -> Value:
    """The first result of `check` that is neither `None` nor `False`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = check()
        if value is not None and value is not False:
            return value
        time.sleep(pause)
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


def raft_io(*arguments: object) -> tuple[int, str]:
    """Run a command that ends by itself: its status and what it said."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=90, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr + done.stdout


class Nodes:
    """Nodes that answer on the ports that `raft-io dev` would give them."""

    nodes: Sequence[int]

    def __init__(self, folder: Path, base: int) -> None:
        self.folder = folder
        self.base = base

    def port(self, node: int) -> int:
        """Where it speaks RESP."""
        return self.base + node

    def http(self, node: int) -> str:
        """Where it answers over HTTP."""
        return f"127.0.0.1:{self.base + 200 + node}"

    def client(self, node: int, timeout: float = 10.0) -> Redis:
        """A client of the node."""
        return client_of(self.port(node), timeout)

    def ask(self, node: int, path: str, body: object = None, timeout: float = 2.0) -> Any:
        """What it answers over HTTP, `None` if it does not. With a `body` it is a POST."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.http(node)}{path}", data, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def status(self, node: int) -> dict[str, Any] | None:
        """What the node says of itself."""
        found: dict[str, Any] | None = self.ask(node, "/status")
        return found

    def state(self, node: int) -> dict[str, Any]:
        """The same of a node that runs."""
        return wait_for(f"node {node} answers", lambda: self.status(node))

    def leader(self, among: Iterable[int] | None = None) -> int:
        """The node that leads, as a majority of all nodes says. Of `among`, and nobody else is asked."""
        asked = self.nodes if among is None else sorted(among)

        def find() -> int | None:
            states = [state for node in asked if (state := self.status(node)) is not None]
            named = [state["leader"] for state in states]
            for state in states:
                if state["role"] == "leader" and named.count(state["id"]) * 2 > len(self.nodes):
                    return int(state["id"])
            return None

        return wait_for("a leader", find)

    def wait_follower(self, node: int) -> int:
        """Wait until the node follows another; which."""

        def follows() -> int | None:
            leader: int | None = self.state(node)["leader"]
            return None if leader == node else leader

        return wait_for(f"node {node} follows", follows)

    def others(self, node: int) -> set[int]:
        """All nodes but this."""
        return set(self.nodes) - {node}

    def wait_up(self, *nodes: int) -> None:
        """Wait until they answer."""
        for node in nodes:
            self.state(node)

    def wait_caught_up(self) -> None:
        """Wait until every node has applied all that is committed anywhere."""

        def level() -> bool:
            states = [self.status(node) for node in self.nodes]
            return None not in states and len({s["last_applied"] for s in states if s is not None}) == 1

        wait_for("every node has applied the same", level)

    def log(self, node: int) -> str:
        """What the node has said."""
        return (self.folder / f"node-{node}" / "node.log").read_text()


class Group(Nodes):
    """Nodes that are each started by `raft-io serve`, so that they can come and go. The first begin a
    cluster, others join it. With `proxied`, peers reach each other through `proxies`, which can be cut.

    `settings` are those of `raft-io serve`, for all of them.
    """

    nodes: list[int]

    def __init__(self, folder: Path, first: int, *, proxied: bool = False, **settings: object) -> None:
        super().__init__(folder, free_base())
        self.nodes = list(range(1, first + 1))
        self.proxies = Proxies() if proxied else None
        self._settings = {"cluster_id": folder.name, "seed": random.randrange(2**60), **settings}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._options: dict[int, list[str]] = {}
        peers = ",".join([f"{node}={self.peer(node)}" for node in self.nodes])
        for node in self.nodes:
            self._options[node] = [f"--peers={peers}"] if first > 1 else []
        self.start(*self.nodes)

    def peer(self, node: int) -> str:
        """Where the others reach it."""
        listen = self.base + 100 + node
        return f"127.0.0.1:{listen if self.proxies is None else self.proxies.port(node, listen)}"

    def data(self, node: int) -> Path:
        """Its data directory."""
        return self.folder / f"node-{node}" / "data"

    def serve(self, node: int, *options: str) -> list[str]:
        """The command that starts it."""
        settings = {**self._settings, "seed": int(str(self._settings["seed"])) + node}
        return [
            *COMMAND,
            "serve",
            f"--id={node}",
            f"--data-dir={self.data(node)}",
            f"--listen=127.0.0.1:{self.base + 100 + node}",
            f"--advertise={self.peer(node)}",
            f"--resp=127.0.0.1:{self.port(node)}",
            f"--http={self.http(node)}",
            *[f"--{name.replace('_', '-')}={_shown(value)}" for name, value in settings.items()],
            *options,
        ]

    def start(self, *nodes: int, options: list[str] | None = None) -> None:
        """Start nodes, as they were started before, or with other `options`."""
        for node in nodes:
            assert not self.runs(node)
            if options is not None:
                self._options[node] = options
            (self.folder / f"node-{node}").mkdir(parents=True, exist_ok=True)
            with (self.folder / f"node-{node}" / "node.log").open("ab") as log:
                self._processes[node] = subprocess.Popen(
                    self.serve(node, *self._options[node]), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def join(self, node: int, through: int, *options: str) -> None:
        """Start a node that joins through another."""
        if node not in self.nodes:
            self.nodes.append(node)
        self.start(node, options=[f"--join={self.peer(through)}", *options])

    def forget(self, node: int) -> None:
        """It is a node of this cluster no more."""
        self.nodes.remove(node)

    def runs(self, node: int) -> bool:
        """Whether its process does."""
        return node in self._processes and self._processes[node].poll() is None

    def signal(self, number: signal.Signals, *nodes: int) -> None:
        """Send them a signal."""
        for node in nodes:
            self._processes[node].send_signal(number)

    def kill(self, *nodes: int) -> None:
        """kill -9, all at once."""
        self.signal(signal.SIGKILL, *nodes)
        for node in nodes:
            self._processes[node].wait(PATIENCE)

    def ended(self, node: int, timeout: float = PATIENCE) -> int:
        """Wait until its process has ended by itself; its exit status."""
        return self._processes[node].wait(timeout)

    def stop(self, *nodes: int) -> None:
        """SIGTERM, all at once."""
        self.signal(signal.SIGTERM, *nodes)
        for node in nodes:
            assert self.ended(node) == 0, self.log(node)

    def said(self, node: int) -> str:
        """The last line of a node that has ended."""
        return self.log(node).splitlines()[-1]

    def operate(self, *arguments: object, through: int) -> str:
        """Run a command on the cluster, which must succeed, through the node; what it said."""
        status, said = raft_io(*arguments, "--node", self.http(through))
        assert status == 0, said
        return said

    def roles(self, node: int) -> dict[str, list[int]]:
        """The membership, as the node sees it."""
        found: dict[str, list[int]] = self.state(node)["membership"]
        return found

    def wait_members(self, voters: set[int], learners: Iterable[int] = ()) -> None:
        """Wait until all nodes see this membership."""

        def agreed() -> bool:
            wanted = {"voters": sorted(voters), "learners": sorted(learners), "outgoing": []}
            return all((self.status(node) or {}).get("membership") == wanted for node in self.nodes)

        try:
            wait_for(f"the voters are {sorted(voters)}", agreed)
        except AssertionError:
            print({node: (self.status(node) or {}).get("membership") for node in self.nodes})
            raise

    def clear(self) -> None:
        """Leave nothing behind, whatever happened."""
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            process.kill()
        for process in running:
            process.wait()
        if self.proxies is not None:
            self.proxies.close()


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def group(folder: Path, first: int = 3, *, proxied: bool = False, **settings: object) -> Iterator[Group]:
    """A cluster that has a leader, and is cleared away. What its nodes said is shown when a test fails."""
    made = Group(folder, first, proxied=proxied, **settings)
    try:
        made.wait_up(*made.nodes)
        made.leader()
        yield made
    except BaseException:
        for node in sorted(made._options):
            print(f"--- node {node}\n{made.log(node)}")
        raise
    finally:
        made.clear()
        for node in sorted(made._options):
            assert "Traceback" not in made.log(node)
