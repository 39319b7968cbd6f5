"""Real servers on loopback that come and go."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.server.hosts import TICK, Trio, eventually
from tests.server.support import Recorder

from raft_io import Membership
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
