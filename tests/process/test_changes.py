"""The leader is killed in the middle of every kind of change: the cluster goes on, the change happens all the
same or is simply made again, and nothing is lost.

What passes between the nodes takes so long here that the middle can be hit: a change has begun when the
leader has it in its log, and is spread when a follower has it and the leader cannot know that yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.process.load import Load
from tests.process.nodes import Group, group, raft_io

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

DELAY = 0.04
"""Seconds from a node to another."""


@contextmanager
def slow(tmp_path: Path, learners: int = 0, **settings: object) -> Iterator[Group]:
    """Three voters, and learners."""
    with group(tmp_path / "data", 3, proxied=True, **settings) as nodes:
        for node in range(4, 4 + learners):
            nodes.join(node, 1, "--learner")
        nodes.wait_members({1, 2, 3}, range(4, 4 + learners))
        assert nodes.proxies is not None
        nodes.proxies.delay = DELAY
        yield nodes


class Command:
    """A command that runs while a leader dies."""

    def __init__(self, *arguments: object) -> None:
        self._ended: list[tuple[int, str]] = []
        self._thread = threading.Thread(target=lambda: self._ended.append(raft_io(*arguments)), daemon=True)
        self._thread.start()

    def result(self) -> tuple[int, str]:
        """Its exit status, and what it said."""
        self._thread.join(60)
        return self._ended[0]


def kill_leader_when(
    nodes: Group, leader: int, watched: int, middle: Callable[[dict[str, Any]], bool]
) -> None:
    """Kill the leader as soon as the status of a node says so."""
    deadline = time.monotonic() + 20
    while not middle(nodes.state(watched)):
        assert time.monotonic() < deadline, "it never was in the middle"
    nodes.kill(leader)


@pytest.mark.parametrize("when", ["begun", "spread"])
@pytest.mark.parametrize("change", ["add", "promote", "remove", "replace"])
def test_a_change_of_the_members(tmp_path: Path, change: str, when: str) -> None:
    with slow(tmp_path, {"promote": 1, "replace": 2}.get(change, 0)) as nodes, Load(nodes) as load:
        load.wait_acknowledged(10)
        leader = nodes.leader()
        asked, other = sorted({1, 2, 3} - {leader})
        through = f"--node={nodes.http(asked)}"
        voters = {1, 2, 3}
        learners: set[int] = set()
        if change == "add":
            learners = {4}
            nodes.join(4, asked, "--learner")
        elif change == "promote":
            voters = {1, 2, 3, 4}
            command = Command("members", "promote", 4, through)
        elif change == "remove":
            voters = {leader, asked}
            load.end(other)
            command = Command("members", "remove", other, through)
        else:
            voters = {leader, 4, 5}
            load.end(asked, other)
            threading.Thread(
                target=nodes.ask,
                args=(4, "/members", {"voters": sorted(voters), "learners": []}, 60),
                daemon=True,
            ).start()

        def changes(state: dict[str, Any]) -> bool:
            found = state["membership"]
            return bool(found["outgoing"]) or (set(found["voters"]), set(found["learners"])) == (
                voters,
                learners,
            )

        watched = leader if when == "begun" else 4 if change == "replace" else asked
        kill_leader_when(nodes, leader, watched, changes)
        if change != "remove":
            nodes.leader(among=nodes.others(leader))
        # Of the two that are left only one may know yet that they are: those two have to agree.
        nodes.start(leader)
        if change in ("promote", "remove"):
            status, said = command.result()
            assert status == 0, said
        for gone in {1, 2, 3} - voters:
            assert nodes.ended(gone) == 1
            nodes.forget(gone)
        nodes.wait_members(voters, learners)
        load.wait_acknowledged(10)
        load.stop()
        nodes.wait_caught_up()
        load.check()
