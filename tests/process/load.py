"""Clients that write and read without pause while a cluster is hurt, and miss nothing."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from redis import Redis
from redis.exceptions import ClusterDownError, RedisError
from tests.process.nodes import PATIENCE, Nodes, wait_for


class Load:
    """A thread a node. Each writes a key of its own, with values that go up by one, counts on a counter that
    all share, and reads what the others write. Whether that is linearizable shows at once: what begins after
    something was known must not be older than it, and no two count the same.

    A write of unknown outcome may take effect at any later time: its key is left alone from then on.
    """

    COUNTER = "counter"

    def __init__(self, cluster: Nodes, nodes: Iterable[int] | None = None, *, pause: float = 0.001) -> None:
        self._cluster = cluster
        self._pause = pause
        self._lock = threading.Lock()
        self._low: dict[str, int] = {self.COUNTER: 0}
        """What is known to be in the store, at least."""
        self._high: dict[str, int] = {}
        """What was tried to write, at most."""
        self._counted: set[int] = set()
        self._fresh: dict[int, str] = {}
        """The keys that are written now, by node."""
        self._last = time.monotonic()
        self.acknowledged = 0
        self.unknown = 0
        self.reads = 0
        self.errors: list[str] = []
        self.wrong: list[str] = []
        self.gap = 0.0
        """The longest time in seconds in which nothing at all was acknowledged."""
        self._stops: dict[int, threading.Event] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._first = list(cluster.nodes if nodes is None else nodes)

    def __enter__(self) -> Load:
        self._last = time.monotonic()
        for node in self._first:
            self.begin(node)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def begin(self, node: int) -> None:
        """Write and read through this node, too."""
        stop = self._stops[node] = threading.Event()
        thread = self._threads[node] = threading.Thread(target=self._run, args=(node, stop), daemon=True)
        thread.start()

    def end(self, *nodes: int) -> None:
        """Go through these nodes no more."""
        for node in nodes:
            self._stops[node].set()
        for node in nodes:
            thread = self._threads.pop(node)
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def stop(self) -> None:
        """End it, and wait for the answers that are still to come."""
        self.end(*self._threads)

    def wait_acknowledged(self, more: int) -> None:
        """Wait until so many more writes were acknowledged."""
        goal = self.acknowledged + more
        wait_for(f"{more} more writes", lambda: self.acknowledged >= goal)

    def _run(self, node: int, stop: threading.Event) -> None:
        client = self._cluster.client(node)
        key, value = "", 0
        while not stop.is_set():
            if not key:
                key, value = f"key-{node}-{random.randrange(2**40):x}", 0
                with self._lock:
                    self._high[key] = self._low[key] = 0
                    self._fresh[node] = key
            value += 1
            if not self._try(partial(self._write, client, key, value)):
                key = ""
            if not self._try(partial(self._count, client)):
                with self._lock:
                    self.unknown += 1
            self._try(partial(self._read, client))
            stop.wait(self._pause)

    def _try(self, act: Callable[[], None]) -> bool:
        """Whether the outcome is known."""
        try:
            act()
        except RedisError as error:
            with self._lock:
                self.errors.append(f"{time.monotonic():.3f} {type(error).__name__}: {error}")
            time.sleep(0.02)
            # CLUSTERDOWN and BUSY promise that nothing happened; anything else promises nothing.
            return isinstance(error, ClusterDownError) or str(error).startswith(("BUSY", "Error 111"))
        return True

    def _write(self, client: Redis, key: str, value: int) -> None:
        with self._lock:
            self._high[key] = value
        client.set(key, value)
        self._known(key, value)
        self._written()

    def _count(self, client: Redis) -> None:
        before = self._low[self.COUNTER]
        value = int(client.incr(self.COUNTER))
        with self._lock:
            if value <= before or value in self._counted:
                self.wrong.append(f"counted {value} after {before}, or twice")
            self._counted.add(value)
        self._known(self.COUNTER, value)
        self._written()

    def _read(self, client: Redis) -> None:
        with self._lock:
            key = random.choice(list(self._fresh.values()))
            before = self._low[key]
        value = int(client.get(key) or 0)
        with self._lock:
            if not before <= value <= self._high[key]:
                self.wrong.append(f"read {value} of {key}, written {before} .. {self._high[key]}")
            self.reads += 1
        self._known(key, value)

    def _known(self, key: str, value: int) -> None:
        with self._lock:
            self._low[key] = max(self._low[key], value)

    def _written(self) -> None:
        with self._lock:
            self.acknowledged += 1
            now = time.monotonic()
            self.gap = max(self.gap, now - self._last)
            self._last = now

    @property
    def written(self) -> dict[str, int]:
        """What is known to be in the store by now, at least."""
        with self._lock:
            return dict(self._low)

    def check(self, *nodes: int) -> None:
        """Nothing was read that could not be. Every node has everything that was acknowledged, and every INCR
        counted once or, if its outcome is unknown, at most once."""
        assert not self.wrong, f"{self.wrong[:5]} and {len(self.wrong) - 5} more"
        assert self.acknowledged, "nothing was written"
        assert self.reads, "nothing was read"
        keys = sorted(self._high)
        for node in nodes or self._cluster.nodes:
            client = self._cluster.client(node)
            found = [value for at in range(0, len(keys), 500) for value in client.mget(keys[at : at + 500])]
            lost = [
                f"{key}: {value!r}, not {self._low[key]} .. {self._high[key]}"
                for key, value in zip(keys, found, strict=True)
                if not self._low[key] <= int(value or 0) <= self._high[key]
            ]
            assert not lost, f"node {node}: {lost[:5]} and {len(lost) - 5} more"
            counter = int(client.get(self.COUNTER) or 0)
            counted = len(self._counted)
            assert max(counted, self._low[self.COUNTER]) <= counter <= counted + self.unknown
            with suppress(RedisError):
                client.close()


def pour(port: int, count: int, *, keys: int, size: int, batch: int = 200) -> None:
    """Write so often, as fast as it goes: values of so many bytes that begin with their number, to `key-0`
    .. in turn."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        for start in range(0, count, batch):
            numbers = range(start, min(start + batch, count))
            parts: list[bytes] = []
            for number in numbers:
                name, value = b"key-%d" % (number % keys), (b"%d:" % number).ljust(size, b".")
                parts.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n" % (len(name), name, len(value)))
                parts.append(value + b"\r\n")
            connection.sendall(b"".join(parts))
            answer = b""
            while len(answer) < 5 * len(numbers):
                answer += connection.recv(65536)
            assert answer == b"+OK\r\n" * len(numbers), answer[:200]


def check_poured(client: Redis, count: int, *, keys: int) -> None:
    """The node has the last of all that was poured."""
    found = client.mget([f"key-{key}" for key in range(keys)])
    numbers = sorted(
        int(str(value, "ascii").partition(":")[0]) for value in found if isinstance(value, bytes)
    )
    assert numbers == list(range(count - keys, count))
