"""Memory: nothing grows without end."""

from __future__ import annotations

from typing import ClassVar

from raft_io.testing.checks.base import Check
from raft_io.testing.process import Process
from raft_io.testing.world import World

__all__ = ["Bounds"]

FRAMES = 20_000
"""Frames under way between all nodes, at most."""


class Bounds(Check):
    """What is on its way between the nodes, and what a follower is sent before it answers."""

    name = "bounds"
    rules: ClassVar = {
        23: "Messages under way, and to a follower that has not answered, stay within the limits.",
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.turns = 0
        self.most = 0

    def turned(self, process: Process) -> None:
        under_way = self.world.network.under_way
        if under_way > self.most:
            self.most = under_way
            if under_way > FRAMES:
                self.fail(23, f"{under_way} frames are under way")
        self.turns += 1
        if self.turns % 64 == 0 and process.driver.node.is_leader:
            limit = process.config.max_inflight
            for follower in process.driver.node.status.followers:
                if follower.inflight > limit:
                    self.fail(
                        23,
                        f"{follower.inflight} messages to {follower.id} are unanswered; the limit is {limit}",
                    )
