"""Reads while leaders are cut off, suspended, killed and replaced: never older than what was known before."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import RedisError
from tests.process.load import Load
from tests.process.nodes import Group, group, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

WITH_AND_WITHOUT_LEASES = pytest.mark.parametrize("lease", [False, True], ids=["rounds", "leases"])


class Register:
    """A key that goes up by one with every write, by one writer, and clients that stay with one node and read
    it. What was acknowledged, or was answered, must not be followed by an older value."""

    KEY = "register"

    def __init__(self, nodes: Group) -> None:
        self._nodes = nodes
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._tried = 0
        self.known = 0
        self.answers = 0
        self.stale: list[str] = []

    def write(self, node: int) -> None:
        """One write that is acknowledged, through the node."""
        self._tried += 1
        assert self._nodes.client(node, 30).set(self.KEY, self._tried)
        self._note(self._tried)

    def read(self, node: int, timeout: float) -> None:
        """One read; that there is no answer is one as well."""
        client = self._nodes.client(node, timeout)
        before = self.known
        began = time.monotonic()
        with suppress(RedisError):
            value = int(client.get(self.KEY) or 0)
            if value < before:
                self.stale.append(f"{value} after {before}, {time.monotonic() - began:.3f} s")
            self._note(value)
            self.answers += 1
        client.close()

    def _note(self, value: int) -> None:
        with self._lock:
            self.known = max(self.known, value)

    def _keep_reading(self, node: int) -> None:
        while not self._stopped.is_set():
            self.read(node, 0.3)

    def attach(self, node: int) -> None:
        """Two clients that read without pause."""
        for _ in range(2):
            thread = threading.Thread(target=self._keep_reading, args=(node,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait_answers(self, more: int) -> None:
        """Wait until so many more reads were answered."""
        goal = self.answers + more
        wait_for("it is read", lambda: self.answers >= goal)

    def detach(self) -> None:
        """They are done."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._stopped.clear()
        self._threads.clear()


@WITH_AND_WITHOUT_LEASES
def test_a_leader_that_is_cut_off_with_its_clients_serves_no_stale_read(tmp_path: Path, lease: bool) -> None:
    with group(tmp_path / "data", 3, proxied=True, lease_reads=lease) as nodes:
        assert nodes.proxies is not None
        register = Register(nodes)
        for _ in range(3):
            old = nodes.leader()
            rest = nodes.others(old)
            register.write(old)
            register.attach(old)
            register.wait_answers(10)
            nodes.proxies.part({old}, rest)
            # Its clients reach it all the time. It believes to lead for a while; so does another soon.
            register.write(min(rest))
            for _ in range(20):
                register.write(max(rest))
            nodes.proxies.part()
            assert nodes.wait_follower(old) in rest
            register.detach()
            answers = register.answers
            register.read(old, 30)
            assert register.answers > answers
        assert not register.stale


@WITH_AND_WITHOUT_LEASES
def test_a_leader_that_was_suspended_answers_no_stale_read_as_it_wakes(tmp_path: Path, lease: bool) -> None:
    # Another is elected long before this one would notice that it hears from nobody.
    with group(tmp_path / "data", 3, proxied=True, lease_reads=lease, election_timeout="10,80") as nodes:
        assert nodes.proxies is not None
        register = Register(nodes)
        for _ in range(3):
            old = nodes.leader()
            register.write(old)
            register.read(old, 30)
            nodes.signal(signal.SIGSTOP, old)
            # Nor is there a word of the others that tells it as it wakes.
            nodes.proxies.part({old}, nodes.others(old))
            nodes.leader(among=nodes.others(old))
            register.write(min(nodes.others(old)))
            # These wait at its door, before it knows how late it is.
            waiting = [threading.Thread(target=register.read, args=(old, 30)) for _ in range(4)]
            for thread in waiting:
                thread.start()
            time.sleep(0.05)
            answers = register.answers
            nodes.signal(signal.SIGCONT, old)
            time.sleep(0.1)
            nodes.proxies.part()
            for thread in waiting:
                thread.join()
            assert register.answers == answers + 4
        assert not register.stale


@WITH_AND_WITHOUT_LEASES
def test_what_clients_see_is_linearizable_while_leaders_are_killed_and_replaced(
    tmp_path: Path, lease: bool
) -> None:
    with group(tmp_path / "data", 3, lease_reads=lease) as nodes:
        with Load(nodes, pause=0.0) as load:
            for _ in range(2):
                for _ in range(3):
                    leader = nodes.leader()
                    nodes.ask(leader, "/transfer", {}, 10)
                    load.wait_acknowledged(50)
                leader = nodes.leader()
                nodes.kill(leader)
                nodes.leader(among=nodes.others(leader))
                load.wait_acknowledged(50)
                nodes.start(leader)
                nodes.wait_up(leader)
        nodes.wait_caught_up()
        load.check()


def test_a_transfer_whose_target_is_killed_and_one_whose_leader_is(tmp_path: Path) -> None:
    with group(tmp_path / "data", 3, proxied=True) as nodes, Load(nodes) as load:
        assert nodes.proxies is not None
        load.wait_acknowledged(20)
        nodes.proxies.delay = 0.04
        # Without a target, through one that sees the outcome before the answer: once is enough.
        leader = nodes.leader()
        term = nodes.state(leader)["term"]
        asked = min(nodes.others(leader))
        heir = nodes.ask(asked, "/transfer", {}, 20)["leader"]
        assert heir == nodes.leader() != leader
        assert nodes.state(heir)["term"] == term + 1
        for victim in ("target", "leader"):
            leader = nodes.leader()
            target, asked = sorted(nodes.others(leader))
            asking = threading.Thread(target=nodes.ask, args=(asked, "/transfer", {"target": target}, 20))
            asking.start()

            def hands_over(leader: int = leader) -> bool:
                return (nodes.status(leader) or {}).get("transfer_target") is not None

            wait_for("it hands over", hands_over, pause=0.0)
            gone = target if victim == "target" else leader
            nodes.kill(gone)
            asking.join()
            nodes.leader(among=nodes.others(gone))
            load.wait_acknowledged(20)
            nodes.start(gone)
            nodes.wait_up(gone)
        load.stop()
        nodes.wait_caught_up()
        load.check()


def test_a_leader_that_is_told_to_stop_hands_over_before(tmp_path: Path) -> None:
    # Timeouts that are long enough to tell a transfer from an election, on a slow machine as well.
    with group(tmp_path / "data", 3, election_timeout="80,120") as nodes:
        leader = nodes.leader()
        with Load(nodes, sorted(nodes.others(leader))) as load:
            load.wait_acknowledged(50)
            nodes.stop(leader)
            nodes.leader(among=nodes.others(leader))
            load.wait_acknowledged(50)
        assert not load.errors
        assert load.gap < 1.0, "the shortest timeout is two seconds"
        nodes.start(leader)
        nodes.wait_up(leader)
        nodes.wait_caught_up()
        load.check()
