"""Which voters a leader may take in: those that have caught up, and of whom it hears a majority."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from raft_io.core.config import RaftConfig
from raft_io.core.node import RaftNode
from raft_io.core.status import FollowerStatus
from raft_io.core.types import Index, Membership, NodeId

__all__ = ["CLOSE", "Hearing", "Promotion", "names"]

CLOSE: Final = 1000
"""Entries by which a learner may be behind when it becomes a voter."""

SHARE: Final = 0.8
"""The part of the time for a change in which learners may catch up; the rest is for the change itself."""


class Hearing(Protocol):
    """What this needs of the leader's side."""

    def left(self, deadline: float) -> float:
        """Seconds until the deadline."""

    async def pause(self, deadline: float) -> None:
        """Let others do something. Raises `NotLeaderError`, and `TimeoutError` at the deadline."""

    def follower(self, node: NodeId) -> FollowerStatus | None:
        """How the leader sees a member."""

    def hears(self, follower: FollowerStatus) -> bool:
        """Whether the follower was heard from within an election timeout."""


class Promotion:
    """For the leader: `node` is its own, `tick_interval` in seconds."""

    def __init__(
        self, leading: Hearing, config: RaftConfig, node: Callable[[], RaftNode], tick_interval: float
    ) -> None:
        self._leading = leading
        self._node = node
        self._quick = config.election_timeout[0] * tick_interval
        self._patience = config.election_timeout[1] * tick_interval

    async def lagging(self, learners: Iterable[NodeId], deadline: float) -> list[NodeId]:
        """Wait until these learners have caught up; returns those that have not in most of the time until
        the deadline, at once if one of them is no member any more.

        Rounds (thesis, section 4.2.1): in each a learner gets what was in the log when it began. It has
        caught up when it needed less than an election timeout for one, is close, and is heard from."""
        leading, loop = self._leading, asyncio.get_running_loop()
        end = loop.time() + leading.left(deadline) * SHARE
        rounds: dict[NodeId, tuple[Index, float]] = {
            node: (self._node().log.last_index(), loop.time()) for node in sorted(learners)
        }
        while True:
            for node, (goal, began) in list(rounds.items()):
                follower = leading.follower(node)
                if follower is None:
                    return list(rounds)
                if follower.match_index < goal or goal == 0:
                    continue
                last, now = self._node().log.last_index(), loop.time()
                close = last - follower.match_index <= CLOSE and leading.hears(follower)
                if close and now - began < self._quick:
                    del rounds[node]
                else:
                    rounds[node] = (last, now)
            if not rounds or loop.time() >= end:
                return list(rounds)
            await leading.pause(deadline)

    async def check_majority(
        self, target: Membership, deadline: float, coming: frozenset[NodeId] = frozenset()
    ) -> None:
        """Raise `ValueError` unless a majority of the voters of `target` is heard from, or is yet `coming`.
        Who was elected a moment ago gets an election timeout to hear from the others."""
        loop = asyncio.get_running_loop()
        end = min(deadline, loop.time() + self._patience)
        while True:
            silent = [node for node in sorted(target.voters - coming) if not self._is_heard(node)]
            if 2 * len(silent) < len(target.voters):
                return
            if loop.time() >= end:
                raise ValueError(
                    f"the voters would be {names(target.voters)}, without a majority that is heard from: "
                    f"nothing comes from {names(silent)}"
                )
            await self._leading.pause(deadline)

    def _is_heard(self, node: NodeId) -> bool:
        if node == self._node().id:
            return True
        follower = self._leading.follower(node)
        return follower is not None and self._leading.hears(follower)


def names(nodes: Iterable[NodeId]) -> str:
    """Nodes, as a line names them."""
    found = sorted(nodes)
    return f"node {found[0]}" if len(found) == 1 else "nodes " + ", ".join(map(str, found))
