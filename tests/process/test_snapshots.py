"""Snapshots between processes: a node that was away for long, and leaders that are killed while one is taken
or travels."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest
from tests.process.load import Load, check_poured, pour
from tests.process.nodes import Group, group, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(150)]

LARGE = 800_000
"""Bytes of a value. Seventy make more log than is kept behind a snapshot; eight are a snapshot that takes a
moment."""


def snapshot_all(nodes: Group, *among: int) -> None:
    """Have each take a snapshot, so that none has what comes before."""
    for node in among:
        assert nodes.ask(node, "/snapshot", {}, 30) is not None


def test_a_follower_that_was_away_for_100000_writes_comes_back_while_writes_go_on(tmp_path: Path) -> None:
    with group(tmp_path / "data", 3, snapshot_threshold=100) as nodes:
        leader = nodes.leader()
        away, stays = sorted(nodes.others(leader))
        pour(nodes.port(leader), 1000, keys=1000, size=500)
        nodes.wait_caught_up()
        last = nodes.state(away)["last_index"]
        nodes.kill(away)
        pour(nodes.port(stays), 100_000, keys=1000, size=500, batch=500)

        def compacted(node: int) -> bool:
            return bool(nodes.state(node)["snapshot_index"] > last)

        for node in (leader, stays):
            wait_for("the log is compacted", partial(compacted, node))

        def level() -> bool:
            return bool(nodes.state(away)["last_applied"] >= nodes.state(leader)["commit_index"] - 50)

        with Load(nodes, [leader, stays]) as load:
            load.wait_acknowledged(20)
            nodes.start(away)
            wait_for("it has restored a snapshot", lambda: "restored the snapshot" in nodes.log(away))
            wait_for("it is nearly level", level)
            load.begin(away)
            load.wait_acknowledged(100)
        nodes.wait_caught_up()
        load.check()
        assert nodes.state(leader)["role"] == "leader"
        # What it has is its own: the others are not needed to see that.
        check_poured(nodes.client(away), 100_000, keys=1000)


def test_a_leader_that_is_killed_while_it_takes_a_snapshot(tmp_path: Path) -> None:
    with group(tmp_path / "data", 3) as nodes, Load(nodes) as load:
        leader = nodes.leader()
        pour(nodes.port(leader), 30, keys=8, size=LARGE, batch=10)
        log = nodes.data(leader) / "log"
        threading.Thread(target=nodes.ask, args=(leader, "/snapshot", {}, 30), daemon=True).start()
        wait_for("it writes", lambda: list(log.glob("*.tmp")) or None, pause=0.0)
        nodes.kill(leader)
        assert list(log.glob("*.tmp")), "it was not in the middle"
        nodes.leader(among=nodes.others(leader))
        load.wait_acknowledged(20)
        nodes.start(leader)
        nodes.wait_up(leader)
        assert not list(log.glob("*.tmp"))
        assert nodes.state(leader)["snapshot_index"] == 0
        nodes.wait_caught_up()
        snapshot_all(nodes, leader)
        load.wait_acknowledged(20)
        load.stop()
        # And what it took is good for a start.
        nodes.kill(*nodes.nodes)
        nodes.start(*nodes.nodes)
        nodes.wait_up(*nodes.nodes)
        nodes.leader()
        check_poured(nodes.client(leader), 30, keys=8)
        load.check()


def test_leader_and_follower_are_killed_while_a_snapshot_travels(tmp_path: Path) -> None:
    with group(tmp_path / "data", 3, proxied=True) as nodes:
        leader = nodes.leader()
        away, stays = sorted(nodes.others(leader))
        nodes.kill(away)
        pour(nodes.port(leader), 70, keys=8, size=LARGE, batch=10)
        snapshot_all(nodes, leader, stays)
        assert nodes.proxies is not None
        nodes.proxies.delay = 0.03

        def arrives(node: int) -> bool:
            followers = nodes.state(node)["followers"]
            return any(each["id"] == away and each["snapshot_offset"] > 0 for each in followers)

        with Load(nodes, [leader, stays]) as load:
            load.wait_acknowledged(10)
            nodes.start(away)
            wait_for("a snapshot travels", lambda: arrives(leader), pause=0.0)
            nodes.kill(leader)
            # The one that is behind has a vote: without it there is nobody to lead.
            assert nodes.leader(among={stays, away}) == stays
            wait_for("a snapshot travels again", lambda: arrives(stays), pause=0.0)
            nodes.kill(away)
            nodes.start(leader, away)
            load.begin(away)
            load.wait_acknowledged(10)
            wait_for("it has restored a snapshot", lambda: "restored the snapshot" in nodes.log(away))
        nodes.wait_caught_up()
        load.check()
        check_poured(nodes.client(away), 70, keys=8)
