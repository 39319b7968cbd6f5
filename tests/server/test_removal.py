"""When a server believes that it was removed."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.server.hosts import run
from tests.server.test_membership import CONFIGURED, disk, entry, log_of, node

from raft_io import LogEntry, Membership, MembershipCommitted, MemoryLog, RaftConfig, Receive, Tick
from raft_io.core.messages import AppendEntries
from raft_io.server import frames
from raft_io.server.cluster import Callbacks, Cluster
from raft_io.server.driver import Output
from raft_io.server.frames import Greeting
from raft_io.server.membership import Members
from raft_io.storage import PeerFile

TICK = 0.01
LONGEST = 0.2
"""Seconds: the longest election timeout."""


class Host:
    """The server around a `Cluster`, and what drives its node."""

    def __init__(self, log: MemoryLog) -> None:
        self.config = RaftConfig(1, [2, 3], election_timeout=(10, 20))
        self.cluster_id = "c"
        self.node = node(log)
        self.is_running = True
        self.tick_interval = TICK
        self.ended: list[str] = []
        self.removals = 0
        members = Members(self.node, ("own:1", 11), CONFIGURED, PeerFile(disk(), "/d"), True)
        own = Greeting("c", 1, 11, "own:1")
        owner: Any = self
        links: Any = self
        self.cluster = Cluster(owner, own, members, links, Callbacks(None, None, self._removed))

    @property
    def driver(self) -> Host:
        return self

    def _removed(self) -> None:
        self.removals += 1

    def end(self, error: Exception) -> None:
        self.ended.append(f"{type(error).__name__}: {error}")

    def receive(self, peer: int, kind: int, body: bytes) -> None:
        """A message for the node."""

    def schedule(self) -> None:
        """A turn is due."""

    peers: tuple[int, ...] = ()

    def update(self, links: object) -> None:
        """Connect to these."""

    def told(self, index: int, by: int = 2) -> None:
        """Another server says that this node was removed."""
        [(kind, body)] = frames.Frames().feed(frames.encode_removed(index))
        self.cluster.frame(by, kind, body)

    def hear(self, leader: int, commit: int) -> None:
        """What a leader sends when there is nothing new."""
        log = self.node.log
        last = log.last_index()
        self.node.step(Receive(AppendEntries(2, leader, last, log.term_at(last) or 0, (), commit)))


def committed(index: int, membership: Membership) -> Output:
    output = Output()
    output.changes.append(MembershipCommitted(membership, index))
    return output


def test_a_node_that_was_removed_stops_after_the_longest_election_timeout() -> None:
    host = Host(log_of((6, Membership([2, 3])), last=6))

    async def test() -> None:
        host.told(6)
        await asyncio.sleep(LONGEST * 0.6)
        host.told(6)
        assert host.ended == []
        await asyncio.sleep(LONGEST * 0.7)

    run(test)
    assert host.ended == ["RemovedError: node 1 was removed from the cluster by the entry at 6"]
    assert host.removals == 1


def test_a_node_that_was_added_again_waits_for_the_entry_that_says_so() -> None:
    host = Host(log_of((6, Membership([2, 3])), last=6))

    async def test() -> None:
        host.told(6)
        for index in range(7, 13):
            await asyncio.sleep(LONGEST / 2)
            host.node.log.append([LogEntry(1, index, b"x")])
        host.node.log.append([entry(13, Membership([1, 2, 3]))])
        await asyncio.sleep(LONGEST * 2.5)

    run(test)
    assert host.ended == []


def test_the_pieces_of_a_snapshot_are_waited_for_as_well() -> None:
    host = Host(log_of((6, Membership([2, 3])), last=6))

    async def test() -> None:
        host.told(6)
        for _ in range(6):
            await asyncio.sleep(LONGEST / 2)
            host.cluster.frame(2, frames.MESSAGE, bytes((1, frames.INSTALL_SNAPSHOT)))
        assert host.ended == []
        await asyncio.sleep(LONGEST * 2.5)

    run(test)
    assert len(host.ended) == 1, "nothing came any more"


def test_a_second_removal_in_what_arrives_counts() -> None:
    host = Host(log_of((6, Membership([2, 3])), last=6))

    async def test() -> None:
        host.told(6)
        host.node.log.append([entry(7, Membership([1, 2, 3])), entry(8, Membership([2, 3]))])
        host.told(8)
        await asyncio.sleep(LONGEST * 2.5)

    run(test)
    assert host.ended == ["RemovedError: node 1 was removed from the cluster by the entry at 8"]


# Who is believed.


def test_what_is_committed_here_is_known_better_than_who_says_otherwise() -> None:
    host = Host(log_of(last=6))

    async def test() -> None:
        host.hear(2, 5)
        for _ in range(100):
            host.node.step(Tick())
        assert host.node.leader is None
        for index in (3, 5):
            host.told(index, by=3)
        await asyncio.sleep(LONGEST * 1.5)
        assert host.ended == []
        host.told(6, by=3)
        await asyncio.sleep(LONGEST * 1.5)

    run(test)
    assert host.ended == ["RemovedError: node 1 was removed from the cluster by the entry at 6"]


def test_a_node_that_is_led_believes_its_leader_alone() -> None:
    host = Host(log_of(last=6))

    async def test() -> None:
        host.hear(2, 6)
        host.told(9, by=3)
        await asyncio.sleep(LONGEST * 1.5)
        assert host.ended == []
        host.told(7, by=2)
        await asyncio.sleep(LONGEST * 1.5)

    run(test)
    assert host.ended == ["RemovedError: node 1 was removed from the cluster by the entry at 7"]


def test_a_node_that_is_led_past_an_old_removal_of_its_own_stays() -> None:
    # It was taken back by an entry that has yet to come, and meanwhile there are heartbeats only.
    host = Host(log_of((6, Membership([2, 3])), last=9))

    async def test() -> None:
        host.cluster.after_turn(committed(6, Membership([2, 3])))
        for _ in range(24):
            host.hear(2, 9)
            await asyncio.sleep(LONGEST / 4)
        assert host.ended == []
        for _ in range(100):
            host.node.step(Tick())
        assert host.node.leader is None
        await asyncio.sleep(LONGEST * 2)
        assert host.ended == [], "leaders change"
        await asyncio.sleep(LONGEST * 4)

    run(test)
    assert host.ended == ["RemovedError: node 1 was removed from the cluster by the entry at 6"]


def test_who_finds_a_leader_in_time_was_not_removed() -> None:
    host = Host(log_of(last=6))

    async def test() -> None:
        host.told(9, by=3)
        await asyncio.sleep(LONGEST / 2)
        host.hear(2, 6)
        await asyncio.sleep(LONGEST * 1.5)
        assert host.ended == []

    run(test)
