"""Clusters whose members are changed, over real sockets and real disks."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.server.growing import Growing, growing
from tests.server.hosts import eventually, free_ports, node_id, run

from raft_io import (
    MembershipChangeInProgressError,
    NotLeaderError,
    RaftError,
    RemovedError,
)
from raft_io.server import promotion

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
                before = asked.addresses
                with pytest.raises(ValueError, match="no address is known for node 9"):
                    await asked.change_membership(voters=[1, 2, 3, 9], addresses={1: "127.0.0.1:1"})
                assert asked.addresses == before, "nothing is done"
                for address in ("nonsense", "h:0"):
                    with pytest.raises(ValueError, match="no address"):
                        await asked.change_membership(voters=[1, 2, 3, 9], addresses={9: address})
                taken = cluster.peers[1 + asked.status.id % 3]
                with pytest.raises(ValueError, match=f"{taken} is the address of node .: node 9"):
                    await asked.change_membership(learners=[9], addresses={9: taken})
                with pytest.raises(ValueError, match="h:1 is the address of node 9: node"):
                    await asked.change_membership(learners=[8, 9], addresses={8: "h:1", 9: "h:1"})
                bad: Any = asked.change_membership
                for voters in (["x"], [-1], [1.5]):
                    with pytest.raises((TypeError, ValueError)):
                        await bad(voters=voters)
                assert set(asked.addresses) == {1, 2, 3}
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


def test_new_voters_that_do_not_catch_up_are_learners_and_hinder_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            ports = free_ports(4)
            new = dict(zip((21, 22, 23, 24), [f"127.0.0.1:{port}" for port in ports], strict=True))
            for asked in (leader, cluster.followers(leader)[0]):
                for _ in range(2):
                    with pytest.raises(
                        TimeoutError, match=r"not caught up in time, and stay learners: nodes 21, 22, 23, 24$"
                    ):
                        await asked.change_membership([1, 2, 3, *new], addresses=new, timeout=0.7)
            assert await leader.propose(b"a") == b"1"
            await cluster.voters(1, 2, 3, learners=tuple(new))
            await leader.change_membership(learners=[24])
            with pytest.raises(TimeoutError, match=r"stay learners: node 24$"):
                await leader.change_membership([1, 2, 3, 24], timeout=0.7)
            # It comes at last.
            changing = asyncio.create_task(leader.change_membership([1, 2, 3, 24], timeout=20))
            await asyncio.sleep(0.1)
            await cluster.join(24, listen=new[24], learner=True)
            await changing
            await cluster.voters(1, 2, 3, 24)
            assert await cluster.servers[24].propose(b"b", timeout=20) == b"2"

    run(test)


def test_a_cluster_of_one_goes_on_while_a_second_voter_is_not_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path) as cluster:
            alone = cluster.servers[1]
            for voters in ([1, 2], [2]):
                with pytest.raises(TimeoutError, match=r"stay learners: node 2$"):
                    await alone.change_membership(voters, addresses={2: "127.0.0.1:1"}, timeout=0.7)
                assert await alone.propose(b"a", timeout=5)
                await cluster.voters(1, learners=(2,))

    run(test)


def test_a_learner_that_is_gone_does_not_become_a_voter(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path) as cluster:
            await cluster.join(2, learner=True)
            await cluster.voters(1, learners=(2,))
            alone = cluster.servers[1]
            await eventually(lambda: alone.status.followers[0].match_index == alone.status.last_index)
            await cluster.stop(2)
            await asyncio.sleep(0.3)
            with pytest.raises(TimeoutError, match=r"stay learners: node 2$"):
                await alone.change_membership([1, 2], timeout=0.7)
            assert await alone.propose(b"a", timeout=5) == b"1"

    run(test)


def test_a_change_that_would_leave_no_majority_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            gone, left = [node_id(each) for each in cluster.followers(leader)]
            await cluster.stop(gone)
            await asyncio.sleep(0.3)  # nothing has come from it for an election timeout
            for asked in cluster.servers.values():
                for voters in ({node_id(leader), gone}, {left, gone}):
                    one, two = sorted(voters)
                    with pytest.raises(
                        ValueError,
                        match=f"the voters would be nodes {one}, {two}, without a majority that is heard "
                        f"from: nothing comes from node {gone}$",
                    ):
                        await asked.change_membership(voters)
            await cluster.voters(1, 2, 3)
            assert leader.is_running and leader.status.role.value == "leader"
            await leader.change_membership({node_id(leader), left})
            await cluster.voters(*{node_id(leader), left})
            assert await leader.propose(b"a") == b"1"

    run(test)


def test_the_outcome_of_a_change_is_unknown_once_it_has_begun(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            followers = cluster.followers(leader)
            operate = leader._cluster.operate

            def alone(event: Any) -> asyncio.Future[None]:
                for each in followers:
                    each._leave()
                return operate(event)

            leader._cluster.operate = alone  # type: ignore[method-assign]
            with pytest.raises(TimeoutError, match="the outcome is unknown"):
                await leader.change_membership({1, 2, 3} - {node_id(followers[0])}, timeout=1.5)
            assert leader.status.role.value != "leader"

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


# The leader is lost in the middle.


async def lose(cluster: Growing, node: int) -> str:
    """End a server as a crash would, without a word to anybody; where it listened."""
    server = cluster.servers.pop(node)
    server._leave()
    await server.stop()
    return str(server.address)


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("kind", ["join", "remove", "swap", "transfer"])
def test_a_leader_that_is_lost_in_the_middle_of_a_change_takes_nothing_with_it(
    tmp_path: Path, kind: str, delay: float
) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=4, snapshot_threshold=20) as cluster:
            leader = await cluster.leader()
            lost, asked, gone, _ = [node_id(leader), *[node_id(each) for each in cluster.followers(leader)]]
            for n in range(10):
                await leader.propose(b"%d" % n)
            target = {1, 2, 3, 4}
            if kind != "transfer":
                target |= {5} if kind == "join" else set()
                target -= set() if kind == "join" else {gone}
            if kind == "swap":
                target |= {5}
                await cluster.join(5, via=asked, learner=True)
                await eventually(lambda: 5 in leader.status.membership.learners)

            async def change() -> None:
                if kind == "join":
                    await cluster.join(5, via=asked)
                elif kind == "transfer":
                    with contextlib.suppress(RaftError, TimeoutError):
                        await cluster.servers[asked].transfer_leadership(gone, timeout=10)
                else:
                    await cluster.servers[asked].change_membership(target, [], timeout=20)

            changing = asyncio.create_task(change())
            await asyncio.sleep(delay)
            cluster.peers[lost] = await lose(cluster, lost)
            await changing
            await cluster.start(lost)
            if gone not in target:
                with pytest.raises(RemovedError):
                    await asyncio.wait_for(cluster.servers[gone].wait_stopped(), 15)
                await cluster.stop(gone)
            await cluster.voters(*target)
            assert await cluster.servers[asked].propose(b"x", timeout=20) == b"11"
            for each in cluster.servers.values():
                assert await each.read(lambda machine: len(machine.history), timeout=20) == 11

    run(test, seconds=60)


def test_a_learner_that_does_not_catch_up_can_be_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "CLOSE", -1)

    async def test() -> None:
        async with growing(tmp_path) as cluster:
            leader = await cluster.leader()
            joining = await cluster.join(9)
            await cluster.voters(1, learners=(9,))
            await leader.change_membership(learners=[])
            with pytest.raises(RemovedError):
                await asyncio.wait_for(joining.wait_stopped(), 10)
            await cluster.stop(9)
            await cluster.voters(1)

    run(test)


def test_a_voter_that_was_removed_meanwhile_does_not_come_back_with_a_newcomer(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            leader = await cluster.leader()
            gone, stays = [node_id(each) for each in cluster.followers(leader)]
            port = free_ports(1)[0]
            wanted = [1, 2, 3, 9]
            change = leader.change_membership(wanted, addresses={9: f"127.0.0.1:{port}"}, timeout=20)
            changing = asyncio.create_task(change)
            await eventually(lambda: 9 in leader.status.membership.learners, 10)
            await leader.change_membership([node_id(leader), stays])
            await cluster.stop(gone)
            await cluster.join(9, listen=port, learner=True)
            with pytest.raises(MembershipChangeInProgressError):
                await changing
            await cluster.voters(*sorted([node_id(leader), stays]), learners=(9,))

    run(test)
