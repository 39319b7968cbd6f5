"""The routes through which a node is watched and operated over HTTP. Any node will do: what only the leader
can do is handed on to it by the server.

What changes something is done only for who means it: a page in somebody's browser can send requests to
addresses that its visitor can reach, but not with a `content-type` of `application/json` unless asked (CORS),
and never without an `Origin`. Nor may it come under a name of its own for this address (DNS rebinding): who
gives a host name must give one that is this node's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from raft_io.core.status import FollowerStatus, Status
from raft_io.core.types import Index, Membership, NodeId, Snapshot
from raft_io.errors import (
    RaftError,
)
from raft_io.server.address import Address
from raft_io.server.arguments import (
    LONGEST_TIMEOUT,
    TIMEOUT,
    RefusedError,
    addresses_of,
    body_of,
    check_type,
    flag_of,
    id_of,
    ids_of,
    parameters_of,
    problem,
    timeout_of,
)
from raft_io.server.backup import Backup, blocks
from raft_io.server.http import Answer, Handler, Reply, Request, Routes, Stream

__all__ = ["Admin", "Operated", "status_fields"]

log = logging.getLogger("raft_io.server")

GLANCE: Final = 1.0
"""Seconds that another node gets to tell its status."""


class Operated(Protocol):
    """What the routes need of a `RaftServer`."""

    cluster_id: str

    @property
    def status(self) -> Status:
        """What the node is at this moment."""

    @property
    def addresses(self) -> Mapping[NodeId, str]:
        """Where the members listen for each other, as far as it is known."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The last snapshot."""

    async def change_membership(
        self,
        voters: Iterable[NodeId] | None = None,
        learners: Iterable[NodeId] | None = None,
        *,
        addresses: Mapping[NodeId, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Return once the change is committed."""

    async def transfer_leadership(self, target: NodeId | None = None, *, timeout: float = TIMEOUT) -> NodeId:
        """Return the new leader."""

    async def take_snapshot(self, *, timeout: float = TIMEOUT) -> Index:
        """Return the index of a snapshot that is durable here, and holds all that was applied before."""

    async def read(self, query: Callable[[Any], Any], *, timeout: float = TIMEOUT) -> Any:
        """Run `query` at a linearizable point."""

    async def ask(self, node: NodeId, kind: str, body: Any, *, timeout: float = TIMEOUT) -> Any:
        """What another node answers. Raises `TimeoutError`, `RaftError`."""


def status_fields(status: Status, cluster_id: str, address: Mapping[str, str]) -> dict[str, Any]:
    """What `GET /status` answers: every field of the status, by its name."""
    fields: dict[str, Any] = {"id": status.id, "cluster_id": cluster_id}
    fields.update({name: getattr(status, name) for name in Status.__match_args__})
    return fields | {
        "role": status.role.value,
        "membership": _groups(status.membership),
        "followers": [
            {name: getattr(follower, name) for name in FollowerStatus.__match_args__}
            for follower in status.followers
        ],
        "address": dict(address),
    }


def _groups(membership: Membership) -> dict[str, list[NodeId]]:
    return {
        "voters": sorted(membership.voters),
        "learners": sorted(membership.learners),
        "outgoing": sorted(membership.outgoing),
    }


Act = Callable[[Request], Awaitable[Answer]]


def _told(act: Act) -> Handler:
    """`act`, with its errors as answers."""

    async def handle(request: Request) -> Answer:
        try:
            return await act(request)
        except RefusedError as error:
            return error.reply
        except (RaftError, TimeoutError, ValueError) as error:
            return problem(error)

    return handle


class Admin:
    """The routes of one node. `address` says where it listens (filled in as the listeners start); `names` are
    the host names, besides those, by which it may be called."""

    def __init__(self, server: Operated, address: Mapping[str, str], names: Iterable[str] = ()) -> None:
        self._server = server
        self._address = address
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    def routes(self) -> Routes:
        """Who answers what."""
        return {
            "/healthz": {"GET": lambda request: Reply("ok\n")},
            "/status": {"GET": _told(self._status)},
            "/members": {"GET": _told(self._members), "POST": _told(self._meant(self._change_members))},
            "/cluster": {"GET": _told(self._cluster)},
            "/transfer": {"POST": _told(self._meant(self._transfer))},
            "/snapshot": {"POST": _told(self._meant(self._snapshot))},
            "/backup": {"GET": _told(self._meant(self._backup))},
        }

    def own_status(self) -> dict[str, Any]:
        """What this node says of itself."""
        fields = status_fields(self._server.status, self._server.cluster_id, self._address)
        fields["addresses"] = self._addresses()
        return fields

    # Guards.

    def _meant(self, act: Act) -> Act:
        """`act`, for who means it: see above."""

        async def checked_first(request: Request) -> Answer:
            self._check_origin(request)
            if request.method == "POST":
                check_type(request)
            return await act(request)

        return checked_first

    def _check_origin(self, request: Request) -> None:
        host = request.headers.get("host")
        if host is not None and not self._is_own(host):
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST, f"{host} is no name of this node; use its IP address"
            )
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            raise RefusedError(HTTPStatus.FORBIDDEN, "requests from pages of other sites are refused")

    def _is_own(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        if name in self._names or name == Address.parse(self._address.get("http", "0")).host.lower():
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    # What is told.

    async def _status(self, request: Request) -> Answer:
        parameters_of(request)
        return Reply(self.own_status())

    async def _members(self, request: Request) -> Answer:
        parameters_of(request)
        return Reply(self._membership())

    def _membership(self) -> dict[str, Any]:
        status = self._server.status
        return {
            "id": status.id,
            **_groups(status.membership),
            "addresses": self._addresses(),
            "leader": status.leader,
        }

    def _addresses(self) -> dict[str, str]:
        return {str(node): address for node, address in sorted(self._server.addresses.items())}

    async def _cluster(self, request: Request) -> Answer:
        """Every member as it sees itself, `status` `null` where it does not answer."""
        timeout = timeout_of(request, GLANCE)
        membership = self._server.status.membership
        everyone = sorted(
            membership.voters | membership.learners | membership.outgoing | {self._server.status.id}
        )
        states = await asyncio.gather(*[self._state(node, timeout) for node in everyone])
        addresses = self._addresses()
        nodes = [
            {"id": node, "address": addresses.get(str(node)), "status": state}
            for node, state in zip(everyone, states, strict=True)
        ]
        return Reply(
            {
                "cluster_id": self._server.cluster_id,
                "asked": self._server.status.id,
                "members": self._membership(),
                "nodes": nodes,
            }
        )

    async def _state(self, node: NodeId, timeout: float) -> Any:
        if node == self._server.status.id:
            return self.own_status()
        try:
            async with asyncio.timeout(timeout):
                return await self._server.ask(node, "status", None, timeout=timeout)
        except (RaftError, TimeoutError):
            return None

    # What is done.

    async def _change_members(self, request: Request) -> Answer:
        timeout = timeout_of(request)
        fields = body_of(request, ("voters", "learners", "addresses"))
        if not fields:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "nothing to change was named")
        voters = ids_of(fields["voters"], "voters") if "voters" in fields else None
        learners = ids_of(fields["learners"], "learners") if "learners" in fields else None
        addresses = addresses_of(fields.get("addresses", {}))
        if voters == []:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "voters must name at least one node")
        log.info("node %s: asked to change the members: %s", self._server.status.id, fields)
        await self._server.change_membership(voters, learners, addresses=addresses, timeout=timeout)
        return Reply(self._membership())

    async def _transfer(self, request: Request) -> Answer:
        timeout = timeout_of(request)
        fields = body_of(request, ("target",))
        target = fields.get("target")
        if target is not None:
            target = id_of(target, "target")
        log.info(
            "node %s: asked to hand leadership over to %s",
            self._server.status.id,
            "anybody" if target is None else target,
        )
        return Reply({"leader": await self._server.transfer_leadership(target, timeout=timeout)})

    async def _snapshot(self, request: Request) -> Answer:
        timeout = timeout_of(request)
        body_of(request, ())
        return Reply(
            {"id": self._server.status.id, "index": await self._server.take_snapshot(timeout=timeout)}
        )

    async def _backup(self, request: Request) -> Answer:
        """A fresh snapshot: every write is in it that was acknowledged before the request. With `local=true`,
        what this node has, for when there is no leader."""
        timeout = timeout_of(request, LONGEST_TIMEOUT, "local")
        if not flag_of(request, "local"):
            await self._server.read(lambda machine: None, timeout=min(timeout, TIMEOUT))
        await self._server.take_snapshot(timeout=timeout)
        snapshot = self._server.snapshot
        if snapshot is None:
            raise RefusedError(HTTPStatus.CONFLICT, "nothing was ever written: there is nothing to back up")
        backup = Backup.of(snapshot, self._server.cluster_id, self._server.status.id, time.time())
        name = f"raft-io-{snapshot.index}.backup"
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        return Stream(blocks(backup, snapshot), backup.total, headers)
