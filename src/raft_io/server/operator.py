"""What an operator asks of a cluster through any of its servers: changes of membership, transfers.

The server that is asked finds the leader and asks it, again and again until the deadline: each step may be
repeated, so that it does no harm if a leader carried it out and was lost before it could say so. What only
the leader does is in `Leading`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from raft_io.core.config import RaftConfig
from raft_io.core.events import ChangeMembership, Event, TransferLeadership
from raft_io.core.node import RaftNode
from raft_io.core.status import FollowerStatus
from raft_io.core.types import Index, Membership, NodeId, Term, checked
from raft_io.errors import (
    MembershipChangeInProgressError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    TransferInProgressError,
)
from raft_io.server import frames
from raft_io.server.address import Address
from raft_io.server.calls import BegunError, Calls, NoAnswerError
from raft_io.server.envelope import Member
from raft_io.server.membership import Members, everyone, membership_index
from raft_io.server.promotion import Promotion, names
from raft_io.server.settings import MAX_NAME

__all__ = ["Leading", "Operated", "Operator"]

GLANCE: Final = 0.02
"""Seconds between two looks at how far something is."""

ROUND: Final = 5.0
"""Seconds after which a leader answers that something is not done yet; whoever wants it asks again."""


class Operated(Protocol):
    """What operations need of the server."""

    config: RaftConfig
    members_known: Members

    @property
    def node(self) -> RaftNode:
        """The server's node."""

    @property
    def tick_interval(self) -> float:
        """Seconds of a tick."""

    def operate(self, event: Event) -> asyncio.Future[None]:
        """Feed the node; the future raises what it raised."""

    async def set_member(self, node: NodeId, member: Member, timeout: float) -> None:
        """Replicate a row of the table of members."""

    async def read(self, query: Callable[[Any], Any], *, timeout: float) -> Any:
        """Run `query` at a linearizable point."""


