"""Transfers, callbacks, snapshots and addresses of real servers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pytest
from tests.server.growing import Growing, growing
from tests.server.hosts import eventually, free_ports, lone, node_id, run
from tests.server.support import Recorder

from raft_io import (
    Membership,
    MemoryLog,
    NotLeaderError,
    RaftConfig,
    RaftError,
)
from raft_io.server import RaftServer
from raft_io.server.operator import Leading, Operator

# Transfers, and the end of a leader.


def test_leadership_goes_to_whom_it_is_told_from_any_node(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            for asked in (1, 2, 3):
                for target in (2, 3, 1):
                    leads = await cluster.servers[asked].transfer_leadership(target, timeout=20)
                    assert leads == target == cluster.servers[asked].leader
                    assert await cluster.servers[asked].transfer_leadership(target) == target
            before = node_id(await cluster.leader())
            after = await cluster.servers[before % 3 + 1].transfer_leadership(timeout=20)
            assert after != before

    run(test, seconds=60)


@pytest.mark.parametrize(("target", "asked"), [(None, [2]), (3, [2, 3])])
def test_a_transfer_to_anybody_is_asked_of_one_leader_only(target: int | None, asked: list[int]) -> None:
    """Who asks may see the new leader before the old one's answer, which then comes to nothing."""

    class Node:
        id, leader, term = 1, 2, 7

    class Asking:
        asked: ClassVar[list[int]] = []

        async def ask(self, leader: int, *rest: Any, **options: Any) -> dict[str, Any]:
            self.asked.append(leader)
            if leader == 2:
                Node.leader, Node.term = 3, 8
                raise NotLeaderError(3)
            return {"leader": leader}

    server: Any = type("Server", (), {"node": Node})
    calls: Any = Asking()

    async def test() -> None:
        assert await Operator(server, calls).transfer(target, 5.0) == 3

    run(test)
    assert Asking.asked == asked


def test_a_transfer_that_cannot_be_is_refused_or_given_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            for asked in cluster.servers.values():
                with pytest.raises(ValueError, match="node 9 is no voter"):
                    await asked.transfer_leadership(9)
            await leader.propose(b"a")
            dead = node_id(cluster.followers(leader)[0])
            await cluster.stop(dead)
            with pytest.raises(RaftError, match=f"to node {dead} was given up"):
                await leader.transfer_leadership(dead)
            assert await leader.propose(b"b", timeout=20) == b"2"
            (other,) = cluster.followers(leader)
            await cluster.stop(node_id(other))
            with pytest.raises((TimeoutError, NotLeaderError, ValueError)):
                await leader.transfer_leadership(timeout=0.5)
        async with lone(tmp_path) as alone:
            await alone.wait_for_leader()
            with pytest.raises(ValueError, match="no other voter"):
                await alone.transfer_leadership()
            assert await alone.transfer_leadership(1) == 1

    run(test)


def test_a_leader_that_stops_costs_no_election_timeout(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3, election_timeout=(200, 400)) as cluster:
            leader = await cluster.leader()
            await leader.propose(b"a")
            survivor = cluster.followers(leader)[0]
            calls = [asyncio.create_task(survivor.propose(b"%d" % n)) for n in range(100)]
            began = time.monotonic()
            await cluster.stop(node_id(leader))
            await asyncio.gather(*calls)
            assert await survivor.propose(b"b", timeout=20) == b"102"
            assert time.monotonic() - began < 1.5, "an election timeout is two seconds at least"

    run(test)


