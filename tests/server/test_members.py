"""Clusters that change their members, over real sockets and real disks."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.hosts import TICK, Trio, eventually, free_ports, node_id, run, trio
from tests.server.support import Recorder

from raft_io import Membership, NotLeaderError, RaftError, RemovedError
from raft_io.server import RaftServer


class Growing(Trio):
    """Servers that come and go; node 1 begins."""

    def __init__(self, path: Path, size: int = 1, **options: Any) -> None:
        super().__init__(path, size, **options)

    async def join(self, node: int, via: int | None = None, **options: Any) -> RaftServer:
        """Start a node that joins through another."""
        contact = self.servers[via if via is not None else next(iter(self.servers))]
        self.machines[node] = Recorder()
        settings: dict[str, Any] = {"tick_interval": TICK, "listen": 0, **self.options, **options}
        server = RaftServer(
            node,
            self.machines[node],
            peers={},
            join=str(contact.address),
            data_dir=self.path / f"node-{node}",
            **settings,
        )
        await server.start()
        self.servers[node] = server
        return server

    async def again(self, node: int, **options: Any) -> RaftServer:
        """Start a node that was stopped, from what it has on disk."""
        self.machines[node] = Recorder()
        settings: dict[str, Any] = {"tick_interval": TICK, "listen": 0, **self.options, **options}
        server = RaftServer(
            node, self.machines[node], peers={}, data_dir=self.path / f"node-{node}", **settings
        )
        await server.start()
        self.servers[node] = server
        return server

    async def voters(self, *nodes: int, learners: tuple[int, ...] = ()) -> None:
        """Return when every server knows exactly these members."""
        wanted = Membership(nodes, learners)
        await eventually(
            lambda: all(server.status.membership == wanted for server in self.servers.values()), 20
        )


@contextlib.asynccontextmanager
async def growing(path: Path, size: int = 1, **options: Any) -> AsyncIterator[Growing]:
    cluster = Growing(path, size, **options)
    try:
        for node in cluster.peers:
            await cluster.start(node)
        await cluster.leader()
        yield cluster
    finally:
        for node in list(cluster.servers):
            await cluster.stop(node)


# Joining.


def test_a_cluster_of_one_grows_to_three_and_survives_the_first(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path) as cluster:
            await cluster.servers[1].propose(b"a")
            await cluster.join(2)
            await cluster.voters(1, 2)
            await cluster.join(3, via=2)
            await cluster.voters(1, 2, 3)
            assert await cluster.servers[3].propose(b"b") == b"2"
            assert await cluster.servers[2].read(lambda machine: list(machine.history)) == [b"a", b"b"]
            await cluster.stop(1)
            assert await cluster.servers[2].propose(b"c", timeout=20) == b"3"
            assert await cluster.servers[3].read(lambda machine: len(machine.history)) == 3

    run(test)


def test_a_learner_stays_one_when_it_is_told_to(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path) as cluster:
            learner = await cluster.join(2, learner=True)
            await cluster.voters(1, learners=(2,))
            assert await learner.propose(b"a") == b"1"
            assert await learner.read(lambda machine: machine.history) == [b"a"]
            await asyncio.sleep(0.5)
            assert learner.status.membership == Membership([1], [2])
            assert learner.members[2].role == "learner"
            await cluster.servers[1].change_membership(voters=[1, 2])
            await cluster.voters(1, 2)

    run(test)


def test_a_node_that_has_joined_starts_again_without_being_told_of_anybody(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path) as cluster:
            await cluster.join(2)
            await cluster.join(3)
            await cluster.voters(1, 2, 3)
            await cluster.servers[1].propose(b"a")
            ports = {node: cluster.servers[node].address.port for node in (2, 3)}
            for node in (2, 3):
                await cluster.stop(node)
            for node in (2, 3):
                await cluster.again(node, listen=ports[node])
            assert await cluster.servers[3].propose(b"b", timeout=20) == b"2"
            await cluster.voters(1, 2, 3)

    run(test)
