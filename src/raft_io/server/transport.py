"""Peers over TCP: every server dials every other and sends over that connection; it receives over those that
the others made. Both sides introduce themselves first (`frames.Greeting`).

Raft tolerates loss: what cannot be sent is dropped, and nothing grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from raft_io.core.types import NodeId
from raft_io.errors import WireError
from raft_io.server import frames
from raft_io.server.address import Address
from raft_io.server.frames import Frames, Greeting

__all__ = ["Host", "Inbound", "Link", "Links"]

log = logging.getLogger("raft_io.server")

MAX_UNSENT: Final = 16 * 1024 * 1024
"""Bytes that wait for a slow peer; above it frames to it are dropped."""

GREETING_TIMEOUT: Final = 5.0
"""Seconds within which a connection must be made and both sides introduced."""

QUIET_FAILURES: Final = 3
"""Refused attempts to connect in a row, within half a second or so, before that is worth a line."""

SILENCE_TIMEOUT: Final = 10.0
"""Seconds for which a peer's host may leave what was sent to it unacknowledged, where the system can tell."""

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
"""Seconds between attempts to connect, doubling from the first to the longest, each shortened at random by up
to a half so that servers do not try in step."""


class Host(Protocol):
    """What the connections need of the server they belong to."""

    greeting: Greeting

    def knows(self, node: NodeId) -> bool:
        """Whether `node` is a peer of this server."""

    def link_restored(self, peer: NodeId) -> None:
        """The connection to `peer` was made anew."""

    def frame(self, peer: NodeId, kind: int, body: bytes) -> None:
        """A frame arrived from `peer`. Raises `WireError` for nonsense."""


def _objection(host: Host, greeting: Greeting) -> str | None:
    """Why `greeting` is not from a peer of this server, if it is not."""
    if greeting.cluster_id != host.greeting.cluster_id:
        return f"cluster {greeting.cluster_id!r}; this is cluster {host.greeting.cluster_id!r}"
    if greeting.node == host.greeting.node:
        return f"node {greeting.node} is this node itself"
    if not host.knows(greeting.node):
        return f"node {greeting.node} is no peer of node {host.greeting.node}"
    return None


class Inbound(asyncio.Protocol):
    """A connection that a peer made, over which it sends."""

    def __init__(self, host: Host, everyone: set[Inbound], greeted: Callable[[NodeId], None]) -> None:
        self._host = host
        self._everyone = everyone
        self._greeted = greeted
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self.peer: NodeId | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an assertion: uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._patience = asyncio.get_running_loop().call_later(
            GREETING_TIMEOUT, self._refuse, f"no greeting in {GREETING_TIMEOUT:g} seconds"
        )
        self._everyone.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, body in self._frames.feed(data):
                if self.peer is not None:
                    self._host.frame(self.peer, kind, body)
                elif not self._greet(kind, body):
                    return
        except WireError as error:
            self._refuse(str(error))

    def _greet(self, kind: int, body: bytes) -> bool:
        if kind != frames.HELLO:
            raise WireError("a frame before the greeting")
        greeting = Greeting.decode(body)
        objection = _objection(self._host, greeting)
        if objection is not None:
            self._refuse(objection)
            return False
        assert self._transport is not None
        # A peer that dials anew has lost its old connection, whether this side knows yet or not.
        for other in [other for other in self._everyone if other.peer == greeting.node]:
            other.close()
        self.peer = greeting.node
        self._frames.limit = frames.MAX_FRAME
        if self._patience is not None:
            self._patience.cancel()
        self._transport.write(self._host.greeting.encode(frames.WELCOME))
        self._greeted(self.peer)
        return True

    def _refuse(self, reason: str) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        name = self._transport.get_extra_info("peername")
        log.warning("node %s: refused connection from %s: %s", self._host.greeting.node, name, reason)
        self._transport.write(frames.encode(frames.REJECT, reason.encode()[: frames.MAX_GREETING - 1]))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._transport = None
        self._everyone.discard(self)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()