class Operator:
    """The side that is asked by callers."""

    def __init__(self, server: Operated, calls: Calls) -> None:
        self._server = server
        self._calls = calls

    async def change_membership(
        self,
        voters: Iterable[NodeId] | None,
        learners: Iterable[NodeId] | None,
        addresses: Mapping[NodeId, str],
        timeout: float,
    ) -> Index:
        """Carry out a change; returns the index of the entry by which it is committed."""
        fields: dict[str, Any] = {
            "voters": None if voters is None else _ids(voters, "voters"),
            "learners": None if learners is None else _ids(learners, "learners"),
            "addresses": {str(node): checked_address(address) for node, address in addresses.items()},
        }
        _ids(addresses, "addresses")
        if voters is not None and not fields["voters"]:
            raise ValueError("a membership needs at least one voter")
        answer = await self.ask_leader(frames.CHANGE, fields, timeout)
        return int(answer["index"])

    async def transfer(self, target: NodeId | None, timeout: float) -> NodeId:
        """Hand leadership over; returns who leads once this node knows it as well."""
        fields = {"target": None if target is None else int(checked(target, "target"))}
        end = asyncio.get_running_loop().time() + timeout
        # To anybody: another leader that is asked as well would hand over once more.
        answer = await self.ask_leader(frames.TRANSFER, fields, timeout, first_only=target is None)
        leader = int(answer["leader"])
        await until(lambda: self._server.node.leader == leader, end)
        return leader

    async def ask_leader(
        self, operation: int, fields: dict[str, Any], timeout: float, *, first_only: bool = False
    ) -> dict[str, Any]:
        """What the leader answers. Whoever leads is asked until one has answered; with `first_only` nobody
        but the first, and if another leads then, the answer says just that. Raises what the leader says, or
        `NotLeaderError` when none was found in time; `TimeoutError`: one was asked, the outcome is
        unknown, or is what the leader says."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        first: NodeId | None = None
        asked = False
        while True:
            leader = self._server.node.leader
            left = end - loop.time()
            if leader is not None and left > 0:
                if first_only and first is not None and leader != first:
                    return {"leader": leader}
                first = leader
                try:
                    return await self._ask(leader, operation, fields | {"timeout": left}, left)
                except NotLeaderError as error:
                    asked = asked or isinstance(error, BegunError)
                except TransferInProgressError:
                    pass
                except NoAnswerError:
                    asked = True
            if loop.time() >= end:
                if asked:
                    raise TimeoutError("the outcome is unknown: no answer in time")
                raise NotLeaderError(self._server.node.leader)
            await asyncio.sleep(GLANCE)

    async def _ask(
        self, leader: NodeId, operation: int, fields: dict[str, Any], timeout: float
    ) -> dict[str, Any]:
        node = self._server.node
        if leader == node.id:
            try:
                async with asyncio.timeout(timeout):
                    return await self._calls.serve(operation, fields)
            except TimeoutError as error:
                raise error if str(error) else NoAnswerError from error
        term = node.term
        return await self._calls.ask(
            leader,
            operation,
            fields,
            timeout=timeout,
            while_=lambda: node.leader == leader and node.term == term,
        )


def checked_address(text: str) -> str:
    """`text`, if it is an address where a peer can be reached. Raises `ValueError`."""
    address = Address.parse(text)
    if address.port == 0:
        raise ValueError(f"{text!r} is no address of a member: its port is 0")
    if len(str(address).encode()) > MAX_NAME:
        raise ValueError(f"an address of {len(str(address).encode())} bytes; at most {MAX_NAME} are accepted")
    return str(address)


def _ids(ids: Iterable[NodeId], name: str) -> list[NodeId]:
    return sorted({int(checked(node, f"an id in {name}")) for node in ids})


class Leading:
    """The side of the leader. Everything raises `NotLeaderError` as soon as this node leads no more, and
    `TimeoutError` at the deadline, on the loop's clock."""

    def __init__(self, server: Operated) -> None:
        self._server = server
        self.lock = asyncio.Lock()
        """Who holds it changes the membership."""
        self.promotion = Promotion(self, server.config, lambda: server.node, server.tick_interval)

    @property
    def _node(self) -> RaftNode:
        return self._server.node

    @property
    def membership(self) -> Membership:
        """The one in force."""
        return self._server.node.membership

    def check(self, deadline: float) -> None:
        """Whether to go on."""
        if not self._node.is_leader:
            raise NotLeaderError(self._node.leader)
        if asyncio.get_running_loop().time() >= deadline:
            raise TimeoutError("the outcome is unknown: not done in time")

    async def pause(self, deadline: float) -> None:
        """Let others do something."""
        self.check(deadline)
        await asyncio.sleep(GLANCE)
        self.check(deadline)

    def left(self, deadline: float) -> float:
        """Seconds until the deadline."""
        return max(0.0, deadline - asyncio.get_running_loop().time())

    # Membership.

    async def change(
        self,
        voters: list[NodeId] | None,
        learners: list[NodeId] | None,
        addresses: dict[NodeId, str],
        deadline: float,
    ) -> Index:
        """Set the addresses, take new voters in as learners, and when they have caught up move to these
        members and wait until that is committed. `None`: they stay as they are.

        Raises `ValueError` also for voters of whom no majority is heard from; `BegunError` instead of
        `NotLeaderError` once something may be done; `TimeoutError` for new voters that do not catch up:
        they stay learners."""
        wanted = (voters, learners)
        async with self.lock:
            await self.catch_up(deadline)
            target = self._target(*wanted)
            self._check_addresses(addresses, target)
            newcomers = target.voters - self.membership.voters
            await self.promotion.check_majority(target, deadline, newcomers)
            if addresses:
                # A change that is under way is reported before anything is done.
                await self.settled(deadline)
            try:
                await self._set_addresses(addresses, deadline)
                if not newcomers:
                    return await self.move(target, deadline)
                await self._take_in(newcomers, deadline)
            except (NotLeaderError, TransferInProgressError) as error:
                raise BegunError(self._node.leader) from error
        try:
            return await self._promote(wanted, newcomers, deadline)
        except (NotLeaderError, TransferInProgressError) as error:
            raise BegunError(self._node.leader) from error
        except ValueError as error:
            raise TimeoutError(f"the new voters stay learners: {error}") from error

    def _target(self, voters: list[NodeId] | None, learners: list[NodeId] | None) -> Membership:
        """The members that are asked for, in full. Raises `ValueError` for those that cannot be."""
        now = self.membership
        if now.outgoing and (voters is None or learners is None):
            raise MembershipChangeInProgressError
        wanted_voters = frozenset(voters) if voters is not None else now.voters - {*(learners or ())}
        wanted_learners = frozenset(learners) if learners is not None else now.learners - wanted_voters
        return Membership(wanted_voters, wanted_learners)

    async def _take_in(self, newcomers: frozenset[NodeId], deadline: float) -> None:
        """Add those who are to be voters as learners."""
        now = self.membership
        if not newcomers <= now.learners:
            await self.move(Membership(now.voters, now.learners | newcomers), deadline)

    async def _promote(
        self,
        wanted: tuple[list[NodeId] | None, list[NodeId] | None],
        newcomers: frozenset[NodeId],
        deadline: float,
    ) -> Index:
        """Make the change when the newcomers have caught up. Others may do something meanwhile."""
        lagging = await self.promotion.lagging(newcomers, deadline)
        if lagging and newcomers <= everyone(self.membership):
            raise TimeoutError(f"new voters have not caught up in time, and stay learners: {names(lagging)}")
        async with self.lock:
            await self.catch_up(deadline)
            if not newcomers <= everyone(self.membership):
                raise MembershipChangeInProgressError
            target = self._target(*wanted)
            if not target.voters - self.membership.voters <= newcomers:
                # Somebody removed a voter meanwhile, who would come back without being a learner first.
                raise MembershipChangeInProgressError
            await self.promotion.check_majority(target, deadline)
            return await self.move(target, deadline)

    async def catch_up(self, deadline: float) -> None:
        """Wait until everything is applied here that was ever committed: the table of members is up to
        date."""
        self.check(deadline)
        await self._server.read(lambda machine: None, timeout=self.left(deadline))
        self.check(deadline)

    async def settled(self, deadline: float) -> None:
        """Wait until no change is under way."""
        while not self._is_settled():
            await self.pause(deadline)

    def _is_settled(self) -> bool:
        node = self._node
        return not node.membership.outgoing and membership_index(node.log) <= node.commit_index

    async def move(self, target: Membership, deadline: float) -> Index:
        """Move to `target`, which may be the membership already, and wait until it is committed. Call it
        with the lock held."""
        node = self._node
        asked: Term | None = None
        await self._complete_table(target, deadline)
        while True:
            self.check(deadline)
            now = node.membership
            same = (now.voters, now.learners) == (target.voters, target.learners)
            if same and self._is_settled():
                return membership_index(node.log)
            # A change that waited in a leader is gone when it loses office, also if it wins it back at once.
            if not same and asked != node.term:
                term = node.term
                if node.id not in target.voters:
                    await self._step_aside(target, deadline)
                try:
                    await self._server.operate(ChangeMembership(target.voters, target.learners))
                except MembershipChangeInProgressError:
                    now = node.membership
                    if (now.voters, now.learners) != (target.voters, target.learners):
                        raise
                asked = term
            await self.pause(deadline)

    async def _step_aside(self, target: Membership, deadline: float) -> None:
        """A leader that the change removes hands over first, so that nobody has to wait for an election."""
        heirs = [node for node in target.voters if node in self.membership.voters]
        heir = self._most_caught_up(frozenset(heirs))
        if heir is not None and self._is_settled():
            await self.transfer(heir, deadline)
            raise NotLeaderError(self._node.leader)

    def _check_addresses(self, addresses: dict[NodeId, str], target: Membership) -> None:
        """Refuse members whose address is not known; and an address that two nodes would have: whoever looks
        for one there would find the other."""
        members = self._server.members_known
        for node in sorted(everyone(target) - everyone(self.membership)):
            if node not in addresses and members.row(node) is None:
                raise ValueError(f"no address is known for node {node}: name it in addresses")
        found = {node: members.address(node) for node in everyone(self.membership)} | addresses
        for node, address in sorted(addresses.items()):
            for other in sorted(found):
                if other != node and found[other] == address:
                    raise ValueError(f"{address} is the address of node {other}: node {node} needs its own")

    async def _set_addresses(self, addresses: dict[NodeId, str], deadline: float) -> None:
        members = self._server.members_known
        for node, address in sorted(addresses.items()):
            row = members.row(node)
            known = members.met(node) if row is None or not row[1] else row[1]
            if row is None or row[0] != address:
                member = Member(address, known)
                await self._server.set_member(node, member, self.left(deadline))

    async def _complete_table(self, target: Membership, deadline: float) -> None:
        """Put every member into the table that is not there yet, so that those who come find them all."""
        members = self._server.members_known
        for node in sorted(everyone(self.membership) | everyone(target)):
            if members.row(node) is not None:
                continue
            address = members.address(node)
            # One that was never met is left out: who it is, is not known.
            if address is not None and members.met(node):
                await self._server.set_member(node, Member(address, members.met(node)), self.left(deadline))
        self.check(deadline)

    # Transfer.

    async def hand_over(self, target: NodeId | None, deadline: float) -> NodeId:
        """Hand over to `target`, or to the voter that is the most caught up. Returns who leads."""
        self.check(deadline)
        if target is None:
            await until(self._knows_followers, deadline)
            self.check(deadline)
            target = self._most_caught_up(self.membership.voters)
            if target is None:
                raise ValueError("there is no other voter that is heard from to hand leadership over to")
        return await self.transfer(target, deadline)

    async def transfer(self, target: NodeId, deadline: float) -> NodeId:
        """Hand over to `target` and wait until it leads."""
        node = self._node
        term = node.term
        await self._server.operate(TransferLeadership(target))
        if target == node.id:
            return target
        while node.is_leader and node.term == term:
            if node.status.transfer_target != target:
                raise RaftError(f"the transfer to node {target} was given up: it did not take over in time")
            await asyncio.sleep(GLANCE)
        if not await until(lambda: node.leader is not None, deadline):
            raise TimeoutError("the outcome is unknown: no leader is known yet")
        if node.leader != target:
            raise RaftError(f"node {target} did not take over; node {node.leader} leads")
        return target

    def _knows_followers(self) -> bool:
        """Whether there is no use in waiting to hear from a voter. Who was elected a moment ago has not heard
        from anybody yet."""
        if not self._node.is_leader or self._most_caught_up(self.membership.voters) is not None:
            return True
        followers = self._node.status.followers
        return not any(each.part == "voter" and self._is_recent(each) for each in followers)

    def _is_recent(self, follower: FollowerStatus) -> bool:
        return follower.silent <= self._server.config.election_timeout[0]

    def _most_caught_up(self, among: frozenset[NodeId]) -> NodeId | None:
        heard = [
            follower
            for follower in self._node.status.followers
            if follower.id in among and follower.part == "voter" and self.hears(follower)
        ]
        best = max(heard, key=lambda follower: (follower.match_index, -follower.silent), default=None)
        return None if best is None else best.id

    def hears(self, follower: FollowerStatus) -> bool:
        """Whether the follower was heard from within an election timeout."""
        return follower.state != "probe" and self._is_recent(follower)

    def follower(self, node: NodeId) -> FollowerStatus | None:
        """How the leader sees a member."""
        for follower in self._node.status.followers:
            if follower.id == node:
                return follower
        return None

    # Both, as they are asked for by other servers.

    async def serve(self, operation: int, fields: dict[str, Any]) -> dict[str, Any]:
        """Carry out what `Operator` asks."""
        deadline = deadline_of(fields)
        try:
            if operation == frames.CHANGE:
                addresses = {
                    int(checked(int(node), "an id in addresses")): checked_address(each)
                    for node, each in fields["addresses"].items()
                }
                index = await self.change(fields["voters"], fields["learners"], addresses, deadline)
                return {"index": index}
            if operation == frames.TRANSFER:
                return {"leader": await self.hand_over(fields["target"], deadline)}
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"an operation that makes no sense: {error!r}") from error
        except OverloadedError as error:
            raise OverloadedError(f"the leader: {error}") from error
        raise ValueError(f"operation {operation} is unknown here: a newer raft-io asks for it")


async def until(probe: Callable[[], bool], deadline: float) -> bool:
    """Wait until `probe` is true; whether it was, by the deadline."""
    loop = asyncio.get_running_loop()
    while True:
        if probe():
            return True
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(GLANCE)


def deadline_of(fields: dict[str, Any]) -> float:
    """When the answer is due, on the loop's clock."""
    timeout = fields.get("timeout", ROUND)
    if not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise ValueError("a timeout that makes no sense")
    return asyncio.get_running_loop().time() + min(timeout, 3600.0)
