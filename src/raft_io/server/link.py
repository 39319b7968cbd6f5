"""The way to one peer over TCP: a connection that this server makes, and makes again, to send over it.

Raft tolerates loss: what cannot be sent is dropped, and nothing grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from raft_io.core.types import NodeId
from raft_io.errors import WireError
from raft_io.server import frames
from raft_io.server.address import Address, reason_of
from raft_io.server.frames import Frames, Greeting

__all__ = ["Host", "Link", "objection"]

log = logging.getLogger("raft_io.server")

MAX_UNSENT: Final = 16 * 1024 * 1024
"""Bytes that wait for a slow peer; above it frames to it are dropped."""

MAX_BULK: Final = 4 * 1024 * 1024
"""Bytes of pieces of snapshots that wait for a slow peer, likewise."""

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


GRACE: Final = 1.0
"""Seconds in which the last frames to a peer that is let go may leave."""

MAX_COMPLAINTS: Final = 16
"""Reasons remembered for which a peer could not be reached, so that each is one line."""

GONE: Final = "it closed the connection"


class Host(Protocol):
    """What the connections need of the server they belong to."""

    @property
    def greeting(self) -> Greeting:
        """How the server introduces itself."""

    def objection(self, greeting: Greeting) -> str | None:
        """Why nothing is taken from who says this, if nothing is; else it is remembered."""

    def disowned(self, peer: NodeId) -> None:
        """`peer` refuses this server: it knows another incarnation of it."""

    def removal(self, node: NodeId) -> int:
        """The index of the membership entry by which `node` is no member, where that may be told; else 0."""

    def greeted(self, greeting: Greeting) -> None:
        """A peer has connected and introduced itself."""

    def left(self, peer: NodeId) -> None:
        """That connection is gone."""

    def link_restored(self, peer: NodeId) -> None:
        """The connection to `peer` was made anew."""

    def frame(self, peer: NodeId, kind: int, body: bytes) -> None:
        """A frame arrived from `peer`. Raises `WireError` for nonsense."""

    def join(self, greeting: Greeting, learner: bool, answer: Callable[[dict[str, Any]], None]) -> None:
        """A node wants to join; it takes one answer."""


def objection(host: Host, greeting: Greeting) -> str | None:
    """Why `greeting` is not from another server of this cluster, if it is not."""
    if greeting.cluster_id != host.greeting.cluster_id:
        return f"cluster {greeting.cluster_id!r}; this is cluster {host.greeting.cluster_id!r}"
    if greeting.node == host.greeting.node:
        return f"node {greeting.node} is this node itself"
    return None


class Outbound(asyncio.Protocol):
    """A connection that this server made, over which it sends."""

    def __init__(self, host: Host, peer: NodeId) -> None:
        self._host = host
        self._peer = peer
        self._frames = Frames()
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self._reason = GONE
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        """Done when the connection is gone; says why."""
        self.writable: Callable[[], None] | None = None
        """Called when what waited has left."""
        self.choked = False
        """Whether much waits to leave."""

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

    def pause_writing(self) -> None:
        self.choked = True

    def resume_writing(self) -> None:
        self.choked = False
        if self.writable is not None:
            self.writable()

    def _answer(self, kind: int, body: bytes) -> None:
        if kind == frames.REJECT:
            reason = body.decode(errors="replace")
            self._fail(f"it refuses: {reason!r}")
            if reason.startswith(frames.STRANGER):
                self._host.disowned(self._peer)
        elif kind == frames.REMOVED and self.greeted.done() and self._reason == GONE:
            self._reason = f"it says that node {self._host.greeting.node} is no member"
            self._host.frame(self._peer, kind, body)
        elif kind == frames.WELCOME and not self.greeted.done():
            greeting = Greeting.decode(body)
            against = objection(self._host, greeting)
            if against is None and greeting.node != self._peer:
                against = f"node {greeting.node} answers there"
            if against is None:
                against = self._host.objection(greeting)
            if against is not None:
                self._fail(against)
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
        if not self.greeted.cancel() and not self.greeted.cancelled():
            self.greeted.exception()


class Link:
    """The way to one peer: connects, and connects again; one writer that sends together what is given
    together. Of several addresses it tries one after the other until the peer answers at one."""

    def __init__(self, host: Host, peer: NodeId, addresses: tuple[Address, ...], rng: random.Random) -> None:
        self._host = host
        self._peer = peer
        self._addresses = addresses
        self._address = addresses[0]
        """The one that was tried last."""
        self._rng = rng
        self._transport: asyncio.Transport | None = None
        self._connection: Outbound | None = None
        self._bulk: deque[bytes] = deque()
        self._bulk_bytes = 0
        self._complaints: set[str] = set()
        self._failures = 0
        self._is_up = asyncio.Event()
        self._leaving: asyncio.TimerHandle | None = None
        self.task = asyncio.get_running_loop().create_task(self._run())

    def send(self, batch: list[bytes]) -> None:
        """Send frames, or drop them when there is no connection or too much waits for it. The pieces of a
        snapshot wait until everything else has left: a heartbeat that is late costs an election."""
        transport = self._transport
        # The transport may be closed already and the task that notices not yet have run.
        if transport is None or transport.is_closing() or self._leaving is not None:
            return
        room = MAX_UNSENT - transport.get_write_buffer_size()
        kept: list[bytes] = []
        for frame in batch:
            if frames.is_bulk(frame):
                if self._bulk_bytes <= MAX_BULK:
                    self._bulk.append(frame)
                    self._bulk_bytes += len(frame)
                continue
            if room < 0:
                break
            kept.append(frame)
            room -= len(frame)
        if kept:
            _write(transport, kept[0] if len(kept) == 1 else b"".join(kept))
        if self._bulk:
            self._send_bulk()

    def _send_bulk(self) -> None:
        while self._bulk and self._connection is not None and self._transport is not None:
            if self._connection.choked:
                return
            frame = self._bulk.popleft()
            self._bulk_bytes -= len(frame)
            _write(self._transport, frame)

    def readdress(self, addresses: tuple[Address, ...]) -> None:
        """The peer is reached at these addresses from now on."""
        if addresses == self._addresses:
            return
        self._addresses = addresses
        if self._address not in addresses:
            if self._transport is not None:
                self._transport.abort()
            self._is_up.set()

    def leave(self) -> None:
        """Make no other connection, and end this one when everything has left."""
        transport = self._transport
        if transport is None or transport.is_closing():
            self.task.cancel()
        elif self._leaving is None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(GRACE, transport.abort)
            transport.close()

    def peer_is_up(self) -> None:
        """The peer has just been heard of: if there is no connection to it, try now."""
        self._is_up.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while self._leaving is None:
            self._is_up.clear()
            connection = await self._connect()
            if connection is not None:
                began = loop.time()
                await self._connected(connection)
                if loop.time() - began >= LONGEST_DELAY:
                    delay = FIRST_DELAY
                if self._leaving is not None:
                    self._leaving.cancel()
                    return
            try:
                async with asyncio.timeout(delay * self._rng.uniform(0.5, 1.0)):
                    await self._is_up.wait()
            except TimeoutError:
                delay = min(delay * 2, LONGEST_DELAY)
            else:
                # A leader that waited longer than an election takes would be deposed by a peer that restarts.
                delay = FIRST_DELAY

    async def _connected(self, connection: Outbound) -> None:
        """Use the connection until it is lost."""
        self._complaints.clear()
        self._failures = 0
        self._transport = connection.transport
        self._connection = connection
        connection.writable = self._send_bulk
        log.info("node %s: connected to node %s at %s", self._own, self._peer, self._address)
        self._host.link_restored(self._peer)
        try:
            reason = await connection.lost
        finally:
            connection.writable = None
            self._transport = self._connection = None
            self._bulk.clear()
            self._bulk_bytes = 0
        log.info("node %s: lost the connection to node %s: %s", self._own, self._peer, reason)

    @property
    def _own(self) -> NodeId:
        return self._host.greeting.node

    async def _connect(self) -> Outbound | None:
        loop = asyncio.get_running_loop()
        connection = Outbound(self._host, self._peer)
        if self._failures or self._address not in self._addresses:
            self._address = self._addresses[self._failures % len(self._addresses)]
        try:
            async with asyncio.timeout(GREETING_TIMEOUT):
                await loop.create_connection(lambda: connection, self._address.host, self._address.port)
                await connection.greeted
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a host that can be no host
            self._failures += 1
            # One that starts at the same time does not listen yet: no line for that.
            if not isinstance(error, ConnectionRefusedError) or self._failures > QUIET_FAILURES:
                self._complain(reason_of(error) or "no answer")
            connection.drop()
            return None
        except asyncio.CancelledError:
            connection.drop()
            raise
        return connection

    def _complain(self, reason: str) -> None:
        # Once per reason: a peer that is down for an hour is one line, not a thousand.
        if reason not in self._complaints:
            if len(self._complaints) >= MAX_COMPLAINTS:
                self._complaints.clear()
            self._complaints.add(reason)
            log.warning(
                "node %s: cannot reach node %s at %s: %s", self._own, self._peer, self._address, reason
            )

    def close(self) -> None:
        """End the connection and make no other."""
        self.task.cancel()
        if self._leaving is not None:
            self._leaving.cancel()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


def _write(transport: asyncio.Transport, data: bytes) -> None:
    # uvloop raises on a connection that was lost a moment ago: lost it is.
    with contextlib.suppress(RuntimeError):
        transport.write(data)
