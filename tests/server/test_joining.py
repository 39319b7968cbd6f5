"""Nodes that join a cluster, over real sockets and real disks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.server.growing import Growing, growing
from tests.server.hosts import TICK, eventually, listener, lone, run, warnings
from tests.server.support import Recorder
from tests.server.test_membership import members

from raft_io import (
    IdentityError,
    Membership,
    MemoryLog,
    NotLeaderError,
    RaftConfig,
    RaftError,
    RaftNode,
    Snapshot,
    WireError,
)
from raft_io.server import RaftServer, frames, joining
from raft_io.server import cluster as cluster_module
from raft_io.server.address import Address
from raft_io.server.envelope import Member

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
    complaints = [line for line in warnings(caplog) if "Connection refused" in line]
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


# What comes from others is not trusted.


NONSENSE: dict[str, tuple[int, dict[str, Any]]] = {
    "an unknown operation": (99, {}),
    "no fields": (frames.CHANGE, {}),
    "no ids": (frames.CHANGE, {"voters": ["x"], "learners": None, "addresses": {}}),
    "no list": (frames.CHANGE, {"voters": 7, "learners": None, "addresses": {}}),
    "no addresses": (frames.CHANGE, {"voters": [1], "learners": [], "addresses": 7}),
    "no address": (frames.CHANGE, {"voters": [1], "learners": [], "addresses": {"2": "nonsense"}}),
    "a long address": (
        frames.CHANGE,
        {"voters": [1], "learners": [], "addresses": {"2": "h" * 300 + ":1"}},
    ),
    "no id of an address": (frames.CHANGE, {"voters": [1], "learners": [], "addresses": {"x": "h:1"}}),
    "no target": (frames.TRANSFER, {}),
    "a wrong target": (frames.TRANSFER, {"target": "x"}),
    "no such voter": (frames.TRANSFER, {"target": 77}),
    "nobody else": (frames.TRANSFER, {"target": None}),
    "a timeout that is none": (frames.TRANSFER, {"target": 1, "timeout": "soon"}),
    "a negative timeout": (frames.TRANSFER, {"target": 1, "timeout": -1}),
    "nobody to join": (frames.JOINING, {}),
    "no id to join": (frames.JOINING, {"node": "x", "incarnation": 1, "address": "h:1", "learner": False}),
    "too large an id": (
        frames.JOINING,
        {"node": 1 << 70, "incarnation": 1, "address": "h:1", "learner": False},
    ),
    "no incarnation": (frames.JOINING, {"node": 2, "incarnation": 0, "address": "h:1", "learner": False}),
    "nowhere to join": (frames.JOINING, {"node": 2, "incarnation": 1, "address": "h:0", "learner": False}),
    "the leader itself": (frames.JOINING, {"node": 1, "incarnation": 1, "address": "h:1", "learner": False}),
    "no question": (frames.ASK, {}),
    "an unknown question": (frames.ASK, {"kind": "what?", "body": None}),
}


def test_questions_that_make_no_sense_are_answered_by_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with lone(tmp_path) as node:
            await node.wait_for_leader()
            for name, (operation, fields) in NONSENSE.items():
                answer = await node._cluster.calls.told(node._cluster.calls.serve(operation, fields))
                assert answer.get("error") == "ValueError", (name, answer)
            assert node.status.membership == Membership([1])
            assert await node.propose(b"a") == b"1"

    run(test)


def test_servers_ask_each_other(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=2) as cluster:
            one, two = cluster.servers[1], cluster.servers[2]
            two.on_ask("double", lambda body: body * 2)
            assert await one.ask(2, "double", 21) == 42
            assert await two.ask(2, "double", "ab") == "abab"
            with pytest.raises(ValueError, match="node 1 has no answer to 'double'"):
                await two.ask(1, "double", 1)
            with pytest.raises(RaftError, match="unsupported operand"):
                await one.ask(2, "double", None)
            with pytest.raises(TimeoutError):
                await one.ask(9, "double", 1, timeout=0.1)
            waiting = asyncio.ensure_future(one.ask(9, "double", 1))
            await asyncio.sleep(0.05)
            await cluster.stop(1)
            with pytest.raises(RaftError, match="the server stops"):
                await waiting
            for call in (one.ask(2, "double", 1), one.change_membership([1]), one.transfer_leadership()):
                with pytest.raises(RaftError, match="not running"):
                    await call

    run(test)


def test_a_caller_of_an_operation_may_go_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with growing(tmp_path, size=3) as cluster:
            for each in list(cluster.servers.values()):
                for call in (
                    each.change_membership([1, 2, 3]),
                    each.transfer_leadership(),
                    each.take_snapshot(),
                    each.ask(9, "x", None),
                ):
                    gone = asyncio.ensure_future(call)
                    await asyncio.sleep(0.005)
                    gone.cancel()
                    with contextlib.suppress(asyncio.CancelledError, RaftError):
                        await gone
            await cluster.voters(1, 2, 3)
            assert await cluster.servers[1].propose(b"a", timeout=20) == b"1"

    run(test)


def test_too_many_that_join_at_once_are_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "MAX_JOINING", 0)

    async def test() -> None:
        async with lone(tmp_path) as node:
            await node.wait_for_leader()
            greeting = frames.Greeting("raft-io", 2, 7, "127.0.0.1:1", True)
            answer = await joining.request(node.address, greeting, False)
            assert answer["error"] == "OverloadedError"
            monkeypatch.setattr(cluster_module, "MAX_JOINING", 64)
            with pytest.raises(RaftError, match="cluster 'other'"):
                await joining.request(node.address, frames.Greeting("other", 2, 7, "h:1", True), False)

    run(test)


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        (b"", RaftError, "it closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", WireError, "are accepted"),
        (frames.encode(frames.MESSAGE, b"x"), WireError, "what no server sends here"),
        (frames.encode(frames.REPLY, bytes(8) + b"[]"), WireError, "no JSON object"),
    ],
)
def test_what_is_no_server_to_join_is_an_error(said: bytes, error: type[Exception], match: str) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(said)

    async def test() -> None:
        with listener(behave) as port, pytest.raises(error, match=match):
            await joining.request(
                Address("127.0.0.1", port), frames.Greeting("raft-io", 2, 7, "h:1", True), False
            )

    run(test)


def _joiner(tmp_path: Path, join: str | None, cluster_id: str = "raft-io", peers: Any = None) -> RaftServer:
    return RaftServer(
        8,
        Recorder(),
        listen=0,
        peers=peers or {},
        join=join,
        cluster_id=cluster_id,
        data_dir=tmp_path / "node-8",
        tick_interval=TICK,
    )


def test_a_directory_that_never_joined_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with _joiner(tmp_path, "127.0.0.1:1"):
            pass
        async with _joiner(tmp_path, None):
            await eventually(lambda: any("give --join HOST:PORT" in line for line in warnings(caplog)))
        for other in (
            _joiner(tmp_path, "127.0.0.1:1", "other"),
            _joiner(tmp_path, None, peers={8: "127.0.0.1:0", 9: "127.0.0.1:1"}),
        ):
            with pytest.raises(IdentityError, match=r"; it has joined nothing yet: remove it to start over$"):
                await other.start()

    run(test)


def test_a_joiner_that_gets_no_answer_asks_whether_the_address_is_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raft_io.server.joining.ANSWER_TIMEOUT", 0.05)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)

    taken: list[asyncio.StreamWriter] = []

    async def test() -> None:
        silent = await asyncio.start_server(listen, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        async with _joiner(tmp_path, f"127.0.0.1:{port}"):
            await eventually(
                lambda: any("not its Redis or HTTP address?" in line for line in warnings(caplog))
            )
        silent.close()
        for writer in taken:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    run(test)


class Lone:
    """The node that joins, and what it finds at its contact: `outcomes`, the last of them for ever."""

    def __init__(self, *outcomes: Exception | None) -> None:
        log = MemoryLog()
        log.save_snapshot(Snapshot(5, 1, Membership([1, 2]), b""))
        self.node = RaftNode(RaftConfig.joining(1), log)
        self.members_known = members(self.node, initial=False, configured=False)
        self.greeting = frames.Greeting("c", 1, 11, "own:1", True)
        self.contacts: list[Address] = []
        self.is_leaving = False
        self.outcomes = list(outcomes)
        self.asked = 0

    async def request(self, *arguments: object) -> dict[str, Any]:
        self.asked += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is not None:
            raise outcome
        self.join()
        return {"part": "voter", "index": 6}

    def join(self) -> None:
        self.members_known.adopt({1: Member("own:1", 11)}, 6)


def _ask_until_joined(lone: Lone, monkeypatch: pytest.MonkeyPatch, quiet: float) -> None:
    monkeypatch.setattr(joining, "request", lone.request)
    monkeypatch.setattr(joining, "QUIET", quiet)

    async def test() -> None:
        await asyncio.wait_for(joining.Joiner(lone, Address("h", 1), False).run(), 10)

    run(test)


CLOSED = joining.ClosedError("it closed the connection")
PASSING = [CLOSED, ConnectionResetError("gone"), NotLeaderError(None)]


@pytest.mark.parametrize("passing", PASSING)
def test_a_joiner_says_nothing_of_what_the_next_attempt_solves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, passing: Exception
) -> None:
    lone = Lone(passing, passing, None)
    _ask_until_joined(lone, monkeypatch, quiet=5.0)
    assert lone.asked == 3
    assert warnings(caplog) == []


@pytest.mark.parametrize("lasting", [*PASSING, ValueError("no"), ConnectionRefusedError("no")])
def test_a_joiner_says_once_what_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lasting: Exception
) -> None:
    _ask_until_joined(Lone(*[lasting] * 4, None), monkeypatch, quiet=0.1)
    [line] = warnings(caplog)
    assert line.startswith("node 1: cannot join through h:1: ")


def test_a_joiner_that_has_become_a_member_does_not_mind_a_lost_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lone = Lone(CLOSED)
    answer = lone.request

    async def lost(*arguments: object) -> dict[str, Any]:
        lone.join()
        return await answer(*arguments)

    monkeypatch.setattr(lone, "request", lost)
    _ask_until_joined(lone, monkeypatch, quiet=0.0)
    assert warnings(caplog) == []
