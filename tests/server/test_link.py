"""The way to a peer: what waits for it, and where it is looked for."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from typing import Any

import pytest
from tests.server.hosts import eventually, free_ports, listener, run, warnings

from raft_io import (
    AppendEntries,
    InstallSnapshot,
    Membership,
    wire,
)
from raft_io.server import frames, link
from raft_io.server.address import Address
from raft_io.server.frames import Greeting
from raft_io.server.link import Link


def message(sent: Any) -> bytes:
    return frames.encode(frames.MESSAGE, wire.encode(sent))


class Host:
    """The least that a link needs."""

    greeting = Greeting("raft-io", 1, 1, "127.0.0.1:1")

    def __init__(self) -> None:
        self.restored: list[int] = []

    def objection(self, greeting: Greeting) -> str | None:
        return None

    def disowned(self, peer: int) -> None:
        raise AssertionError

    def removal(self, node: int) -> int:
        return 0

    def greeted(self, greeting: Greeting) -> None:
        raise AssertionError

    def left(self, peer: int) -> None:
        raise AssertionError

    def join(self, greeting: Greeting, learner: bool, answer: Any) -> None:
        raise AssertionError

    def link_restored(self, peer: int) -> None:
        self.restored.append(peer)

    def frame(self, peer: int, kind: int, body: bytes) -> None:
        raise AssertionError


def test_what_waits_for_a_peer_that_does_not_read_is_bounded_and_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link, "MAX_UNSENT", 1_000_000)
    ended = threading.Event()

    def deaf(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(Greeting("raft-io", 2, 1, "127.0.0.1:1").encode(frames.WELCOME))
        ended.wait(20)

    async def test() -> None:
        with listener(deaf) as port:
            host = Host()
            way = Link(host, 2, (Address("127.0.0.1", port),), random.Random(1))
            way.send([b"dropped: there is no connection yet"])
            await eventually(lambda: host.restored)
            sizes = []
            for _ in range(200):
                way.send([bytes(100_000)] * 20)
                await asyncio.sleep(0)
                assert way._transport is not None
                sizes.append(way._transport.get_write_buffer_size())
            assert 1_000_000 <= max(sizes) <= 1_100_000, "bounded, by a frame above the limit"
            way.close()
            await asyncio.gather(way.task, return_exceptions=True)
            ended.set()

    run(test)
    assert warnings(caplog) == []


class Lost(asyncio.Transport):
    """A connection that was lost a moment ago: as uvloop has it, writing raises."""

    def __init__(self, closing: bool) -> None:
        super().__init__()
        self._closing = closing

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: object) -> None:
        raise RuntimeError("unable to perform operation on a closed transport; the handler is closed")


@pytest.mark.parametrize("closing", [True, False])
def test_sending_over_a_connection_that_was_lost_a_moment_ago_loses_only_that(closing: bool) -> None:
    async def test() -> None:
        way = Link(Host(), 2, (Address("127.0.0.1", free_ports(1)[0]),), random.Random(1))
        way._transport = Lost(closing)
        way.send([b"frame"])
        way._transport = None
        way.close()
        await asyncio.gather(way.task, return_exceptions=True)

    run(test)


def piece(number: int) -> bytes:
    """A piece of a snapshot."""
    return message(
        InstallSnapshot(
            1, 1, number, 1, Membership([1]), 0, bytes(256 * 1024), False, size=1 << 30, checksum=1
        )
    )


def test_heartbeats_overtake_the_pieces_of_a_snapshot_and_pieces_are_dropped_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "MAX_BULK", 8 * 256 * 1024)
    heartbeat = message(AppendEntries(1, 1, 0, 0, (), 0))
    reading, done = threading.Event(), threading.Event()
    seen: list[bytes] = []

    def slow(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.recv(4096)
        connection.sendall(Greeting("raft-io", 2, 1, "127.0.0.1:1").encode(frames.WELCOME))
        reading.wait(20)
        cut = frames.Frames(frames.MAX_FRAME)
        while seen.count(heartbeat) < 3 or not done.is_set():
            seen.extend([frames.encode(kind, body) for kind, body in cut.feed(connection.recv(1 << 20))])

    async def test() -> None:
        with listener(slow) as port:
            host = Host()
            way = Link(host, 2, (Address("127.0.0.1", port),), random.Random(1))
            await eventually(lambda: host.restored)
            assert way._transport is not None
            way._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
            for number in range(1, 41):
                way.send([piece(number)])
            for _ in range(3):
                way.send([piece(99), heartbeat])
            assert way._transport.get_write_buffer_size() < 2 * 256 * 1024, "the pieces wait elsewhere"
            reading.set()
            await eventually(lambda: seen.count(heartbeat) == 3)
            await eventually(lambda: not way._bulk)
            done.set()
            way.send([heartbeat])
            way.close()
            await asyncio.gather(way.task, return_exceptions=True)

    run(test)
    first = seen.index(heartbeat)
    assert seen[first : first + 3] == [heartbeat] * 3, "they left at once, together"
    assert first <= 24, "what had left before"
    assert len(seen) - 3 <= first + 10, "and the rest of the pieces was dropped"


def test_of_several_addresses_the_one_is_used_at_which_the_peer_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(Greeting("raft-io", 2, 1, "127.0.0.1:1").encode(frames.WELCOME))
        connection.recv(4096)

    def other(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(Greeting("raft-io", 3, 1, "127.0.0.1:1").encode(frames.WELCOME))
        connection.recv(4096)

    async def test() -> None:
        with listener(answer) as right, listener(other) as wrong:
            host = Host()
            addresses = (Address("127.0.0.1", wrong), Address("127.0.0.1", right))
            way = Link(host, 2, addresses, random.Random(1))
            await eventually(lambda: host.restored)
            # It is told that the peer has moved: to where it does not answer, and back.
            way.readdress((Address("127.0.0.1", wrong),))
            await eventually(lambda: way._transport is None)
            way.readdress(addresses)
            await eventually(lambda: len(host.restored) == 2)
            way.readdress(addresses[1:])
            await asyncio.sleep(0.05)
            assert len(host.restored) == 2, "where it is connected is still among them"
            way.leave()
            await asyncio.wait_for(asyncio.gather(way.task, return_exceptions=True), 5)

    run(test)
    assert {line for line in warnings(caplog) if "node 3 answers there" not in line} == set()


def test_a_peer_that_is_let_go_gets_what_was_sent_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "GRACE", 0.3)
    got: list[bytes] = []
    deaf = threading.Event()

    def reads(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(Greeting("raft-io", 2, 1, "127.0.0.1:1").encode(frames.WELCOME))
        deaf.wait(0.1 if not got else 5)
        while data := connection.recv(65536):
            got.append(data)

    async def test() -> None:
        with listener(reads) as port:
            for _ in range(2):
                host = Host()
                way = Link(host, 2, (Address("127.0.0.1", port),), random.Random(1))
                way.leave()  # nothing was sent yet: it ends at once
                await asyncio.gather(way.task, return_exceptions=True)
                way = Link(host, 2, (Address("127.0.0.1", port),), random.Random(1))
                await eventually(lambda host=host: host.restored)  # type: ignore[misc]
                way.send([b"farewell" * 1000])
                way.leave()
                way.leave()
                way.send([b"more"])
                await asyncio.wait_for(asyncio.gather(way.task, return_exceptions=True), 5)
                assert way._transport is None
                await eventually(lambda: got)
            deaf.set()

    run(test)
    assert b"".join(got).startswith(b"farewell" * 1000)
