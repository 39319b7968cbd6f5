"""A server's dealings with the others: connections to exactly the members, what is said over them besides
messages and entries, and what follows when the members change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol, TypeVar

from raft_io.core.actions import MembershipChanged
from raft_io.core.config import RaftConfig
from raft_io.core.events import Event
from raft_io.core.node import RaftNode
from raft_io.core.types import Index, Membership, NodeId, Term
from raft_io.errors import IdentityError, RaftError, RemovedError, WireError
from raft_io.server import frames
from raft_io.server.address import Address
from raft_io.server.calls import BegunError, Calls
from raft_io.server.driver import Driver, Output
from raft_io.server.envelope import Member
from raft_io.server.frames import Greeting
from raft_io.server.joining import Admission, Joiner, join_fields
from raft_io.server.membership import Members, everyone
from raft_io.server.operator import Leading, Operator, deadline_of
from raft_io.server.removal import PARTING, Removal
from raft_io.server.transport import Links

__all__ = ["Callbacks", "Cluster", "Owner"]

log = logging.getLogger("raft_io.server")

MAX_JOINING: Final = 64
"""Requests to join that are under way; above it they are refused."""

Value = TypeVar("Value")


class Owner(Protocol):
    """The server, as this sees it."""

    config: RaftConfig
    cluster_id: str

    @property
    def driver(self) -> Driver:
        """What drives the node."""

    @property
    def is_running(self) -> bool:
        """Whether it takes turns."""

    @property
    def tick_interval(self) -> float:
        """Seconds of a tick."""

    def schedule(self) -> None:
        """There is something for a turn."""

    def end(self, error: Exception) -> None:
        """The server is to stop, of this."""

    async def set_member(self, node: NodeId, member: Member, timeout: float) -> None:
        """Replicate a row of the table of members."""

    async def read(self, query: Callable[[Any], Any], *, timeout: float) -> Any:
        """Run `query` at a linearizable point."""


class Callbacks:
    """What the application is told. An exception of its own is logged, and goes no further."""

    def __init__(
        self,
        on_leadership: Callable[[bool, Term], object] | None,
        on_membership: Callable[[Membership], object] | None,
        on_removed: Callable[[], object] | None,
    ) -> None:
        self._on_leadership = on_leadership
        self._on_membership = on_membership
        self._on_removed = on_removed
        self._led = False

    def leadership(self, leads: bool, term: Term) -> None:
        """The node's part, after each turn."""
        if leads != self._led:
            self._led = leads
            _call(self._on_leadership, leads, term)

    def membership(self, membership: Membership) -> None:
        """Another one is in force."""
        _call(self._on_membership, membership)

    def removed(self) -> None:
        """This node is no member any more."""
        _call(self._on_removed)


def _call(callback: Callable[..., object] | None, *arguments: object) -> None:
    if callback is not None:
        try:
            callback(*arguments)
        except Exception:
            log.exception("a bug in a callback")