class _Outbound(asyncio.Protocol):
    """A connection that this server made, over which it sends."""

    def __init__(self, host: Host, peer: NodeId) -> None:
        self._host = host
        self._peer = peer
        self._frames = Frames()
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self._reason = "it closed the connection"
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        """Done when the connection is gone; says why."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A host that lost its power says nothing: without this it may take minutes to notice.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE_TIMEOUT * 1000))
        self.transport.write(self._host.greeting.encode(frames.HELLO))

    def data_received(self, data: bytes) -> None:
        try:
            for kind, body in self._frames.feed(data):
                self._answer(kind, body)
        except WireError as error:
            self._fail(str(error))

    def _answer(self, kind: int, body: bytes) -> None:
        if kind == frames.REJECT:
            self._fail(f"it refuses: {body.decode(errors='replace')!r}")
        elif kind == frames.WELCOME and not self.greeted.done():
            greeting = Greeting.decode(body)
            objection = _objection(self._host, greeting)
            if objection is None and greeting.node != self._peer:
                objection = f"node {greeting.node} answers there"
            if objection is not None:
                self._fail(objection)
            else:
                self.greeted.set_result(None)
        else:
            self._fail("it sends what no peer sends here")

    def _fail(self, reason: str) -> None:
        self._reason = reason
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(reason))
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(self._reason))
        if not self.lost.done():
            self.lost.set_result(self._reason)

    def drop(self) -> None:
        """Nobody wants the connection any more."""
        if self.transport is not None:
            self.transport.abort()
        if self.greeted.done() and not self.greeted.cancelled():
            self.greeted.exception()


class Link:
    """The way to one peer: connects, and connects again; one writer that sends together what is given
    together."""

    def __init__(self, host: Host, peer: NodeId, address: Address, rng: random.Random) -> None:
        self._host = host
        self._peer = peer
        self._address = address
        self._rng = rng
        self._transport: asyncio.Transport | None = None
        self._complained = ""
        self._failures = 0
        self._is_up = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())

    def send(self, batch: list[bytes]) -> None:
        """Send frames, or drop them when there is no connection or too much waits for it."""
        transport = self._transport
        # The transport may be closed already and the task that notices not yet have run.
        if transport is None or transport.is_closing():
            return
        room = MAX_UNSENT - transport.get_write_buffer_size()
        kept: list[bytes] = []
        for frame in batch:
            if room < 0:
                break
            kept.append(frame)
            room -= len(frame)
        if kept:
            # uvloop raises on a connection that was lost a moment ago: lost it is.
            with contextlib.suppress(RuntimeError):
                transport.write(kept[0] if len(kept) == 1 else b"".join(kept))

    def peer_is_up(self) -> None:
        """The peer has just been heard of: if there is no connection to it, try now."""
        self._is_up.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while True:
            self._is_up.clear()
            connection = await self._connect()
            if connection is not None:
                began = loop.time()
                self._complained = ""
                self._failures = 0
                self._transport = connection.transport
                log.info("node %s: connected to node %s at %s", self._own, self._peer, self._address)
                self._host.link_restored(self._peer)
                reason = await connection.lost
                self._transport = None
                log.info("node %s: lost the connection to node %s: %s", self._own, self._peer, reason)
                if loop.time() - began >= LONGEST_DELAY:
                    delay = FIRST_DELAY
            try:
                async with asyncio.timeout(delay * self._rng.uniform(0.5, 1.0)):
                    await self._is_up.wait()
            except TimeoutError:
                delay = min(delay * 2, LONGEST_DELAY)
            else:
                # A leader that waited longer than an election takes would be deposed by a peer that restarts.
                delay = FIRST_DELAY

    @property
    def _own(self) -> NodeId:
        return self._host.greeting.node

    async def _connect(self) -> _Outbound | None:
        loop = asyncio.get_running_loop()
        connection = _Outbound(self._host, self._peer)
        try:
            async with asyncio.timeout(GREETING_TIMEOUT):
                await loop.create_connection(lambda: connection, self._address.host, self._address.port)
                await connection.greeted
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a host that can be no host
            self._failures += 1
            # One that starts at the same time does not listen yet: no line for that.
            if not isinstance(error, ConnectionRefusedError) or self._failures > QUIET_FAILURES:
                self._complain(str(error) or "no answer")
            connection.drop()
            return None
        except asyncio.CancelledError:
            connection.drop()
            raise
        return connection

    def _complain(self, reason: str) -> None:
        # Once per reason: a peer that is down for an hour is one line, not a thousand.
        if reason != self._complained:
            self._complained = reason
            log.warning(
                "node %s: cannot reach node %s at %s: %s", self._own, self._peer, self._address, reason
            )

    def close(self) -> None:
        """End the connection and make no other."""
        self.task.cancel()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class Links:
    """All connections of a server: a `Link` to each peer, an `Inbound` from each, and the listener."""

    def __init__(self, host: Host, peers: dict[NodeId, Address], rng: random.Random) -> None:
        self._host = host
        self._inbound: set[Inbound] = set()
        self._listener: asyncio.Server | None = None
        self._links: dict[NodeId, Link] = {}
        self._peers = peers
        self._rng = rng

    async def start(self, listen: Address) -> Address:
        """Listen and connect. Returns the address listened on. Raises `OSError`; `close` is still due."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Inbound(self._host, self._inbound, self._peer_is_up),
            listen.host,
            listen.port,
            start_serving=False,
        )
        bound = self._listener.sockets[0].getsockname()
        await self._listener.start_serving()
        for peer, address in self._peers.items():
            self._links[peer] = Link(self._host, peer, address, self._rng)
        return Address(listen.host, bound[1])

    def _peer_is_up(self, peer: NodeId) -> None:
        if peer in self._links:
            self._links[peer].peer_is_up()

    def send(self, peer: NodeId, batch: list[bytes]) -> None:
        """Send frames to `peer`, or drop them."""
        link = self._links.get(peer)
        if link is not None:
            link.send(batch)

    async def close(self) -> None:
        """End all connections and stop listening."""
        if self._listener is not None:
            self._listener.close()
        for link in self._links.values():
            link.close()
        for connection in list(self._inbound):
            connection.close()
        await asyncio.gather(*[link.task for link in self._links.values()], return_exceptions=True)
        if self._listener is not None:
            await self._listener.wait_closed()
