"""What the tests of commands that operate nodes share: the nodes, and what is printed."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.server.operated import Pretended, hosted, status_of

from raft_io import Membership, Snapshot
from raft_io.cli.main import main
from raft_io.core.status import FollowerStatus

__all__ = ["caught_up", "dead", "error", "listening", "ready", "response", "running", "said"]


@contextmanager
def running(server: Pretended) -> Iterator[str]:
    """Serve a pretended node; gives its address."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with hosted(server) as address:
            found.append(str(address))
            ready.set()
            await end.wait()

    end = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()


@contextmanager
def dead() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """Something that takes one connection after the other, and answers so; with `None` not at all."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                if answer is None:
                    held.append(peer)
                    continue
                with peer:
                    peer.recv(65536)
                    peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for peer in held:
            peer.close()


def response(status: int, body: bytes) -> bytes:
    """An answer over HTTP."""
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def ready() -> Pretended:
    """A node that can do everything, and has a state to back up."""
    server = Pretended()
    caught_up(server)
    server.moved = caught_up
    server.snapshot = Snapshot(50, 4, Membership([1]), b"state")
    return server


def caught_up(server: Pretended) -> None:
    """The leader sees that every follower has all of the log."""
    membership = server.status.membership
    followers = [
        FollowerStatus(node, "replicate", 60, 71, 0)
        for node in sorted(membership.voters | membership.learners)
        if node > 1
    ]
    server.status = status_of(membership=membership, followers=followers)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    """What a command prints: to standard output, or, when it fails, in one line to standard error."""
    assert main(arguments) == status
    captured = capsys.readouterr()
    if status:
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("raft-io: ")
        return [captured.err.removeprefix("raft-io: ").strip()]
    assert captured.err == ""
    return [" ".join(line.split()) for line in captured.out.splitlines()]


def error(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    """The line of a command that fails."""
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("raft-io: ") and captured.err.count("\n") == 1
    return captured.err.removeprefix("raft-io: ").strip()