class Cluster:
    """See above. `own` is the greeting of this server, as it is when it is a member."""

    def __init__(
        self, owner: Owner, own: Greeting, members: Members, links: Links, callbacks: Callbacks
    ) -> None:
        self._owner = owner
        self._own = own
        self._links = links
        self._callbacks = callbacks
        self.members_known = members
        self.config = owner.config
        self.calls = Calls(self, self._serve)
        self.leading = Leading(self)
        self.operator = Operator(self, self.calls)
        self._admission = Admission(self, self.leading)
        self._answers: dict[str, Callable[[Any], Any]] = {}
        self._membership = self.node.membership
        self._leader: NodeId | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._removing: asyncio.TimerHandle | None = None
        self._removal = Removal(self.node, members, owner.config, owner.tick_interval)
        self._parting: asyncio.TimerHandle | None = None

    # What operations and connections need of a server.

    @property
    def node(self) -> RaftNode:
        """The server's node."""
        return self._owner.driver.node

    @property
    def tick_interval(self) -> float:
        """Seconds of a tick."""
        return self._owner.tick_interval

    @property
    def greeting(self) -> Greeting:
        """How this server introduces itself."""
        own = self._own
        joining = self.members_known.is_joining
        return Greeting(own.cluster_id, own.node, own.incarnation, own.address, joining)

    @property
    def contacts(self) -> Iterable[Address]:
        """Where other members may be."""
        return [address for addresses in self.members_known.links().values() for address in addresses]

    @property
    def is_leaving(self) -> bool:
        """Whether this node was told that it was removed."""
        return self._removal.index != 0

    def operate(self, event: Event) -> asyncio.Future[None]:
        """Feed the node; the future raises what it raised."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self._owner.driver.operate(event, done)
        self._owner.schedule()
        return future

    async def set_member(self, node: NodeId, member: Member, timeout: float) -> None:
        """Replicate a row of the table of members."""
        await self._owner.set_member(node, member, timeout)

    async def read(self, query: Callable[[Any], Any], *, timeout: float) -> Any:
        """Run `query` at a linearizable point."""
        return await self._owner.read(query, timeout=timeout)

    def post(self, peer: NodeId, frame: bytes) -> None:
        """Send a frame to a peer, or drop it."""
        self._links.send(peer, [frame])

    async def _serve(self, operation: int, fields: dict[str, Any]) -> dict[str, Any]:
        if operation == frames.ASK:
            answer = self._answers.get(str(fields.get("kind")))
            if answer is None:
                raise ValueError(f"node {self.config.id} has no answer to {fields.get('kind')!r}")
            return {"answer": answer(fields.get("body"))}
        try:
            if operation == frames.JOINING:
                return await self._admission.admit(fields, deadline_of(fields))
            return await self.leading.serve(operation, fields)
        except (RaftError, TimeoutError) as error:
            if self._owner.is_running:
                raise
            # It ends in the middle of it: whoever leads next is to be asked.
            raise BegunError(None) from error

    def on_ask(self, kind: str, answer: Callable[[Any], Any]) -> None:
        """Answer other servers that `ask` for `kind`."""
        self._answers[kind] = answer

    async def ask(self, peer: NodeId, kind: str, body: Any, timeout: float) -> Any:
        """What another server answers."""
        fields = {"kind": kind, "body": body}
        if peer == self.config.id:
            return (await self._serve(frames.ASK, fields))["answer"]
        return (await self.calls.ask(peer, frames.ASK, fields, timeout=timeout))["answer"]

    # Connections (`link.Host`).

    def objection(self, greeting: Greeting) -> str | None:
        """Why nothing is taken from who says this, if nothing is."""
        if self.members_known.was_always_alone and not greeting.joining:
            # Who is a member of this cluster knows this node from before it lost its data. Alone it would
            # go on as a second cluster of the same name.
            self._owner.end(
                IdentityError(
                    f"cluster {self._own.cluster_id!r} has members already (node {greeting.node} at "
                    f"{greeting.address}), and none is known here: node {self.config.id} has lost its data; "
                    "empty its data directory and start it with --join"
                )
            )
        return self.members_known.objection(greeting)

    def disowned(self, peer: NodeId) -> None:
        """`peer` refuses this server: it knows another incarnation of it."""
        if self.members_known.has_nothing:
            # Others that have lost theirs as well would take it for what it was: together they could begin
            # a second cluster beside what is left of the first.
            self._owner.end(
                IdentityError(
                    f"node {peer} knows node {self.config.id} by another data directory than this empty one: "
                    f"node {self.config.id} has lost its data; empty its data directory and start it with "
                    "--join"
                )
            )

    def removal(self, node: NodeId) -> Index:
        """By which membership entry `node` is no member, where that may be told; else 0."""
        return self.members_known.removal(node)

    def greeted(self, greeting: Greeting) -> None:
        """A peer has connected."""
        self.members_known.greeted(greeting)
        self._relink()
        self._links.peer_is_up(greeting.node)

    def left(self, peer: NodeId) -> None:
        """A peer's connection is gone."""
        self.members_known.left(peer)
        if peer not in everyone(self.node.membership):
            self._relink()

    def link_restored(self, peer: NodeId) -> None:
        """The connection to `peer` was made anew."""
        self.post(peer, self.members_known.tell())
        self._owner.driver.link_restored(peer)
        self._owner.schedule()

    def frame(self, peer: NodeId, kind: int, body: bytes) -> None:
        """A frame arrived. Raises `WireError`."""
        if self._closing:
            return
        if kind in (frames.MESSAGE, frames.FORWARD, frames.REFUSED):
            if kind == frames.MESSAGE and frames.is_counted(body) and not self.members_known.counts(peer):
                return
            self._removal.pieces += frames.is_piece(kind, body)
            self._owner.driver.receive(peer, kind, body)
            self._owner.schedule()
        elif kind == frames.CALL:
            self.calls.called(peer, body)
        elif kind == frames.REPLY:
            self.calls.replied(peer, body)
        elif kind == frames.MEMBERS:
            self.members_known.hear(peer, *frames.decode_members(body))
            self._relink()
        elif kind == frames.REMOVED:
            if self._removal.told(frames.decode_removed(body), peer):
                self._watch_removal()
        else:
            raise WireError(f"a frame of unknown type {kind}")

    def join(self, greeting: Greeting, learner: bool, answer: Callable[[dict[str, Any]], None]) -> None:
        """A node wants to join: pass that on to the leader."""
        if self._closing:
            return
        if len(self._tasks) >= MAX_JOINING:
            answer({"error": "OverloadedError", "detail": "too many nodes are joining; try again later"})
            return
        self.spawn(self._join(join_fields(greeting, learner), answer))

    async def _join(self, fields: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        answer(await self.calls.told(self.operator.ask_leader(frames.JOINING, fields, fields["timeout"])))

    def spawn(self, work: Coroutine[Any, Any, Value]) -> asyncio.Task[Value]:
        """Run it until it ends, or the server does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """What `work` returns, for a caller: told if the server ends before."""
        task = self.spawn(work)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closing and caller is not None and not caller.cancelling():
                raise RaftError("the server stops") from None
            raise

    # Life.

    def start(self, joiner: Joiner | None) -> None:
        """Connect."""
        self._relink()
        if joiner is not None:
            self.spawn(joiner.run())

    async def close(self) -> None:
        """Give up what is under way, and all connections."""
        self._closing = True
        for timer in (self._removing, self._parting):
            if timer is not None:
                timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.calls.close()
        await self._links.close()

    # What a turn brought.

    def after_turn(self, output: Output) -> None:
        """Look at what has changed."""
        node = self.node
        for change in output.changes:
            if isinstance(change, MembershipChanged):
                self.members_known.changed(self._membership, change.membership)
                self._membership = change.membership
                self._callbacks.membership(change.membership)
        if self._removal.committed(output.changes):
            self._watch_removal()
        if output.changes:
            self._part(self._removal.farewells())
        if output.members_changed:
            self.members_known.adopt(self._owner.driver.members, node.last_applied)
        leader = node.leader
        if output.changes or output.members_changed or leader != self._leader:
            self._leader = leader
            self._relink()
        if output.changes or output.members_changed:
            told = self.members_known.tell()
            for peer in self._links.peers:
                self.post(peer, told)
        self._callbacks.leadership(node.is_leader, node.term)

    def _relink(self) -> None:
        if not self._closing:
            self._links.update(self.members_known.links())
            for stranger in self.members_known.strangers():
                self._links.hang_up(stranger)

    def _part(self, farewells: dict[NodeId, bytes]) -> None:
        """Tell those who left that they have."""
        for peer, farewell in farewells.items():
            self.post(peer, farewell)
        if farewells and self._parting is None:
            loop = asyncio.get_running_loop()
            self._parting = loop.call_later(PARTING, self._parted)

    def _parted(self) -> None:
        self._parting = None
        self.members_known.part()
        self._relink()

    def _watch_removal(self) -> None:
        loop = asyncio.get_running_loop()
        self._removing = loop.call_later(self._removal.patience, self._look_at_removal)

    def _look_at_removal(self) -> None:
        verdict = self._removal.look()
        if verdict == "wait":
            self._watch_removal()
        elif verdict == "end":
            self._callbacks.removed()
            text = f"was removed from the cluster by the entry at {self._removal.index}"
            self._owner.end(RemovedError(f"node {self.config.id} {text}"))