def test_a_leader_that_was_elected_a_moment_ago_hands_over_as_well(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            for _ in range(5):
                before = cluster.servers[1].leader
                assert await cluster.servers[1].transfer_leadership(timeout=20) != before

    run(test)


def test_a_leader_without_anybody_to_take_over_stops_all_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            await leader.propose(b"a")
            for follower in cluster.followers(leader):
                await cluster.stop(node_id(follower))
            began = time.monotonic()
            await asyncio.gather(leader.stop(), leader.stop())
            assert time.monotonic() - began < 1.0

    run(test)


# What the application is told.


def test_the_application_is_told_of_leadership_and_membership(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    def broken(membership: Membership) -> None:
        told.append(membership)
        raise ZeroDivisionError("a bug of the application")

    async def test() -> None:
        options = {"on_leadership": lambda leads, term: told.append((leads, term)), "on_membership": broken}
        cluster = Growing(tmp_path)
        await cluster.start(1, **options)
        await cluster.leader()
        assert told == [(True, 1)]
        await cluster.join(2)
        await cluster.voters(1, 2)
        await cluster.servers[1].transfer_leadership(2)
        await eventually(lambda: told[-1] == (False, 2))
        assert told[1:-1] == [Membership([1], [2]), Membership([1, 2])]
        for node in (1, 2):
            await cluster.stop(node)

    run(test)
    bugs = [record for record in caplog.records if record.exc_info]
    assert len(bugs) == 2
    assert all("callback" in record.getMessage() for record in bugs)


# Snapshots.


def test_a_snapshot_is_taken_when_it_is_asked_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            follower = cluster.followers(await cluster.leader())[0]
            assert follower.snapshot is None
            await follower.propose(b"a")
            index = await follower.take_snapshot()
            assert index == follower.status.snapshot_index > 0
            assert await follower.take_snapshot() == index
            snapshot = follower.snapshot
            assert snapshot is not None
            assert snapshot.index == index
            node = node_id(follower)
            await cluster.stop(node)
            await cluster.start(node)
            assert cluster.machines[node].history == [b"a"], "restored before any entry is applied"
            assert await cluster.servers[node].propose(b"b", timeout=20) == b"2"

    run(test)


def test_a_snapshot_that_cannot_be_written_is_an_error_and_the_node_goes_on(tmp_path: Path) -> None:
    class Broken(Recorder):
        def capture(self) -> Callable[[BinaryIO], None]:
            def write(stream: BinaryIO) -> None:
                raise ZeroDivisionError("no way")

            return write

    async def test() -> None:
        async with lone(tmp_path, Broken()) as node:
            await node.propose(b"a")
            with pytest.raises(RaftError, match="no way"):
                await node.take_snapshot()
            assert await node.propose(b"b") == b"2"

    run(test)


def test_a_snapshot_that_is_being_written_does_not_keep_a_server_from_stopping(tmp_path: Path) -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow(Recorder):
        def capture(self) -> Callable[[BinaryIO], None]:
            def write(stream: BinaryIO) -> None:
                began.set()
                while not go_on.is_set():
                    stream.write(bytes(1 << 20))
                    time.sleep(0.001)

            return write

    async def test() -> None:
        node = lone(tmp_path, Slow())
        await node.start()
        await node.propose(b"a")
        asked = asyncio.ensure_future(node.take_snapshot())
        await asyncio.to_thread(began.wait, 5)
        assert await node.propose(b"b") == b"2", "writes go on meanwhile"
        await asyncio.wait_for(node.stop(), 3)
        with pytest.raises(RaftError, match="stops"):
            await asked
        async with lone(tmp_path) as again:
            assert await again.propose(b"c") == b"3"

    try:
        run(test)
    finally:
        go_on.set()


# Arguments.


def test_how_peers_reach_a_node_is_checked_when_it_is_made(tmp_path: Path) -> None:
    def made(**arguments: Any) -> RaftServer:
        settings = {"listen": 0, "peers": {}, "data_dir": tmp_path, **arguments}
        return RaftServer(1, Recorder(), **settings)

    with pytest.raises(ValueError, match="advertise is needed"):
        made(listen="0.0.0.0:7000")
    with pytest.raises(ValueError, match="advertise is needed"):
        made(listen="[::]:7000")
    with pytest.raises(ValueError, match="cannot dial 0"):
        made(advertise="0.0.0.0:7000")
    with pytest.raises(ValueError, match="not both"):
        made(peers={2: "127.0.0.1:1"}, join="127.0.0.1:2")
    made(listen="0.0.0.0:7000", advertise="10.0.0.1:7000")
    made(listen="0.0.0.0:7000", peers={1: "10.0.0.1:7000", 2: "10.0.0.2:7000"})
    made(peers={1: "10.0.0.1:7000"}, join="10.0.0.2:7000")


def test_the_advertised_address_is_the_one_that_others_use(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path) as cluster:
            (port,) = free_ports(1)
            await cluster.join(2, listen=f"0.0.0.0:{port}", advertise=f"localhost:{port}")
            await cluster.voters(1, 2)
            assert cluster.servers[1].addresses == {1: cluster.peers[1], 2: f"localhost:{port}"}
            assert await cluster.servers[2].propose(b"a", timeout=20) == b"1"

    run(test)


class Office:
    """A leader, as `Leading` sees it, that forgets a change which was asked for in an earlier term."""

    def __init__(self) -> None:
        self.config = RaftConfig(1, [2])
        self.tick_interval = 0.01
        self.term = 1
        self.id = 1
        self.is_leader = True
        self.commit_index = 0
        self.membership = Membership([1, 2])
        self.log = MemoryLog()
        self.asked: list[int] = []
        self.members_known = self

    @property
    def node(self) -> Any:
        return self

    def row(self, node: int) -> tuple[str, int]:
        return (f"h:{node}", node)

    async def operate(self, event: Any) -> None:
        self.asked.append(self.term)
        if self.term == 1:
            self.term = 3  # it lost office and won it back before anybody could look
        else:
            self.membership = Membership(event.voters, event.learners)


def test_a_leader_that_was_out_of_office_for_a_moment_is_asked_again() -> None:
    office: Any = Office()
    leading = Leading(office)

    async def test() -> None:
        deadline = asyncio.get_running_loop().time() + 5
        assert await leading.move(Membership([1]), deadline) == 0

    run(test)
    assert office.asked == [1, 3]
