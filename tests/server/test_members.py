"""Clusters that change their members, over real sockets and real disks."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.server.hosts import TICK, Trio, eventually, free_ports, lone, node_id, run, warnings
from tests.server.support import Recorder

from raft_io import (
    CorruptLogError,
    IdentityError,
    Membership,
    NotLeaderError,
    RaftError,
    RemovedError,
    encode_membership,
)
from raft_io.server import RaftServer
from raft_io.storage.recover import force_membership, salvage


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


def test_a_joiner_gets_a_snapshot_when_the_entries_are_gone(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, snapshot_threshold=50, snapshot_chunk=1000) as cluster:
            for n in range(300):
                await cluster.servers[1].propose(b"%d" % n * 20)
            await eventually(lambda: cluster.servers[1].snapshot is not None)
            await cluster.join(2)
            await cluster.voters(1, 2)
            assert await cluster.servers[2].read(lambda machine: len(machine.history)) == 300
            assert cluster.machines[2].history == cluster.machines[1].history
            await cluster.stop(1)
            await cluster.again(1, listen=cluster.ports[0])
            assert await cluster.servers[1].propose(b"x", timeout=20) == b"301"

    run(test)


def test_several_join_at_once_through_anybody(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            await asyncio.gather(*[cluster.join(node, via=1 + node % 3) for node in (4, 5, 6, 7)])
            await cluster.voters(1, 2, 3, 4, 5, 6, 7)
            assert await cluster.servers[7].propose(b"a", timeout=20) == b"1"

    run(test)


def test_a_joiner_waits_for_a_member_that_is_not_there_yet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        cluster = Growing(tmp_path)
        node = RaftServer(
            2,
            Recorder(),
            listen=0,
            peers={},
            join=cluster.peers[1],
            data_dir=tmp_path / "node-2",
            tick_interval=TICK,
        )
        async with node:
            with pytest.raises(NotLeaderError):
                await node.propose(b"x", timeout=0.2)
            with pytest.raises(NotLeaderError):
                await node.change_membership(voters=[1, 2], timeout=0.2)
            assert node.members == {}
            assert node.status.membership == Membership([])
            await cluster.start(1)
            assert await node.propose(b"a", timeout=20) == b"1"
            await eventually(lambda: node.status.membership == Membership([1, 2]))
            await cluster.stop(1)

    run(test)
    complaints = [line for line in warnings(caplog) if "Connect call failed" in line]
    assert len(complaints) == 1, complaints


def test_a_joiner_that_was_stopped_half_way_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            for stop_after in (0.0, 0.02, 0.05, 0.1, 0.2):
                await cluster.join(4)
                await asyncio.sleep(stop_after)
                await cluster.stop(4)
            await cluster.join(4)
            await cluster.voters(1, 2, 3, 4)
            assert await cluster.servers[4].propose(b"a", timeout=20) == b"1"

    run(test, seconds=60)


# Changes by an operator.


def test_every_member_is_replaced_while_writes_go_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            written: list[bytes] = []
            going = True

            async def write(name: bytes) -> None:
                n = 0
                while going:
                    command = b"%s %d" % (name, n)
                    each = list(cluster.servers.values())[n % len(cluster.servers)]
                    with contextlib.suppress(TimeoutError, RaftError):
                        await each.propose(command, key=command, timeout=10)
                        written.append(command)
                    n += 1
                    await asyncio.sleep(0.002)

            writers = [asyncio.create_task(write(b"w%d" % n)) for n in range(3)]
            members = {1, 2, 3}
            for old, new in ((1, 4), (2, 5), (3, 6)):
                await cluster.join(new)
                members |= {new}
                await cluster.voters(*members)
                members -= {old}
                asked = cluster.servers[max(members)]
                await asked.change_membership(voters=members, timeout=20)
                with pytest.raises(RemovedError, match=f"node {old} was removed"):
                    await asyncio.wait_for(cluster.servers[old].wait_stopped(), 10)
                await cluster.stop(old)
                await cluster.voters(*members)
            going = False
            await asyncio.gather(*writers)
            total = await cluster.servers[4].read(lambda machine: list(machine.history), timeout=20)
            assert set(written) <= set(total)
            assert len(set(total)) == len(total)
            assert len(written) > 20

    run(test, seconds=90)


def test_a_change_is_asked_of_any_node_and_may_be_repeated(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            for node in (4, 5):
                await cluster.join(node, learner=True)
            await cluster.voters(1, 2, 3, learners=(4, 5))
            for asked in cluster.servers.values():
                await asked.change_membership(voters=[1, 2, 3, 4], learners=[5])
            await cluster.voters(1, 2, 3, 4, learners=(5,))
            # Two come, two go: by joint consensus, from a node that stays.
            await cluster.servers[4].change_membership([3, 4, 5], timeout=20)
            for gone in (1, 2):
                with pytest.raises(RemovedError):
                    await asyncio.wait_for(cluster.servers[gone].wait_stopped(), 10)
                await cluster.stop(gone)
            await cluster.voters(3, 4, 5)
            assert await cluster.servers[5].propose(b"a", timeout=20) == b"1"

    run(test, seconds=60)


def test_a_change_that_cannot_be_is_refused_whoever_is_asked(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            for asked in cluster.servers.values():
                with pytest.raises(ValueError, match="at least one voter"):
                    await asked.change_membership(voters=[])
                with pytest.raises(ValueError, match="both a voter and a learner"):
                    await asked.change_membership(voters=[1, 2, 3], learners=[3])
                with pytest.raises(ValueError, match="no address is known for node 9"):
                    await asked.change_membership(voters=[1, 2, 3, 9])
                for address in ("nonsense", "h:0"):
                    with pytest.raises(ValueError, match="no address"):
                        await asked.change_membership(voters=[1, 2, 3, 9], addresses={9: address})
                bad: Any = asked.change_membership
                for voters in (["x"], [-1], [1.5]):
                    with pytest.raises((TypeError, ValueError)):
                        await bad(voters=voters)
            await cluster.voters(1, 2, 3)

    run(test)


def test_without_a_majority_a_change_is_not_done_and_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            for follower in cluster.followers(leader):
                await cluster.stop(node_id(follower))
            with pytest.raises((TimeoutError, NotLeaderError)):
                await leader.change_membership(voters=[node_id(leader)], timeout=0.5)
            with pytest.raises((TimeoutError, NotLeaderError)):
                await leader.transfer_leadership(timeout=0.5)

    run(test)


def test_an_address_is_changed_and_its_node_found_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            moved, asked = [node_id(each) for each in cluster.followers(leader)]
            await cluster.stop(moved)
            (port,) = free_ports(1)
            await cluster.servers[asked].change_membership(addresses={moved: f"127.0.0.1:{port}"})
            await eventually(
                lambda: all(
                    each.members[moved].address == f"127.0.0.1:{port}" for each in cluster.servers.values()
                )
            )
            cluster.peers[moved] = f"127.0.0.1:{port}"
            await cluster.start(moved)
            assert await cluster.servers[moved].propose(b"a", timeout=20) == b"1"
            assert cluster.servers[moved].addresses[moved] == f"127.0.0.1:{port}"
            await cluster.voters(1, 2, 3)

    run(test)


def test_a_node_that_was_away_finds_the_others_at_new_addresses(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            await cluster.servers[1].propose(b"a")
            leader = await cluster.leader()
            away, moved = [node_id(each) for each in cluster.followers(leader)]
            await cluster.stop(away)
            (port,) = free_ports(1)
            await cluster.stop(moved)
            known = cluster.peers[moved]
            cluster.peers[moved] = f"127.0.0.1:{port}"
            await cluster.start(moved)
            await leader.change_membership(addresses={moved: cluster.peers[moved]}, timeout=20)
            # Only those two are left: one that moved, and one that knows it by its old address.
            await leader.transfer_leadership(moved, timeout=20)
            await cluster.stop(node_id(leader))
            cluster.peers[moved] = known
            await cluster.start(away)
            assert await cluster.servers[away].propose(b"b", timeout=20) == b"2"

    run(test)


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
            await cluster.start(lost)
            await asyncio.sleep(0.5)
            assert cluster.servers[lost].leader is None
            assert leader.status.term == term, "it does not even disturb"
            with pytest.raises(NotLeaderError):
                await cluster.servers[lost].propose(b"x", timeout=0.2)
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


# Removal.


def test_a_node_that_was_removed_while_it_was_away_is_told_when_it_comes_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            away = node_id(cluster.followers(leader)[0])
            await leader.propose(b"a")
            await cluster.stop(away)
            await leader.change_membership({1, 2, 3} - {away})
            told: list[str] = []
            for _ in range(2):
                back = await cluster.start(away, on_removed=lambda: told.append("removed"))
                with pytest.raises(RemovedError, match=f"node {away} was removed"):
                    await asyncio.wait_for(back.wait_stopped(), 10)
                with pytest.raises(RemovedError):
                    await back.propose(b"x")
                await cluster.stop(away)
            assert told == ["removed", "removed"]
            assert await leader.propose(b"b") == b"2"
            # It may come again, as a new node.
            shutil.rmtree(tmp_path / f"node-{away}")
            await cluster.join(away)
            await cluster.voters(1, 2, 3)

    run(test)


def test_a_node_that_was_removed_is_taken_back_as_it_is(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            gone = node_id(cluster.followers(leader)[0])
            await leader.propose(b"a")
            await leader.change_membership({1, 2, 3} - {gone})
            with pytest.raises(RemovedError):
                await asyncio.wait_for(cluster.servers[gone].wait_stopped(), 10)
            await cluster.stop(gone)
            await leader.change_membership({1, 2, 3} - {gone}, learners=[gone])
            back = await cluster.start(gone)
            await cluster.voters(*({1, 2, 3} - {gone}), learners=(gone,))
            assert await back.read(lambda m: list(m.history), timeout=20) == [b"a"]

    run(test)


def test_a_leader_that_removes_itself_hands_over_first(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            await leader.propose(b"a")
            rest = {1, 2, 3} - {node_id(leader)}
            await leader.change_membership(rest, timeout=20)
            with pytest.raises(RemovedError):
                await asyncio.wait_for(leader.wait_stopped(), 10)
            await cluster.stop(node_id(leader))
            await cluster.voters(*rest)
            for node in rest:
                await cluster.servers[node].propose(b"b", timeout=20)

    run(test)


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
