"""Nodes that die, hang and fill their disk, under load: nothing is lost, nothing counted twice."""

from __future__ import annotations

import resource
import signal
import time
from pathlib import Path

import pytest
from redis.exceptions import ClusterDownError, ResponseError
from tests.process.harness import running
from tests.process.load import Load
from tests.process.nodes import is_running, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(150)]


def test_killing_the_leader_under_load_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        with Load(dev) as load:
            for _ in range(2):
                load.wait_acknowledged(50)
                victim = dev.leader()
                dev.kill(victim)
                dev.leader(among=dev.others(victim))
                load.wait_acknowledged(50)
                dev.start_by_hand(victim)
                dev.wait_up(victim)
        dev.wait_caught_up()
        load.check()


def test_a_get_is_answered_within_two_seconds_after_the_leader_was_killed(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        for node in dev.nodes:
            dev.client(node).set("a", "1")
        victim = dev.leader()
        dev.kill(victim)
        survivor = min(dev.others(victim))
        started = time.monotonic()
        assert dev.client(survivor).get("a") == b"1"
        assert time.monotonic() - started < 2.0
        assert dev.client(max(dev.others(victim))).get("a") == b"1"


def test_all_nodes_killed_at_once_and_started_again_ten_times(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        with Load(dev) as load:
            for _ in range(10):
                load.wait_acknowledged(20)
                dev.kill(*dev.nodes)
                dev.start_by_hand(*dev.nodes)
                dev.leader()
            load.wait_acknowledged(20)
        dev.wait_caught_up()
        load.check()


@pytest.mark.parametrize("whom", ["leader", "follower"])
def test_a_node_that_was_suspended_for_longer_than_an_election_joins_in_again(
    tmp_path: Path, whom: str
) -> None:
    with running(tmp_path / "data") as dev, Load(dev) as load:
        load.wait_acknowledged(20)
        leader = dev.leader()
        victim = leader if whom == "leader" else min(dev.others(leader))
        dev.signal(victim, signal.SIGSTOP)
        # The longest election timeout is half a second.
        time.sleep(1.5)
        dev.leader(among=dev.others(victim))
        load.wait_acknowledged(50)
        dev.signal(victim, signal.SIGCONT)
        wait_for("it follows again, or leads", lambda: (dev.status(victim) or {}).get("leader"))
        load.wait_acknowledged(50)
        load.stop()
        dev.wait_caught_up()
        load.check()


def test_a_leader_whose_disk_is_full_stops_and_nothing_is_lost(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        with Load(dev) as load:
            load.wait_acknowledged(50)
            victim = dev.leader()
            pid = dev.pid(victim)
            # No file of this process may grow, or be written, beyond so many bytes from here on.
            limit = 16 * 1024
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limit))
            wait_for("it stops", lambda: not is_running(pid))
            dev.leader(among=dev.others(victim))
            load.wait_acknowledged(50)
            wait_for("dev tells why", lambda: dev.said(f"node {victim}: exited with status 1"))
            dev.start_by_hand(victim)
            dev.wait_up(victim)
        dev.wait_caught_up()
        load.check()
        log = (dev.folder / f"node-{victim}" / "node.log").read_text()
        assert "Traceback" not in log
        assert "File too large" in dev.output.read_text()


def test_two_of_three_nodes_gone_is_an_error_in_time_and_no_loss(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        dev.client(1).set("a", "1")
        dev.kill(1, 2)
        client = dev.client(3, timeout=20)
        # Until the survivor misses the others, the outcome of a write is unknown; after that it is refused.
        with pytest.raises(ResponseError, match=r"^no leader|^TIMEOUT"):
            client.set("a", "2")
        with pytest.raises(ClusterDownError):
            client.get("a")
        dev.start_by_hand(1, 2)
        dev.wait_up(1)
        dev.leader()
        assert dev.client(1).get("a") in (b"1", b"2")
