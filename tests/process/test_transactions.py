"""Transactions and expiry on all nodes of a cluster whose leader is killed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.client import Pipeline
from redis.exceptions import ClusterDownError, RedisError, WatchError
from tests.process.nodes import Group, group, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

ACCOUNTS = [f"account-{number}" for number in range(4)]
TOTAL = 400


def watch(work: Pipeline, *keys: str) -> None:
    """WATCH, whose wrapper has no types."""
    command: Callable[..., object] = work.execute_command
    command("WATCH", *keys)


class Bank:
    """Clients on every node that move money between accounts, each time what nobody else touches meanwhile,
    and look at all accounts at once. The sum is always the same."""

    def __init__(self, nodes: Group) -> None:
        self._nodes = nodes
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.moved = 0
        self.conflicts = 0
        self.unknown = 0
        self.wrong: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(node,), daemon=True) for node in nodes.nodes
        ]
        nodes.client(1).mset({name: TOTAL // len(ACCOUNTS) for name in ACCOUNTS})
        for thread in self._threads:
            thread.start()

    def _run(self, node: int) -> None:
        client = self._nodes.client(node)
        while not self._stopped.is_set():
            try:
                self._move(node)
                with client.pipeline() as look:
                    for name in ACCOUNTS:
                        look.get(name)
                    self._check(f"node {node}", look.execute())
            except RedisError as error:
                # Whether a transaction whose answer is lost took place is not known; that it did whole, is.
                if not isinstance(error, ClusterDownError):
                    self.unknown += 1
                time.sleep(0.02)

    def _move(self, node: int) -> None:
        source, target = random.sample(ACCOUNTS, 2)
        with self._nodes.client(node).pipeline() as work:
            watch(work, source, target)
            have = int(work.get(source) or 0)
            amount = random.randint(0, have)
            work.multi()
            work.set(source, have - amount)
            work.incrby(target, amount)
            work.incr("moves")
            try:
                work.execute()
            except WatchError:
                with self._lock:
                    self.conflicts += 1
            else:
                with self._lock:
                    self.moved += 1

    def _check(self, where: str, balances: list[Any]) -> None:
        found = [int(balance) for balance in balances]
        if sum(found) != TOTAL or min(found) < 0:
            self.wrong.append(f"{where}: {found}")

    def wait_moved(self, more: int) -> None:
        """Wait until so many more transactions have taken place."""
        goal = self.moved + more
        wait_for(f"{more} more transactions", lambda: self.moved >= goal)

    def close(self) -> None:
        """It is the end of the day."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for node in self._nodes.nodes:
            client = self._nodes.client(node)
            self._check(f"node {node} at last", client.mget(ACCOUNTS))
            assert self.moved <= int(client.get("moves") or 0) <= self.moved + self.unknown
        assert not self.wrong
        assert self.conflicts, "they never met"


def test_transactions_are_whole_on_every_node_and_over_a_leader_that_is_killed(tmp_path: Path) -> None:
    with group(tmp_path / "data", 3) as nodes:
        bank = Bank(nodes)
        # A transaction that began before, and what it watches changes on another node, or does not.
        leader = nodes.leader()
        first, second = sorted(nodes.others(leader))
        kept, lost = nodes.client(first).pipeline(), nodes.client(second).pipeline()
        for each, key in ((kept, "mine"), (lost, "contended")):
            watch(each, key)
            assert each.get(key) is None
            each.multi()
            each.set(key, "from before")
        bank.wait_moved(20)
        nodes.kill(leader)
        assert nodes.client(first).set("contended", "from elsewhere")
        assert kept.execute() == [True]
        with pytest.raises(WatchError):
            lost.execute()
        bank.wait_moved(20)
        nodes.start(leader)
        nodes.wait_up(leader)
        bank.wait_moved(20)
        bank.close()
        for node in nodes.nodes:
            found = nodes.client(node).mget(["mine", "contended"])
            assert found == [b"from before", b"from elsewhere"]


def test_keys_expire_on_all_nodes_alike_over_a_leader_that_is_killed_and_a_restart_of_all(
    tmp_path: Path,
) -> None:
    with group(tmp_path / "data", 3) as nodes:
        leader = nodes.leader()
        client = nodes.client(min(nodes.others(leader)))
        began = time.time()
        assert client.set("short", "1", px=1500)
        assert client.set("long", "1", ex=100)
        assert client.set("at", "1", exat=int(began) + 100)
        assert client.set("kept", "1", ex=100) and client.persist("kept")
        nodes.kill(leader)
        nodes.leader(among=nodes.others(leader))
        for node in nodes.others(leader):
            if nodes.client(node).exists("short"):
                assert time.time() < began + 2.5
            assert 90_000 < nodes.client(node).pttl("long") <= 100_000
        wait_for("it expires", lambda: not client.exists("short"))
        assert time.time() >= began + 1.4
        for node in nodes.others(leader):
            assert nodes.client(node).get("short") is None
        nodes.kill(*nodes.others(leader))
        nodes.start(*nodes.nodes)
        nodes.wait_up(*nodes.nodes)
        nodes.leader()
        for node in nodes.nodes:
            client = nodes.client(node)
            assert client.mget(["short", "long", "at", "kept"]) == [None, b"1", b"1", b"1"]
            passed = time.time() - began
            for key in ("long", "at"):
                assert abs(client.pttl(key) / 1000 - (100 - passed)) < 1.5
            assert client.ttl("kept") == -1
