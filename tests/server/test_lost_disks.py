"""Nodes that lost their data: they must not pass for who they were."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from tests.server.growing import Growing, growing
from tests.server.hosts import TICK, eventually, node_id, run, warnings
from tests.server.support import Recorder

from raft_io import (
    CorruptLogError,
    IdentityError,
    Membership,
    encode_membership,
)
from raft_io.server import RaftServer
from raft_io.storage.recover import force_membership, salvage

# A disk that is lost.


def test_a_voter_whose_disk_is_lost_is_refused_until_it_joins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            await cluster.servers[1].propose(b"a")
            leader = await cluster.leader()
            lost, other = [node_id(each) for each in cluster.followers(leader)]
            before = leader.members[lost].incarnation
            await cluster.stop(lost)
            shutil.rmtree(tmp_path / f"node-{lost}")
            term = leader.status.term
            # As if nothing had happened: nobody takes it for the voter that it was.
            back = await cluster.start(lost)
            with pytest.raises(IdentityError, match=rf"knows node {lost} by .* has lost its data; .*--join"):
                await asyncio.wait_for(back.wait_stopped(), 10)
            assert leader.status.term == term, "it does not even disturb"
            await cluster.stop(lost)
            with pytest.raises(IdentityError, match="joins with an empty directory"):
                await cluster.join(lost)
            shutil.rmtree(tmp_path / f"node-{lost}")
            await cluster.join(lost, via=other)
            await cluster.voters(1, 2, 3)
            assert await cluster.servers[lost].read(lambda m: list(m.history), timeout=20) == [b"a"]
            await eventually(lambda: leader.members[lost].incarnation not in (0, before))
            # It counts again: with it there is a majority.
            await cluster.stop(other)
            assert await cluster.servers[lost].propose(b"b", timeout=20) == b"2"

    run(test)
    said = [line for line in warnings(caplog) if "comes with another data directory" in line]
    assert said
    assert all("raft-io serve --join" in line for line in said)


def test_a_first_node_whose_disk_is_lost_does_not_begin_a_second_cluster(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path) as cluster:
            await cluster.servers[1].propose(b"a")
            for node in (2, 3):
                await cluster.join(node)
            await cluster.voters(1, 2, 3)
            await cluster.stop(1)
            shutil.rmtree(tmp_path / "node-1")
            assert await cluster.servers[2].propose(b"b", timeout=20) == b"2"
            first = await cluster.start(1)
            with pytest.raises(
                IdentityError, match=r"has members already .* has lost its data; empty .*--join"
            ):
                await asyncio.wait_for(first.wait_stopped(), 10)
            await cluster.stop(1)
            shutil.rmtree(tmp_path / "node-1")
            again = await cluster.join(1)
            await cluster.voters(1, 2, 3)
            assert await again.read(lambda m: list(m.history), timeout=20) == [b"a", b"b"]

    run(test)


def test_a_majority_whose_disks_are_lost_does_not_begin_a_second_cluster(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            await cluster.servers[1].propose(b"a")
            await eventually(lambda: cluster.machines[1].history == [b"a"])
            for node in (2, 3):
                await cluster.stop(node)
                shutil.rmtree(tmp_path / f"node-{node}")
            for back in [await cluster.start(node) for node in (2, 3)]:
                with pytest.raises(IdentityError, match=r"node 1 knows node . .* has lost its data"):
                    await asyncio.wait_for(back.wait_stopped(), 10)
                assert back.status.last_index == 0
            assert cluster.servers[1].is_running
            assert cluster.machines[1].history == [b"a"]

    run(test)


def test_a_node_with_data_that_is_refused_by_one_goes_on_with_the_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            # By one that does not lead: whom the leader refuses can but wait.
            refusing, refused = [node_id(each) for each in cluster.followers(await cluster.leader())]
            await cluster.servers[1].propose(b"a")
            wrong = cluster.servers[refusing]._cluster.members_known._peers.met
            await cluster.stop(refused)
            wrong[refused] += 1
            back = await cluster.start(refused)
            await eventually(lambda: cluster.machines[refused].history == [b"a"])
            await asyncio.sleep(0.3)
            assert back.is_running

    run(test)


def test_a_node_that_is_alone_again_is_not_taken_for_one_that_lost_its_data(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path) as cluster:
            await cluster.join(2)
            await cluster.voters(1, 2)
            await cluster.stop(2)
            await cluster.stop(1)
            # As an operator does it when node 2 is thought to be lost for good.
            force_membership(tmp_path / "node-1" / "log", node_id=1, voters=[1])
            await cluster.start(1)
            assert await cluster.servers[1].propose(b"a", timeout=20) == b"1"
            await cluster.servers[1].take_snapshot()
            back = await cluster.again(2)
            await asyncio.sleep(0.5)
            assert await cluster.servers[1].propose(b"b") == b"2"
            assert back.leader != 2

    run(test)


def test_the_one_whose_disk_came_back_is_refused_in_its_turn(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            lost = node_id(cluster.followers(leader)[0])
            await leader.propose(b"a")
            await cluster.stop(lost)
            (tmp_path / f"node-{lost}").rename(tmp_path / "kept")
            await cluster.join(lost)
            await cluster.voters(1, 2, 3)
            await eventually(lambda: not cluster.servers[lost]._cluster.members_known.is_joining)
            await cluster.stop(lost)
            shutil.rmtree(tmp_path / f"node-{lost}")
            (tmp_path / "kept").rename(tmp_path / f"node-{lost}")
            old = await cluster.start(lost)
            await asyncio.sleep(0.4)
            assert old.leader is None
            assert await leader.propose(b"b", timeout=20) == b"2"

    run(test)


def test_a_running_member_is_not_replaced_by_one_of_the_same_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            follower = node_id(cluster.followers(leader)[0])
            for taken in (follower, node_id(leader)):
                twin = RaftServer(
                    taken,
                    Recorder(),
                    listen=0,
                    peers={},
                    join=str(leader.address if taken == follower else cluster.servers[follower].address),
                    data_dir=tmp_path / f"twin-{taken}",
                    tick_interval=TICK,
                )
                async with twin:
                    await asyncio.sleep(0.4)
                    assert twin.status.membership == Membership([])
            await cluster.voters(1, 2, 3)
            assert await leader.propose(b"a", timeout=20) == b"1"

    run(test)
    said = " ".join(warnings(caplog))
    assert "is running with another data directory" in said
    assert "is running: it leads the cluster" in said


def test_a_node_that_was_away_while_another_lost_its_disk_is_led_by_that_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=5) as cluster:
            leader = await cluster.leader()
            await leader.propose(b"a")
            away, lost, *_ = [node_id(each) for each in cluster.followers(leader)]
            await cluster.stop(away)
            await cluster.stop(lost)
            shutil.rmtree(tmp_path / f"node-{lost}")
            await cluster.join(lost)
            await cluster.voters(1, 2, 3, 4, 5)
            await leader.transfer_leadership(lost, timeout=20)
            await cluster.start(away)
            assert await cluster.servers[away].propose(b"b", timeout=20) == b"2"
            assert cluster.servers[away].leader == lost

    run(test, seconds=60)


def test_losing_the_disk_twice_is_no_different(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            lost = node_id(cluster.followers(leader)[0])
            seen = set()
            for n in range(3):
                assert await leader.propose(b"%d" % n, timeout=20) == b"%d" % (n + 1)
                await cluster.stop(lost)
                shutil.rmtree(tmp_path / f"node-{lost}")
                back = await cluster.join(lost)
                await cluster.voters(1, 2, 3)
                assert await back.read(lambda m: len(m.history), timeout=20) == n + 1
                seen.add(back.members[lost].incarnation)
            assert len(seen) == 3

    run(test, seconds=60)


# Getting out of trouble.


def test_a_node_whose_log_was_salvaged_comes_back_by_joining(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            for n in range(20):
                await leader.propose(b"%d" % n)
            # So that the damaged log says that its node is a voter.
            await cluster.join(4)
            await cluster.voters(1, 2, 3, 4)
            damaged = node_id(cluster.followers(leader)[0])
            log = tmp_path / f"node-{damaged}" / "log"
            await cluster.stop(damaged)
            (segment,) = [path for path in log.iterdir() if path.suffix == ".wal"]
            data = bytearray(segment.read_bytes())
            place = data.index(encode_membership(Membership([1, 2, 3], [4]))) + 3
            data[place] ^= 0xFF
            segment.write_bytes(data)
            with pytest.raises(CorruptLogError):
                await cluster.start(damaged)
            assert salvage(log).last_index > 0
            with pytest.raises(IdentityError, match="only come back by joining"):
                await cluster.start(damaged)
            await leader.propose(b"meanwhile")
            back = await cluster.join(damaged, via=node_id(leader))
            await cluster.voters(1, 2, 3, 4)
            history = await back.read(lambda machine: list(machine.history), timeout=20)
            assert history == [*[b"%d" % n for n in range(20)], b"meanwhile"]
            await eventually(lambda: not back._cluster.members_known.is_joining)
            assert await back.propose(b"x", timeout=20) == b"22"

    run(test)


def test_one_node_goes_on_alone_and_others_join_it_when_a_majority_is_lost(tmp_path: Path) -> None:
    async def test() -> None:
        cluster = Growing(tmp_path, size=3)
        for node in (1, 2, 3):
            await cluster.start(node)
        leader = await cluster.leader()
        await leader.propose(b"a")
        assert await cluster.servers[1].read(lambda m: list(m.history)) == [b"a"]
        for node in (1, 2, 3):
            await cluster.stop(node)
        for node in (2, 3):
            shutil.rmtree(tmp_path / f"node-{node}")
        force_membership(tmp_path / "node-1" / "log", node_id=1, voters=[1])
        alone = await cluster.start(1)
        assert await alone.propose(b"b", timeout=20) == b"2"
        for node in (2, 3):
            await cluster.join(node)
        await cluster.voters(1, 2, 3)
        assert await cluster.servers[3].read(lambda m: list(m.history), timeout=20) == [b"a", b"b"]
        for node in (1, 2, 3):
            await cluster.stop(node)

    run(test)


@pytest.mark.parametrize("wrote", [True, False])
def test_one_node_that_goes_on_alone_by_mistake_does_not_end_the_others(tmp_path: Path, wrote: bool) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            await leader.propose(b"before")
            astray = node_id(cluster.followers(leader)[0])
            await eventually(lambda: cluster.machines[astray].history == [b"before"])
            await cluster.stop(astray)
            if wrote:
                await leader.propose(b"after")
            force_membership(tmp_path / f"node-{astray}" / "log", node_id=astray, voters=[astray])
            alone = await cluster.start(astray)
            await alone.propose(b"astray", timeout=20)
            await asyncio.sleep(0.7)
            assert leader.is_running
            assert len([each for each in cluster.servers.values() if each.is_running]) == 3
            await leader.propose(b"more")
            history = await leader.read(lambda machine: list(machine.history))
            kept = [b"before", *([b"after"] if wrote else [])]
            # If the others found it before it led alone, what it was asked for went to them.
            assert history in ([*kept, b"more"], [*kept, b"astray", b"more"])

    run(test)
