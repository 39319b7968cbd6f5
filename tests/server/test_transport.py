"""Peers that misbehave: each is refused in one line, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.server.hosts import Trio, eventually, free_ports, listener, read_frames, run, trio, warnings

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    RequestVote,
    RequestVoteReply,
    wire,
)
from raft_io.server import frames, link, transport
from raft_io.server.frames import Greeting
from raft_io.server.transport import Refusals

HELLO = Greeting("raft-io", 2, 7, "127.0.0.1:1").encode(frames.HELLO)
"""Of a node 2 that nobody has met yet."""


def incarnation_of(data_dir: Path) -> int:
    """What the node introduces itself with."""
    found: int = json.loads((data_dir / "identity.json").read_text())["incarnation"]
    return found


def message(sent: Any) -> bytes:
    return frames.encode(frames.MESSAGE, wire.encode(sent))


def greeting(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "cluster_id": "raft-io",
        "node": 2,
        "incarnation": 7,
        "address": "127.0.0.1:1",
        **changes,
    }
    return Greeting(**fields).encode(frames.HELLO)


def hostile(incarnation: int) -> dict[str, tuple[bytes, str]]:
    """What to send, and why it is refused. `incarnation`: that of the real node 2."""
    hello = greeting(incarnation=incarnation)
    return {
        "noise": (random.Random(1).randbytes(4096), "bytes; 1 to 1024 are accepted"),
        "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bytes; 1 to 1024 are accepted"),
        "a huge frame": (
            struct.pack("<IB", 2**32 - 1, frames.HELLO),
            "4294967295 bytes; 1 to 1024 are accepted",
        ),
        "an empty frame": (bytes(5), "a frame of 0 bytes"),
        "no greeting": (message(RequestVote(9, 2, 0, 0)), "a frame before the greeting"),
        "wrong magic": (frames.encode(frames.HELLO, b"kafka-1\0" + bytes(20)), "no raft-io server"),
        "a short greeting": (frames.encode(frames.HELLO, b"raft-io\0"), "a greeting that ends early"),
        "a newer version": (
            greeting(version=3),
            "protocol version 3 is newer than 2, which this side speaks",
        ),
        "an older version": (
            greeting(version=1),
            "protocol version 1 is older than 2, which this side speaks",
        ),
        "wrong cluster": (greeting(cluster_id="a\nb"), r"cluster 'a\nb'; this is cluster 'raft-io'"),
        "wrong node": (greeting(node=9), "node 9 is no peer of node 1"),
        "own id": (greeting(node=1), "node 1 is this node itself"),
        "half a greeting": (hello[:20], "no greeting in 0.2 seconds"),
        "nothing": (b"", "no greeting in 0.2 seconds"),
        "two greetings": (hello + hello, "a frame of unknown type 1"),
        "an unknown frame": (hello + frames.encode(99, b"x"), "a frame of unknown type 99"),
        "no message": (hello + frames.encode(frames.MESSAGE, b"\xff" * 40), "malformed message"),
        "in another's name": (hello + message(RequestVote(9, 3, 0, 0)), "a message in the name of node 3"),
        "another's vote": (hello + message(RequestVoteReply(9, True, 3)), "a message in the name of node 3"),
        "another's entries": (hello + message(AppendEntries(9, 3, 0, 0, (), 0)), "in the name of node 3"),
        "another's reply": (hello + message(AppendEntriesReply(9, True, 3, 0)), "in the name of node 3"),
        "no entry": (hello + frames.encode(frames.FORWARD, b"rubbish"), "a forwarded entry that is none"),
        "no refusal": (hello + frames.encode(frames.REFUSED, b"rubbish"), "a refusal of the wrong length"),
        "another life": (greeting(), "node 2 comes with another data directory than the one it is known by"),
        "no data": (greeting(incarnation=8, joining=True), "raft-io serve --join"),
        "no call": (hello + frames.encode(frames.CALL, b"x"), "a call that ends early"),
        "no answer": (hello + frames.encode(frames.REPLY, b"x"), "an answer that ends early"),
        "no table": (hello + frames.encode(frames.MEMBERS, bytes(8)), "a body that is no JSON"),
        "no notice": (hello + frames.encode(frames.REMOVED, b"x"), "a notice of removal of the wrong length"),
        "no join": (frames.encode(frames.JOIN, b"\x02"), "a request to join that makes no sense"),
        "to join another cluster": (
            frames.encode_join(Greeting("other", 9, 7, "127.0.0.1:1"), False),
            "cluster 'other'",
        ),
        "to join as this very node": (
            frames.encode_join(Greeting("raft-io", 1, 7, "127.0.0.1:1"), False),
            "node 1 is this node itself",
        ),
    }


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "GREETING_TIMEOUT", 0.2)


@pytest.mark.usefixtures("impatient")
def test_who_misbehaves_is_refused_in_one_line_each_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def attack(port: int, data: bytes, reason: str) -> None:
        caplog.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        said = await asyncio.wait_for(read_frames(reader), 5)
        writer.close()
        rejects = [body.decode() for kind, body in said if kind == frames.REJECT]
        assert len(rejects) == 1, said
        assert reason in rejects[0]
        assert rejects[0].startswith(frames.STRANGER) == ("another data directory" in rejects[0])
        lines = [line for line in warnings(caplog) if "refused connection" in line]
        assert len(lines) == 1, lines
        assert "\n" not in lines[0]
        assert rejects[0] in lines[0]

    async def test() -> None:
        async with trio(tmp_path) as cluster:
            # Only a port that no peer fights for: node 2 is away.
            await cluster.stop(2)
            await cluster.servers[1].propose(b"before", timeout=20)
            term = cluster.servers[1].status.term
            for data, reason in hostile(incarnation_of(tmp_path / "node-2")).values():
                await attack(cluster.ports[0], data, reason)
            assert await cluster.servers[3].propose(b"after", timeout=20) == b"2"
            assert cluster.servers[1].status.term == term, "nobody's word but a peer's moves the term"
            await cluster.start(2)
            assert await cluster.servers[2].read(lambda m: list(m.history), timeout=20) == [
                b"before",
                b"after",
            ]

    run(test)


def test_those_that_do_not_introduce_themselves_are_few_and_keep_no_peer_away_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "GREETING_TIMEOUT", 2.0)

    async def test() -> None:
        async with trio(tmp_path) as cluster:
            idle = [await asyncio.open_connection("127.0.0.1", cluster.ports[0]) for _ in range(100)]
            for reader, _ in idle[transport.MAX_STRANGERS :]:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(1), 1.5) == b""
            # The peers that are connected are not among them.
            await cluster.servers[1].propose(b"a", timeout=20)
            for reader, _ in idle[: transport.MAX_STRANGERS]:
                assert [kind for kind, _ in await read_frames(reader)] == [frames.REJECT]
            for _, writer in idle:
                writer.close()
            await cluster.stop(2)
            await cluster.start(2)
            assert await cluster.servers[2].propose(b"b", timeout=20) == b"2"
        lines = [line for line in warnings(caplog) if "introduced" in line]
        assert len(lines) == 1, lines

    run(test)


def test_a_frame_at_the_limit_from_a_peer_is_taken_and_a_larger_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME", 100_000)

    async def test() -> None:
        cluster = Trio(tmp_path)
        await cluster.start(1, max_batch_bytes=1000)
        for extra, refused in ((0, 0), (1, 1)):
            caplog.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", cluster.ports[0])
            writer.write(HELLO)
            await reader.readexactly(len(HELLO))
            # To a node that does not lead: it is dropped, after it was taken.
            writer.write(frames.encode(frames.FORWARD, b"\x01\x02" + bytes(100_000 - 3 + extra)))
            await asyncio.sleep(0.05)
            writer.write_eof()
            said = await asyncio.wait_for(read_frames(reader), 5)
            writer.close()
            assert {kind for kind, _ in said} <= {frames.REJECT}
            assert len([line for line in warnings(caplog) if "a frame of 100001 bytes" in line]) == refused
        await cluster.stop(1)

    run(test)


def test_a_peer_that_dials_anew_replaces_its_old_connection(tmp_path: Path) -> None:
    async def test() -> None:
        cluster = Trio(tmp_path)
        await cluster.start(1)
        first, first_writer = await asyncio.open_connection("127.0.0.1", cluster.ports[0])
        first_writer.write(HELLO)
        await first.readexactly(len(HELLO))
        second, second_writer = await asyncio.open_connection("127.0.0.1", cluster.ports[0])
        second_writer.write(HELLO)
        await second.readexactly(len(HELLO))
        assert await asyncio.wait_for(read_frames(first), 5) == []
        second_writer.write(message(RequestVote(5, 2, 0, 0)))
        await eventually(lambda: cluster.servers[1].status.term >= 5)
        for writer in (first_writer, second_writer):
            writer.close()
        await cluster.stop(1)

    run(test)


def test_who_dials_a_wrong_address_loses_no_connection_by_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raft_io.server")

    async def test() -> None:
        async with trio(tmp_path) as cluster:
            caplog.clear()
            hello = greeting(incarnation=incarnation_of(tmp_path / "node-2"))
            dialled = []
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", cluster.ports[0])
                writer.write(hello)
                await reader.readexactly(len(cluster.servers[1]._cluster.greeting.encode(frames.WELCOME)))
                dialled.append((reader, writer))
            # Of those that say nothing more the last alone is kept.
            for reader, _ in dialled[:-1]:
                await asyncio.wait_for(read_frames(reader), 5)
            for _, writer in dialled:
                writer.close()
            await asyncio.sleep(0.1)
            assert await cluster.servers[2].propose(b"x") == b"1"
            assert [line for line in caplog.messages if "lost the connection" in line] == []

    run(test)


def test_idle_connections_do_not_keep_a_server_from_stopping(tmp_path: Path) -> None:
    async def test() -> None:
        cluster = Trio(tmp_path)
        await cluster.start(1)
        streams = [await asyncio.open_connection("127.0.0.1", cluster.ports[0]) for _ in range(50)]
        await asyncio.wait_for(cluster.stop(1), 3)
        for reader, writer in streams:
            assert await asyncio.wait_for(read_frames(reader), 3) == []
            writer.close()

    run(test)


# The other direction: this node dials.


def behave_badly(kind: str) -> Callable[[socket.socket], None]:
    answers: dict[str, bytes] = {
        "closes at once": b"",
        "talks noise": os.urandom(4096) + b"\xff" * 8,
        "refuses": frames.encode(frames.REJECT, b"no\nway"),
        "is another node": Greeting("raft-io", 3, 1, "127.0.0.1:1").encode(frames.WELCOME),
        "is of another cluster": Greeting("other", 2, 1, "127.0.0.1:1").encode(frames.WELCOME),
        "speaks another version": Greeting("raft-io", 2, 1, "127.0.0.1:1", version=9).encode(frames.WELCOME),
        "speaks after the greeting": Greeting("raft-io", 2, 1, "127.0.0.1:1").encode(frames.WELCOME)
        + message(RequestVote(9, 2, 0, 0)),
    }

    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answers[kind])
        if kind != "closes at once":
            connection.recv(4096)

    return behave


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("closes at once", "it closed the connection"),
        ("talks noise", "are accepted"),
        ("refuses", r"it refuses: 'no\nway'"),
        ("is another node", "node 3 answers there"),
        ("is of another cluster", "cluster 'other'"),
        ("speaks another version", "protocol version 9 is newer than 2"),
    ],
)
def test_who_answers_in_a_peer_s_place_is_reported_once_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, reason: str
) -> None:
    async def test() -> None:
        cluster = Trio(tmp_path)
        with listener(behave_badly(kind), cluster.ports[1]):
            await cluster.start(1)
            await asyncio.sleep(0.6)
            await cluster.stop(1)

    run(test)
    lines = [line for line in warnings(caplog) if "cannot reach node 2" in line]
    assert len(lines) == 1
    assert reason in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.usefixtures("impatient")
def test_a_peer_that_accepts_and_says_nothing_is_given_up_and_stop_does_not_wait_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def silent(connection: socket.socket) -> None:
        connection.recv(4096)
        threading.Event().wait(1)

    async def test() -> None:
        cluster = Trio(tmp_path)
        with listener(silent, cluster.ports[2]):
            await cluster.start(1)
            await asyncio.sleep(0.5)
            await asyncio.wait_for(cluster.stop(1), 2)

    run(test)
    assert [line for line in warnings(caplog) if "cannot reach node 3" in line and "no answer" in line]


def count_connections(kind: str, tmp_path: Path) -> int:
    seen: list[int] = []
    behave = behave_badly(kind)

    def counted(connection: socket.socket) -> None:
        seen.append(1)
        behave(connection)

    async def test() -> None:
        cluster = Trio(tmp_path)
        with listener(counted, cluster.ports[1]):
            await cluster.start(1)
            await asyncio.sleep(1.5)
            await cluster.stop(1)

    run(test)
    return len(seen)


@pytest.mark.parametrize("kind", ["closes at once", "speaks after the greeting"])
def test_a_peer_that_drops_every_connection_is_dialled_less_and_less(tmp_path: Path, kind: str) -> None:
    # 25 to 50 ms, 50 to 100, ... up to a second: half a dozen in one and a half; without a back-off, forty.
    assert 2 <= count_connections(kind, tmp_path) <= 8


def test_a_host_that_can_be_no_host_is_reported_and_the_others_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        cluster = Trio(tmp_path)
        cluster.peers[3] = "no..host:1"
        await cluster.start(1)
        cluster.peers[3] = f"127.0.0.1:{cluster.ports[2]}"
        await cluster.start(2)
        assert await cluster.servers[1].propose(b"x", timeout=20) == b"1"
        for node in (1, 2):
            await cluster.stop(node)

    run(test)
    assert len([line for line in warnings(caplog) if "at no..host:1" in line]) == 1


def test_a_follower_that_stops_reading_for_a_while_catches_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            leader = await cluster.leader()
            away = next(node for node in cluster.servers if cluster.servers[node] is not leader)
            await cluster.stop(away)
            # Bound and listening, but nobody accepts: as a stopped process looks from outside.
            with socket.create_server(("127.0.0.1", cluster.ports[away - 1])):
                for _ in range(20):
                    await leader.propose(bytes(100_000), timeout=20)
            back = await cluster.start(away)
            assert await back.read(lambda machine: len(machine.history), timeout=20) == 20

    run(test)


def test_connections_are_reported_one_line_each_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raft_io.server")

    async def test() -> None:
        cluster = Trio(tmp_path, size=2)
        for node in (1, 2):
            await cluster.start(node)
        await cluster.leader()
        await cluster.stop(2)
        await eventually(
            lambda: any("lost the connection" in record.getMessage() for record in caplog.records)
        )
        await cluster.stop(1)

    run(test)
    said = [record.getMessage() for record in caplog.records if record.name == "raft_io.server"]
    assert sum("node 1: connected to node 2 at 127.0.0.1:" in line for line in said) == 1
    assert (
        sum("node 1: lost the connection to node 2: it closed the connection" in line for line in said) == 1
    )


def test_free_ports_are_free() -> None:
    [port] = free_ports(1)
    socket.create_server(("127.0.0.1", port)).close()


def test_a_node_that_is_refused_again_and_again_is_one_line_a_minute() -> None:
    refusals = Refusals()
    two, three = Greeting("c", 2, 7, "h:1"), Greeting("c", 3, 7, "h:1")
    assert refusals.are_news(two, "why", 100.0)
    assert not refusals.are_news(two, "why", 159.0)
    assert refusals.are_news(two, "why else", 159.0)
    assert refusals.are_news(three, "why", 159.0)
    assert refusals.are_news(Greeting("c", 2, 8, "h:1"), "why", 159.0)
    assert refusals.are_news(two, "why", 160.0)
    assert not refusals.are_news(two, "why", 161.0)
