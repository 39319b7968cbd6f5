"""Starting, stopping and dying: everything is released, whoever waits is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.server.hosts import TICK, Trio, free_ports, lone, run, trio, warnings
from tests.server.support import Recorder

from raft_io import (
    IdentityError,
    RaftError,
    Role,
    StorageError,
)
from raft_io.server import RaftServer, frames, server
from raft_io.storage.memfs import MemoryFileSystem


def test_stop_answers_whoever_waits(tmp_path: Path) -> None:
    async def test() -> None:
        cluster = Trio(tmp_path)
        alone = await cluster.start(1)
        calls = [
            asyncio.ensure_future(call)
            for call in (alone.propose(b"x"), alone.read(len), alone.wait_for_leader(), alone.wait_stopped())
        ]
        await asyncio.sleep(0.05)
        await cluster.stop(1)
        outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 1)
        assert [type(outcome) for outcome in outcomes] == [RaftError, RaftError, RaftError, type(None)]
        assert all("stop" in str(outcome) for outcome in outcomes[:3])

    run(test)


def test_nothing_is_begun_for_a_peer_that_asks_while_the_server_stops(tmp_path: Path) -> None:
    async def test() -> None:
        node = lone(tmp_path)
        await node.start()
        cluster = node._cluster
        # A change that would wait for its new voter.
        fields = {"voters": [1, 2], "learners": [], "addresses": {"2": "127.0.0.1:1"}, "timeout": 5.0}
        [(kind, body)] = frames.Frames(1 << 20).feed(frames.encode_call(1, frames.CHANGE, fields))
        await node.propose(b"a")
        await cluster.close()
        cluster.frame(2, kind, body)
        await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() if "_answer" in repr(task)] == []
        await node.stop()

    run(test)


def test_stop_waits_for_a_stop_that_is_under_way(tmp_path: Path) -> None:
    async def test() -> None:
        node = lone(tmp_path)
        await node.start()
        await node.propose(b"a")
        await asyncio.gather(node.stop(), node.stop(), node.stop())
        async with lone(tmp_path) as again:
            assert await again.propose(b"b") == b"2"
            with pytest.raises(TimeoutError):
                await again.propose(b"die")
        # The directory is free: the server that died has really stopped.
        with pytest.raises(ZeroDivisionError):
            async with lone(tmp_path) as other:
                await other.wait_stopped()

    run(test)


def test_a_cancelled_stop_stops_nevertheless(tmp_path: Path) -> None:
    async def test() -> None:
        node = lone(tmp_path)
        await node.start()
        stopping = asyncio.ensure_future(node.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await node.wait_stopped()
        async with lone(tmp_path):
            pass

    run(test)


def test_a_server_starts_once_for_its_machine_has_moved_on(tmp_path: Path) -> None:
    async def test() -> None:
        node = lone(tmp_path)
        async with node:
            await node.propose(b"a")
            with pytest.raises(RuntimeError, match="once"):
                await node.start()
        with pytest.raises(RuntimeError, match="once"):
            await node.start()

    run(test)


def test_a_start_that_is_cancelled_leaves_the_directory_free(tmp_path: Path) -> None:
    async def test() -> None:
        disk = MemoryFileSystem()
        disk.mkdir("/d")
        slow = threading.Event()

        def fault(operation: str, path: str) -> None:
            if operation == "lock":
                slow.wait(2)

        disk.fault = fault
        for times in (1, 3):
            slow.clear()
            node = RaftServer(1, Recorder(), listen="127.0.0.1:0", peers={}, data_dir="/d/n", fs=disk)
            starting = asyncio.ensure_future(node.start())
            for _ in range(times):
                await asyncio.sleep(0.02)
                starting.cancel()
            slow.set()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert disk.locks == set()
        async with RaftServer(1, Recorder(), listen="127.0.0.1:0", peers={}, data_dir="/d/n", fs=disk):
            pass

    run(test)


def test_a_port_in_use_is_an_error_and_the_same_server_starts_later(tmp_path: Path) -> None:
    async def test() -> None:
        cluster = Trio(tmp_path)
        taken = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", cluster.ports[0])
        node = cluster.make(1)
        for _ in range(2):
            with pytest.raises(OSError, match="in use"):
                await node.start()
        taken.close()
        await taken.wait_closed()
        await node.start()
        await node.stop()

    run(test)


@pytest.mark.parametrize("wrong", ["node", "cluster", "voters"])
def test_the_directory_of_somebody_else_is_refused_and_left_alone(tmp_path: Path, wrong: str) -> None:
    async def test() -> None:
        async with lone(tmp_path) as node:
            await node.propose(b"a")
        before = {path: path.read_bytes() for path in (tmp_path / "lone").rglob("*") if path.is_file()}
        options: dict[str, Any] = {"cluster_id": "other"} if wrong == "cluster" else {}
        peers = {2: f"127.0.0.1:{free_ports(1)[0]}"} if wrong == "voters" else {}
        other = RaftServer(
            2 if wrong == "node" else 1,
            Recorder(),
            listen="127.0.0.1:0",
            peers=peers,
            data_dir=tmp_path / "lone",
            **options,
        )
        with pytest.raises(IdentityError, match="lone is the data directory of node 1"):
            await other.start()
        with pytest.raises(RaftError, match="not running"):
            await other.propose(b"x")
        assert before == {
            path: path.read_bytes() for path in (tmp_path / "lone").rglob("*") if path.is_file()
        }

    run(test)


def test_a_second_server_on_one_directory_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with lone(tmp_path) as node:
            with pytest.raises(StorageError, match="in use"):
                await lone(tmp_path).start()
            assert await node.propose(b"a") == b"1"

    run(test)


def test_the_log_says_what_happened_in_one_line_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raft_io.server")

    async def test() -> None:
        async with lone(tmp_path) as node:
            await node.wait_for_leader()
            assert node.status.role is Role.LEADER

    run(test)
    said = [record.getMessage() for record in caplog.records if record.name == "raft_io.server"]
    assert [line.split(":")[0] for line in said] == ["node 1"] * len(said)
    assert "listening on 127.0.0.1:" in said[0]
    assert said[-2:] == ["node 1: leader in term 1, node 1 leads", "node 1: stopped"]
    assert warnings(caplog) == []


def test_nothing_is_left_after_many_starts_and_stops(tmp_path: Path) -> None:
    async def test() -> None:
        for _ in range(10):
            async with lone(tmp_path) as node:
                await node.wait_for_leader()

    run(test)
    gc.collect()
    assert [each for each in gc.get_objects() if isinstance(each, RaftServer)] == []
    assert server.RaftServer is RaftServer


def test_a_node_whose_log_is_gone_does_not_start(tmp_path: Path) -> None:
    async def test() -> None:
        async with lone(tmp_path) as node:
            await node.propose(b"a")
        log = tmp_path / "lone" / "log"
        kept = {path: path.read_bytes() for path in log.iterdir()}
        for path in kept:
            path.unlink()
        with pytest.raises(IdentityError, match="but no log: without it the node may vote twice"):
            await lone(tmp_path).start()
        for path, data in kept.items():
            path.write_bytes(data)
        async with lone(tmp_path) as node:
            assert await node.propose(b"b") == b"2"

    run(test)


def test_peers_that_were_not_configured_are_not_said_to_be_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raft_io.server")

    async def test() -> None:
        async with trio(tmp_path) as cluster:
            leader = await cluster.leader()
            await leader.change_membership(voters=[1, 2], timeout=20)
            for peers, lines in ((cluster.peers, 0), ({}, 0), ({1: cluster.peers[1], 3: "127.0.0.1:1"}, 1)):
                await cluster.stop(1)
                caplog.clear()
                cluster.servers[1] = RaftServer(
                    1,
                    Recorder(),
                    listen=cluster.peers[1],
                    peers=peers,
                    data_dir=tmp_path / "node-1",
                    tick_interval=TICK,
                )
                await cluster.servers[1].start()
                said = [record.getMessage() for record in caplog.records]
                assert len([line for line in said if "configured peers are ignored" in line]) == lines

    run(test)
