"""The store on three nodes: keys that expire by the leader's clock, on all nodes and without any write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.kv.clients import Client, run, served
from tests.server.hosts import TICK, eventually, free_ports

from raft_io.kv.store import KeyValueStore
from raft_io.server import RaftServer

OK = b"+OK\r\n"
NIL = b"$-1\r\n"


class Cluster:
    """Three nodes, each with a `RespServer` before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.peers = {node: f"127.0.0.1:{port}" for node, port in enumerate(free_ports(3), 1)}
        self.servers: dict[int, RaftServer] = {}
        self.clients: dict[int, Client] = {}
        self._tasks: dict[int, tuple[asyncio.Task[None], asyncio.Event]] = {}

    async def start(self, node: int) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        end = asyncio.Event()
        self._tasks[node] = (asyncio.create_task(self._serve(node, ready, end)), end)
        await ready

    async def _serve(self, node: int, ready: asyncio.Future[None], end: asyncio.Event) -> None:
        options: dict[str, Any] = {
            "listen": self.peers[node],
            "peers": self.peers,
            "data_dir": self.path / str(node),
        }
        server = RaftServer(node, KeyValueStore(), tick_interval=TICK, **options)
        async with server, served(server) as door:
            self.servers[node] = server
            self.clients[node] = await door.connect()
            ready.set_result(None)
            await end.wait()

    async def stop(self, node: int) -> None:
        task, end = self._tasks.pop(node)
        del self.servers[node]
        end.set()
        await task

    async def leader(self) -> int:
        """The leader, once all that run agree on one."""

        def agreed() -> int | None:
            known = {server.leader for server in self.servers.values()}
            return known.pop() if len(known) == 1 else None

        return await eventually(agreed)

    async def ask(self, node: int, line: str) -> bytes:
        """The reply, of one line or a bulk string."""
        client = self.clients[node]
        client.send(line)
        reply = await client.reader.readline()
        if reply.startswith(b"$") and reply != NIL:
            reply += await client.reader.readline()
        return reply

    async def becomes(self, node: int, line: str, reply: bytes) -> None:
        """Ask until this is the reply."""
        deadline = time.monotonic() + 10
        while await self.ask(node, line) != reply:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@asynccontextmanager
async def cluster(path: Path) -> AsyncIterator[Cluster]:
    nodes = Cluster(path)
    try:
        for node in nodes.peers:
            await nodes.start(node)
        await nodes.leader()
        yield nodes
    finally:
        for node in list(nodes.servers):
            await nodes.stop(node)


def test_a_key_expires_on_every_node_without_any_write(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            begun = time.monotonic()
            assert await nodes.ask(1, "SET a 1 PX 700") == OK
            left = [int((await nodes.ask(node, "PTTL a"))[1:]) for node in nodes.peers]
            assert all(0 < each <= 700 for each in left)
            for node in nodes.peers:
                await nodes.becomes(node, "GET a", NIL)
                assert 0.6 < time.monotonic() - begun < 3
                assert await nodes.ask(node, "DBSIZE") == b":0\r\n"

    run(test)


def test_what_is_left_is_told_anew_without_any_write(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            assert await nodes.ask(2, "SET a 1 EX 1000") == OK
            begin = time.monotonic()
            while time.monotonic() < begin + 2.2:
                passed = 1000 * (time.monotonic() - begin)
                left = int((await nodes.ask(3, "PTTL a"))[1:])
                assert -200 < left - (1_000_000 - passed) < 1800
                await asyncio.sleep(0.1)
            assert left < 999_000

    run(test)


def test_a_cluster_without_keys_that_expire_writes_nothing_by_itself(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            assert await nodes.ask(1, "SET a 1") == OK
            assert await nodes.ask(1, "SET b 1 EX 1000") == OK
            assert await nodes.ask(1, "DEL b") == b":1\r\n"
            before = nodes.servers[await nodes.leader()].status.commit_index
            await asyncio.sleep(1.5)
            assert nodes.servers[await nodes.leader()].status.commit_index == before

    run(test)


def test_a_new_leader_goes_on_with_the_time(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            leader = await nodes.leader()
            others = [node for node in nodes.peers if node != leader]
            assert await nodes.ask(others[0], "SET a 1 PX 900") == OK
            assert await nodes.ask(others[0], "SET b 1 EX 1000") == OK
            await nodes.stop(leader)
            await nodes.becomes(others[1], "GET a", NIL)
            assert await nodes.ask(others[1], "GET b") == b"$1\r\n1\r\n"
            await nodes.start(leader)
            await nodes.becomes(leader, "GET a", NIL)
            assert 990_000 < int((await nodes.ask(leader, "PTTL b"))[1:]) < 1_000_000

    run(test)


def test_what_expired_while_all_were_down_is_gone_when_they_are_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            assert await nodes.ask(1, "SET a 1 PX 300") == OK
            assert await nodes.ask(1, "SET b 1 EX 1000") == OK
            for node in nodes.peers:
                await nodes.stop(node)
            await asyncio.sleep(0.3)
            for node in nodes.peers:
                await nodes.start(node)
            await nodes.leader()
            for node in nodes.peers:
                await nodes.becomes(node, "EXISTS a", b":0\r\n")
                assert await nodes.ask(node, "EXISTS b") == b":1\r\n"

    run(test)


def test_a_watched_key_that_expires_aborts_the_transaction(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            for node in nodes.peers:
                assert await nodes.ask(node, "SET a 1 PX 200") == OK
                assert await nodes.ask(node, "WATCH a") == OK
                await asyncio.sleep(0.3)
                assert await nodes.ask(node, "MULTI") == OK
                assert await nodes.ask(node, "SET a 2") == b"+QUEUED\r\n"
                assert await nodes.ask(node, "EXEC") == b"*-1\r\n"
                assert await nodes.ask(node, "EXISTS a") == b":0\r\n"

    run(test)
