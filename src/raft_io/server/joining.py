"""How a node without data becomes a member: it asks one, which has the leader add it as a learner and, when
it has caught up, make it a voter. Every step may be repeated; the joiner asks until it is what it wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable
from typing import Any, Final, Protocol

from raft_io.core.node import RaftNode
from raft_io.core.types import Membership, NodeId, checked
from raft_io.errors import RaftError, WireError
from raft_io.server import frames
from raft_io.server.address import Address, reason_of
from raft_io.server.calls import raise_described
from raft_io.server.envelope import Member
from raft_io.server.frames import Frames, Greeting
from raft_io.server.membership import Members, everyone, membership_index
from raft_io.server.operator import ROUND, Leading, Operated, checked_address

__all__ = ["Admission", "Joiner", "Joining", "join_fields"]

log = logging.getLogger("raft_io.server")

ANSWER_TIMEOUT: Final = 2 * ROUND
"""Seconds for which a joiner waits for an answer."""

NO_ANSWER: Final = "no answer; is that the peer address (listen) of a node, not its Redis or HTTP address?"

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
"""Seconds between two attempts, doubling from the first to the longest."""


QUIET: Final = 1.0
"""Seconds for which what passes by itself, a leader that changes for instance, is not worth a line."""


class ClosedError(RaftError):
    """The other side closed the connection without an answer."""

    is_retryable = True


def join_fields(greeting: Greeting, learner: bool) -> dict[str, Any]:
    """A request to join, as it is passed on to the leader."""
    return {
        "node": greeting.node,
        "address": greeting.address,
        "incarnation": greeting.incarnation,
        "learner": learner,
        "timeout": ROUND,
    }


class Admission:
    """The leader's side."""

    def __init__(self, server: Operated, leading: Leading) -> None:
        self._server = server
        self._leading = leading

    async def admit(self, fields: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Take the next steps for a node that wants to join; the answer says what it is then."""
        try:
            node = int(checked(fields["node"], "node"))
            incarnation = int(checked(fields["incarnation"], "incarnation"))
            address, learner = checked_address(fields["address"]), bool(fields["learner"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"a request to join that makes no sense: {error!r}") from error
        if incarnation == 0:
            raise ValueError("a request to join without an incarnation")
        leading = self._leading
        if node == self._server.config.id:
            raise ValueError(f"node {node} is running: it leads the cluster; give the new node another id")
        async with leading.lock:
            await leading.catch_up(deadline)
            await leading.settled(deadline)
            await self._retire(node, incarnation, deadline)
            if self._server.members_known.row(node) != (address, incarnation):
                await self._server.set_member(node, Member(address, incarnation), leading.left(deadline))
                leading.check(deadline)
            now = leading.membership
            if node not in everyone(now):
                await leading.move(Membership(now.voters, now.learners | {node}), deadline)
        if not learner and node not in leading.membership.voters:
            await self._promote(node, deadline)
        if node not in everyone(leading.membership):
            raise ValueError(f"node {node} was let in, and removed again meanwhile")
        part = "voter" if node in leading.membership.voters else "learner"
        return {"part": part, "index": membership_index(self._server.node.log)}

    async def _retire(self, node: NodeId, incarnation: int, deadline: float) -> None:
        """Remove a member of the same id whose data is lost. Whoever comes without it must not count as the
        one that has voted and acknowledged."""
        leading, members = self._leading, self._server.members_known
        now = leading.membership
        if node not in everyone(now):
            return
        row = members.row(node)
        known = 0 if row is None else row[1]
        if known == incarnation or (row is not None and not known and members.met(node) in (0, incarnation)):
            return
        follower = leading.follower(node)
        if follower is not None and leading.hears(follower):
            raise ValueError(
                f"node {node} is running with another data directory; give the new node another id, "
                "or stop the old one"
            )
        log.info("node %s: node %s has lost its data and is removed first", self._server.config.id, node)
        await leading.move(Membership(now.voters - {node}, now.learners - {node}), deadline)

    async def _promote(self, node: NodeId, deadline: float) -> None:
        """Make the learner a voter if it catches up in time."""
        leading = self._leading
        if await leading.promotion.lagging([node], deadline):
            return
        async with leading.lock:
            await leading.settled(deadline)
            now = leading.membership
            if node in now.learners:
                await leading.move(Membership(now.voters | {node}, now.learners - {node}), deadline)


class Joining(Protocol):
    """What the joiner's side needs of its server."""

    members_known: Members

    @property
    def greeting(self) -> Greeting:
        """How the server introduces itself."""

    @property
    def node(self) -> RaftNode:
        """The server's node."""

    @property
    def contacts(self) -> Iterable[Address]:
        """Where members may be, besides the one to begin with."""

    @property
    def is_leaving(self) -> bool:
        """Whether this node was told that it was removed."""


class Joiner:
    """The side of the node that joins."""

    def __init__(self, server: Joining, first: Address | None, learner: bool) -> None:
        self._server = server
        self._first = first
        self._learner = learner
        self._complaints: set[str] = set()
        self._unanswered: float | None = None
        """Since when nobody has answered as hoped."""

    async def run(self) -> None:
        """Ask until this node is what it wants to be."""
        if self._server.members_known.is_joining and not self._contacts():
            log.warning(
                "node %s has not joined yet: give --join HOST:PORT, or empty its data directory "
                "to begin a new cluster",
                self._server.node.id,
            )
        delay = FIRST_DELAY
        while not self._done():
            answered = False
            for contact in [] if self._server.is_leaving else self._contacts():
                answered = await self._ask(contact)
                if answered or self._done():
                    break
            delay = FIRST_DELAY if answered else min(2 * delay, LONGEST_DELAY)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
        self._server.members_known.settle()
        node = self._server.node
        part = "voter" if node.id in node.membership.voters else "learner"
        log.info("node %s: joined the cluster as a %s", node.id, part)

    def _contacts(self) -> list[Address]:
        first = [] if self._first is None else [self._first]
        return list(dict.fromkeys([*first, *self._server.contacts]))

    def _done(self) -> bool:
        node, members = self._server.node, self._server.members_known
        if members.is_joining or membership_index(node.log) > node.last_applied:
            return False
        membership = node.membership
        return node.id in membership.voters or (self._learner and node.id in membership.learners)

    async def _ask(self, contact: Address) -> bool:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await request(contact, self._server.greeting, self._learner)
            raise_described(answer)
            admitted = int(checked(answer["index"], "index"))
        except (KeyError, OSError, RaftError, TimeoutError, TypeError, ValueError) as error:
            self._complain(contact, error)
            return False
        self._unanswered = None
        self._server.members_known.admitted = admitted
        return True

    def _complain(self, contact: Address, error: Exception) -> None:
        if self._done():
            return  # the answer was lost, and is not needed any more
        now = asyncio.get_running_loop().time()
        if self._unanswered is None:
            self._unanswered = now
        if _may_pass(error) and now - self._unanswered < QUIET:
            return
        reason = reason_of(error) or NO_ANSWER
        if reason not in self._complaints:
            self._complaints.add(reason)
            log.warning("node %s: cannot join through %s: %s", self._server.node.id, contact, reason)


def _may_pass(error: Exception) -> bool:
    """Whether the next attempt may find it gone: who was asked stops, or the leader changes."""
    if isinstance(error, RaftError):
        return error.is_retryable
    return isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)


async def request(contact: Address, greeting: Greeting, learner: bool) -> dict[str, Any]:
    """Ask the server at `contact` to let this node join. Returns its answer."""
    reader, writer = await asyncio.open_connection(contact.host, contact.port)
    try:
        writer.write(frames.encode_join(greeting, learner))
        cut = Frames(frames.MAX_JSON)
        while data := await reader.read(65536):
            for kind, body in cut.feed(data):
                if kind == frames.REPLY:
                    return frames.decode_reply(body)[1]
                if kind == frames.REJECT:
                    raise RaftError(f"it refuses: {body.decode(errors='replace')!r}")
                raise WireError("it sends what no server sends here")
        raise ClosedError("it closed the connection")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
