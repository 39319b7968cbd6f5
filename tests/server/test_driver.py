"""The driver under trouble: a whole cluster in virtual time, judged by what its callers are told."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from tests.server.callers import Callers, Mix
from tests.server.sim import Cluster, Trouble

from raft_io.server import requests, sessions


def play(seed: int, size: int, trouble: Trouble, mix: Mix, seconds: float = 10.0) -> Callers:
    """A schedule of trouble, then peace; everything is judged on the way and at the end."""
    cluster = Cluster(size, seed, trouble)
    callers = Callers(cluster, mix)
    cluster.run(seconds)
    callers.finish()
    return callers


def play_many(seeds: range, size: int, trouble: Trouble, mix: Mix) -> Mix:
    """Several schedules, judged one by one; the tally is of all of them."""
    for seed in seeds:
        play(seed, size, Trouble(**vars(trouble)), mix)
    return mix


CALM = Trouble(0, 0, 0, 0, 0, 0, 0, 0)
CALMED = ("crash", "kill", "partition", "reconnect", "pause", "disk_fault", "frame_loss", "slow_disk")


@pytest.mark.parametrize("seed", range(8))
def test_every_command_is_applied_once_whatever_happens(seed: int) -> None:
    tally = play(seed, 3 + 2 * (seed % 2), Trouble(), Mix()).mix.tally
    assert tally["acknowledged"] > 100


def test_without_trouble_everything_is_acknowledged() -> None:
    callers = play(1, 3, Trouble(**vars(CALM)), Mix(), 5.0)
    assert set(callers.mix.tally) <= {"acknowledged", "not applied"}, "before the first election only"
    assert callers.mix.tally["acknowledged"] > 500


def test_lost_frames_and_connections_cost_time_and_no_answer() -> None:
    trouble = Trouble(**vars(CALM) | {"reconnect": 0.2, "frame_loss": 0.02})
    mix = play_many(range(2), 3, trouble, Mix(timeout=(15.0, 19.0)))
    assert set(mix.tally) <= {"acknowledged", "not applied"}
    assert mix.tally["acknowledged"] > 500


def test_a_lone_node_serves_its_callers() -> None:
    trouble = Trouble(crash=0.005, kill=0.005, reconnect=0, partition=0)
    mix = play_many(range(4), 1, trouble, Mix())
    assert mix.tally["acknowledged"] > 100


def test_entries_that_are_sent_again_and_again_are_applied_once() -> None:
    # Connections break all the time, and what they still held is read long after it was sent anew.
    trouble = Trouble(crash=0, kill=0, slow_disk=0.1, reconnect=1.0, latency=0.03)
    mix = play_many(range(8), 3, trouble, Mix(callers=12, timeout=(1.0, 10.0)))
    assert mix.tally["acknowledged"] > 300


def test_an_overloaded_leader_refuses_and_what_is_refused_is_not_applied() -> None:
    trouble = Trouble(max_uncommitted=400, max_apply=200, slow_disk=0.3)
    mix = play_many(range(8), 3, trouble, Mix(callers=12))
    assert mix.tally["not applied"] > 200
    assert mix.tally["acknowledged"] > 200


def test_an_evicted_session_is_opened_anew_and_nothing_is_applied_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    mix = play_many(range(4), 3, Trouble(crash=0, kill=0), Mix(callers=12, keyed=0.5))
    assert mix.tally["acknowledged"] > 300


def test_a_key_whose_record_is_evicted_is_never_applied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_KEYS", 3)
    mix = Mix(callers=12, keyed=0.8, reads=0.1, timeout=(0.05, 0.5), keys_wander=False)
    play_many(range(8), 3, Trouble(slow_disk=0.2), mix)
    assert mix.tally["expired"] > 5
    assert mix.tally["acknowledged"] > 100


def test_many_small_entries_wait_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "GATHER_BYTES", 100)
    mix = play_many(range(1), 3, Trouble(max_apply=100), Mix(callers=30, think=0.01))
    assert mix.tally["acknowledged"] > 1000


SMALL: dict[str, int] = {"snapshot_threshold": 40, "snapshot_chunk": 700}
"""Snapshots all the time, in many pieces."""


def compacting(**more: Any) -> Trouble:
    """Trouble in which logs are short: who is away for a moment needs a snapshot."""
    return Trouble(**{"segment": 2048, "tail": 1024, "options": SMALL, "snapshot_fault": 0.1, **more})


def test_snapshots_come_and_go_and_nothing_is_lost_or_applied_twice() -> None:
    restored = 0
    for seed in range(6):
        callers = play(seed, 3 + 2 * (seed % 2), compacting(snapshot=0.01), Mix())
        assert callers.mix.tally["acknowledged"] > 100
        restored += callers.cluster.reported("restored the snapshot")
    assert restored > 12


def test_who_is_away_for_long_is_brought_back_by_a_snapshot_while_writes_go_on() -> None:
    cluster = Cluster(3, 5, compacting(**dict.fromkeys(CALMED, 0)))
    callers = Callers(cluster, Mix(timeout=(5.0, 9.0)))
    cluster.run(1.0)
    leader = cluster.leader
    assert leader is not None
    away = next(node for node in cluster.nodes.values() if node is not leader)
    away.stop(power=True)
    cluster.advance(5.0)
    cluster.restart(away)
    cluster.advance(3.0)
    assert "restored the snapshot" in "".join(away.reports)
    callers.finish()
    assert callers.mix.tally["acknowledged"] > 500


def test_a_session_that_was_evicted_behind_a_snapshot_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    trouble = compacting(crash=0, kill=0, partition=0.01, pause=0.01)
    mix = play_many(range(4), 3, trouble, Mix(callers=12, keyed=0.5, evictions=True))
    assert mix.tally["acknowledged"] > 300


def test_a_transfer_of_leadership_fails_no_request() -> None:
    trouble = Trouble(**vars(CALM) | {"transfer": 0.04})
    for seed in range(3):
        cluster = Cluster(3, seed, trouble)
        callers = Callers(cluster, Mix(timeout=(8.0, 9.0)))
        cluster.run(10.0)
        callers.finish()
        assert cluster.told["TransferLeadership"] > 20
        assert set(callers.mix.tally) == {"acknowledged"}
        assert callers.mix.tally["acknowledged"] > 500


def test_a_cluster_whose_members_come_and_go_serves_its_callers() -> None:
    trouble = compacting(change=0.02, transfer=0.003, spare=3)
    changes = 0
    for seed in range(6):
        callers = play(seed, 3, Trouble(**vars(trouble)), Mix(callers=12))
        changes += callers.cluster.told["ChangeMembership"]
        assert callers.mix.tally["acknowledged"] > 100
    assert changes > 15


def test_every_node_is_told_the_same_time_whatever_the_clocks_say() -> None:
    # That of any node may be far off: the time goes on with the fastest that ever led.
    trouble = Trouble(skew=5.0, wakes=200, transfer=0.01)
    for seed in range(3):
        callers = play(seed, 3, Trouble(**vars(trouble)), Mix(callers=1, think=2.0))
        leader = callers.cluster.leader
        assert leader is not None
        assert leader.machine.now >= leader.wall() - 1000, "it is told although nobody proposes anything"
        told = {node.machine.now for node in callers.cluster.nodes.values()}
        assert max(told) - min(told) <= 1000


def test_all_of_it_at_once() -> None:
    mix = Mix(callers=12)
    for seed in range(100, 106):
        trouble = compacting(
            change=0.005, transfer=0.005, snapshot=0.01, spare=2, skew=1.0, wakes=300, max_apply=300
        )
        play(seed, 3, trouble, mix)
    assert mix.tally["acknowledged"] > 600


def digest() -> str:
    """What a run of seed 42 leaves."""
    trouble = compacting(change=0.005, transfer=0.005, snapshot=0.01, spare=2, skew=1.0, wakes=300)
    return play(42, 5, trouble, Mix(), 4.0).cluster.digest


def test_the_same_seed_is_the_same_run_to_the_byte() -> None:
    code = "from tests.server.test_driver import digest; print(digest())"
    found = set()
    for hash_seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        found.add(ran.stdout)
    assert found == {digest() + "\n"}
    assert play(43, 5, Trouble(), Mix(), 4.0).cluster.digest + "\n" not in found
