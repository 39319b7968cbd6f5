"""Peers over TCP: every server dials every other and sends over that connection; it receives over those that
the others made. Both sides introduce themselves first (`frames.Greeting`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from raft_io.core.types import NodeId
from raft_io.errors import WireError
from raft_io.server import frames, link
from raft_io.server.address import Address, port_of, stop_listening
from raft_io.server.frames import Frames, Greeting
from raft_io.server.link import Host, Link

__all__ = ["Inbound", "Links"]

log = logging.getLogger("raft_io.server")


REPEAT: Final = 60.0
"""Seconds in which a node that is refused again and again, for the same reason, is one line."""


MAX_STRANGERS: Final = 32
"""Connections whose other side has not introduced itself as a peer. A peer does so at once; anybody else
could take all the files that the process may open, and a log that cannot be opened stops the node."""

BACKLOG: Final = 32
"""Connections that are accepted in one turn of the loop, before any of them can be refused."""


class Refusals:
    """What has been said lately of nodes that are refused."""

    def __init__(self) -> None:
        self._said: dict[tuple[NodeId, int, str], float] = {}
        self._crowded = -REPEAT

    def crowd_is_news(self, now: float) -> bool:
        """Whether it is worth a line that there are too many strangers."""
        news = now - self._crowded >= REPEAT
        if news:
            self._crowded = now
        return news

    def are_news(self, greeting: Greeting, reason: str, now: float) -> bool:
        """Whether this is worth a line."""
        key = (greeting.node, greeting.incarnation, reason)
        if now - self._said.get(key, now - REPEAT) < REPEAT:
            return False
        self._said = {known: since for known, since in self._said.items() if now - since < REPEAT}
        self._said[key] = now
        return True


class Inbound(asyncio.Protocol):
    """A connection that a peer made, over which it sends."""

    def __init__(
        self, host: Host, everyone: set[Inbound], refusals: Refusals, is_closed: Callable[[], bool]
    ) -> None:
        self._host = host
        self._is_closed = is_closed
        self._everyone = everyone
        self._refusals = refusals
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._incarnation = 0
        self._is_used = False
        """Whether the peer has sent more than its greeting."""
        self.peer: NodeId | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an assertion: uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        if self._is_closed():
            # It was on its way when the server stopped listening.
            self._transport.abort()
            return
        if sum([other.peer is None for other in self._everyone]) >= MAX_STRANGERS:
            self._turn_away()
            return
        self._patience = asyncio.get_running_loop().call_later(
            link.GREETING_TIMEOUT, self._refuse, f"no greeting in {link.GREETING_TIMEOUT:g} seconds"
        )
        self._everyone.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, body in self._frames.feed(data):
                if self.peer is not None:
                    if not self._is_used:
                        self._use()
                    self._host.frame(self.peer, kind, body)
                elif not self._greet(kind, body):
                    return
        except WireError as error:
            self._refuse(str(error))

    def _turn_away(self) -> None:
        assert self._transport is not None
        if self._refusals.crowd_is_news(asyncio.get_running_loop().time()):
            log.warning(
                "node %s: refused connection from %s: %s others have not introduced themselves as peers yet",
                self._host.greeting.node,
                self._transport.get_extra_info("peername"),
                MAX_STRANGERS,
            )
        self._transport.abort()

    def _greet(self, kind: int, body: bytes) -> bool:
        """Take the first frame; whether there may be more."""
        if kind == frames.JOIN:
            self._join(body)
            return False
        if kind != frames.HELLO:
            raise WireError("a frame before the greeting")
        greeting = Greeting.decode(body)
        against = link.objection(self._host, greeting)
        removal = 0
        if against is None:
            removal = self._host.removal(greeting.node)
            if removal == 0:
                against = self._host.objection(greeting)
        if against is not None:
            now = asyncio.get_running_loop().time()
            self._refuse(against, self._refusals.are_news(greeting, against, now))
            return False
        assert self._transport is not None
        self._rest()
        self._transport.write(self._host.greeting.encode(frames.WELCOME))
        if removal:
            log.info("node %s: told node %s that it is no member", self._host.greeting.node, greeting.node)
            self._transport.write(frames.encode_removed(removal))
            self._transport.close()
            return False
        # One that is in use stays until this one is: who dialled a wrong address hangs up here, and has lost
        # nothing. But a node that was replaced does not go on in the name of its successor.
        for other in self._others(greeting.node):
            if not other._is_used or other._incarnation != greeting.incarnation:
                other.close()
        self.peer = greeting.node
        self._incarnation = greeting.incarnation
        self._frames.limit = frames.MAX_FRAME
        self._host.greeted(greeting)
        return True

    def _others(self, peer: NodeId) -> list[Inbound]:
        return [each for each in self._everyone if each.peer == peer and each is not self]

    def _use(self) -> None:
        """The peer begins to send here: it has lost its old connection, whether that is known here or not."""
        assert self.peer is not None
        self._is_used = True
        for other in self._others(self.peer):
            other.close()

    def _join(self, body: bytes) -> None:
        greeting, learner = frames.decode_join(body)
        against = link.objection(self._host, greeting)
        if against is not None:
            self._refuse(against)
        else:
            self._rest()
            self._host.join(greeting, learner, self._answer)

    def _answer(self, fields: dict[str, Any]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frames.encode_reply(0, fields))
            self._transport.close()

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, reason: str, loud: bool = True) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        name = self._transport.get_extra_info("peername")
        level = logging.WARNING if loud else logging.DEBUG
        log.log(level, "node %s: refused connection from %s: %s", self._host.greeting.node, name, reason)
        self._transport.write(frames.encode_reject(reason))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        self._transport = None
        self._everyone.discard(self)
        if self.peer is not None and not self._others(self.peer):
            self._host.left(self.peer)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()


class Links:
    """All connections of a server: a `Link` to each peer, an `Inbound` from each, and the listener."""

    def __init__(self, rng: random.Random) -> None:
        self._host: Host | None = None
        self._closed = False
        self._inbound: set[Inbound] = set()
        self._refusals = Refusals()
        self._listener: asyncio.Server | None = None
        self._links: dict[NodeId, Link] = {}
        self._leaving: set[Link] = set()
        self._rng = rng

    async def bind(self, listen: Address) -> Address:
        """Take the port; `serve` begins to accept. Returns the address. Raises `OSError`; `close` is still
        due."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Inbound(self._belonging(), self._inbound, self._refusals, lambda: self._closed),
            listen.host,
            listen.port,
            backlog=BACKLOG,
            start_serving=False,
        )
        return Address(listen.host, port_of(self._listener))

    async def serve(self, host: Host) -> None:
        """Accept connections, for `host`."""
        assert self._listener is not None
        self._host = host
        await self._listener.start_serving()

    def _belonging(self) -> Host:
        assert self._host is not None, "connections are made after it is known whose they are"
        return self._host

    @property
    def peers(self) -> list[NodeId]:
        """Whom there are links to."""
        return list(self._links)

    def update(self, peers: Mapping[NodeId, tuple[Address, ...]]) -> None:
        """Keep links to exactly these peers, at these addresses."""
        for peer in [peer for peer in self._links if peer not in peers]:
            self._let_go(self._links.pop(peer))
        for peer, addresses in peers.items():
            known = self._links.get(peer)
            if known is None:
                self._links[peer] = Link(self._belonging(), peer, addresses, self._rng)
            else:
                known.readdress(addresses)

    def _let_go(self, leaving: Link) -> None:
        self._leaving.add(leaving)
        leaving.task.add_done_callback(lambda _: self._leaving.discard(leaving))
        leaving.leave()

    def peer_is_up(self, peer: NodeId) -> None:
        """The peer has just been heard of."""
        if peer in self._links:
            self._links[peer].peer_is_up()

    def send(self, peer: NodeId, batch: list[bytes]) -> None:
        """Send frames to `peer`, or drop them."""
        known = self._links.get(peer)
        if known is not None:
            known.send(batch)

    def hang_up(self, peer: NodeId) -> None:
        """End the connection that `peer` made."""
        for connection in [connection for connection in self._inbound if connection.peer == peer]:
            connection.close()

    async def close(self) -> None:
        """End all connections and stop listening."""
        self._closed = True
        links = [*self._links.values(), *self._leaving]
        for each in links:
            each.close()
        for connection in list(self._inbound):
            connection.close()
        if self._listener is not None:
            await stop_listening(self._listener)
        await asyncio.gather(*[each.task for each in links], return_exceptions=True)
        if self._listener is not None:
            await self._listener.wait_closed()
