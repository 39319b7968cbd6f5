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
import json
import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from raft_io.core.status import FollowerStatus, Status
from raft_io.core.types import Index, NodeId, Snapshot, checked
from raft_io.errors import (
    MembershipChangeInProgressError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    RemovedError,
    TransferInProgressError,
)
from raft_io.server.address import Address
from raft_io.server.backup import Backup, blocks
from raft_io.server.http import Answer, Handler, Reply, Request, Routes, Stream, failure

__all__ = ["Admin", "Operated", "status_fields"]

log = logging.getLogger("raft_io.server")

TIMEOUT: Final = 10.0
"""Seconds that a request may take unless it says otherwise."""

LONGEST_TIMEOUT: Final = 3600.0

GLANCE: Final = 1.0
"""Seconds that another node gets to tell its status."""

MAX_MEMBERS: Final = 1000


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
        voters: Iterable[NodeId],
        learners: Iterable[NodeId] = (),
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
    """What `GET /status` answers."""
    return {
        "id": status.id,
        "cluster_id": cluster_id,
        "role": status.role.value,
        "term": status.term,
        "leader": status.leader,
        "voted_for": status.voted_for,
        "commit_index": status.commit_index,
        "last_applied": status.last_applied,
        "last_index": status.last_index,
        "last_term": status.last_term,
        "stable_index": status.stable_index,
        "uncommitted_bytes": status.uncommitted_bytes,
        "membership": {
            "voters": sorted(status.membership.voters),
            "learners": sorted(status.membership.learners),
            "outgoing": sorted(status.membership.outgoing),
        },
        "followers": [_follower_fields(follower) for follower in status.followers],
        "address": dict(address),
    }


def _follower_fields(follower: FollowerStatus) -> dict[str, Any]:
    return {name: getattr(follower, name) for name in FollowerStatus.__match_args__}


class _RefusedError(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.reply = failure(status, kind, message)


Act = Callable[[Request], Awaitable[Answer]]


def _told(act: Act) -> Handler:
    """`act`, with its errors as answers."""

    async def handle(request: Request) -> Answer:
        try:
            return await act(request)
        except _RefusedError as error:
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
                _check_type(request)
            return await act(request)

        return checked_first

    def _check_origin(self, request: Request) -> None:
        host = request.headers.get("host")
        if host is not None and not self._is_own(host):
            raise _RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST, f"{host} is no name of this node; use its IP address"
            )
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            raise _RefusedError(HTTPStatus.FORBIDDEN, "requests from pages of other sites are refused")

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
        _parameters(request)
        return Reply(self.own_status())

    async def _members(self, request: Request) -> Answer:
        _parameters(request)
        return Reply(self._membership())

    def _membership(self) -> dict[str, Any]:
        status = self._server.status
        return {
            "voters": sorted(status.membership.voters),
            "learners": sorted(status.membership.learners),
            "outgoing": sorted(status.membership.outgoing),
            "addresses": self._addresses(),
            "leader": status.leader,
        }

    def _addresses(self) -> dict[str, str]:
        return {str(node): address for node, address in sorted(self._server.addresses.items())}

    async def _cluster(self, request: Request) -> Answer:
        """Every member as it sees itself, `status` `null` where it does not answer."""
        timeout = _timeout(request, GLANCE)
        membership = self._server.status.membership
        everyone = sorted(membership.voters | membership.learners | membership.outgoing | {self._server.status.id})
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
        timeout = _timeout(request)
        fields = _body(request, required=("voters",), optional=("learners", "addresses"))
        voters = _ids(fields["voters"], "voters")
        learners = _ids(fields.get("learners", []), "learners")
        addresses = _named_addresses(fields.get("addresses", {}), {*voters, *learners})
        if not voters:
            raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "voters must name at least one node")
        log.info("node %s: asked for voters %s, learners %s", self._server.status.id, voters, learners)
        await self._server.change_membership(voters, learners, addresses=addresses, timeout=timeout)
        return Reply({"voters": voters, "learners": learners})

    async def _transfer(self, request: Request) -> Answer:
        timeout = _timeout(request)
        fields = _body(request, optional=("target",))
        target = fields.get("target")
        if target is not None:
            target = _id(target, "target")
        log.info("node %s: asked to hand leadership over to %s", self._server.status.id, target or "anybody")
        return Reply({"leader": await self._server.transfer_leadership(target, timeout=timeout)})

    async def _snapshot(self, request: Request) -> Answer:
        timeout = _timeout(request)
        _body(request)
        return Reply({"id": self._server.status.id, "index": await self._server.take_snapshot(timeout=timeout)})

    async def _backup(self, request: Request) -> Answer:
        """A fresh snapshot: every write is in it that was acknowledged before the request. With `local=true`,
        what this node has, for when there is no leader."""
        timeout = _timeout(request, LONGEST_TIMEOUT, "local")
        if not _flag(request, "local"):
            await self._server.read(lambda machine: None, timeout=min(timeout, TIMEOUT))
        await self._server.take_snapshot(timeout=timeout)
        snapshot = self._server.snapshot
        if snapshot is None:
            raise _RefusedError(HTTPStatus.CONFLICT, "nothing was ever written: there is nothing to back up")
        backup = Backup.of(snapshot, self._server.cluster_id, self._server.status.id, time.time())
        name = f"raft-io-{snapshot.index}.backup"
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        return Stream(blocks(backup, snapshot), backup.total, headers)


STATUSES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (MembershipChangeInProgressError, HTTPStatus.CONFLICT),
    (TransferInProgressError, HTTPStatus.SERVICE_UNAVAILABLE),
    (OverloadedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (NotLeaderError, HTTPStatus.SERVICE_UNAVAILABLE),
    (RemovedError, HTTPStatus.GONE),
    (RaftError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (TimeoutError, HTTPStatus.GATEWAY_TIMEOUT),
    (ValueError, HTTPStatus.UNPROCESSABLE_ENTITY),
)
"""What an error is in HTTP; the first that fits."""


def problem(error: Exception) -> Reply:
    """The answer when `error` was raised."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    if isinstance(error, RaftError):
        return failure(status, error.kind, str(error), retryable=error.is_retryable)
    if isinstance(error, TimeoutError):
        # All of it may be asked for again: each request says how things should be, not what to add.
        message = str(error) or "not done in time; it may still come to pass"
        return failure(status, "Timeout", message, retryable=True)
    return failure(status, "Refused", str(error))


def _check_type(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content-type must be application/json")


def _parameters(request: Request, *known: str) -> dict[str, str]:
    try:
        found = parse_qsl(request.query, keep_blank_values=True, strict_parsing=bool(request.query))
    except ValueError:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "the query makes no sense") from None
    for name, _ in found:
        if name not in known:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"there is no parameter {name!r}")
    return dict(found)


def _timeout(request: Request, default: float = TIMEOUT, *others: str) -> float:
    text = _parameters(request, "timeout", *others).get("timeout")
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT:
        message = f"timeout must be above 0 and at most {LONGEST_TIMEOUT:.0f} seconds"
        raise _RefusedError(HTTPStatus.BAD_REQUEST, message)
    return seconds


def _flag(request: Request, name: str) -> bool:
    text = dict(parse_qsl(request.query)).get(name, "false")
    if text not in ("true", "false"):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"{name} must be true or false")
    return text == "true"


def _body(
    request: Request, *, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The JSON object of a request, with these members and no others."""
    try:
        fields = json.loads(request.body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "the body must be a JSON object")
    for name in fields:
        if name not in (*required, *optional):
            raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"unknown member {name!r}")
    for name in required:
        if name not in fields:
            raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name} is missing")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _id(value: Any, name: str) -> NodeId:
    if isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number")
    try:
        return int(checked(value, name))
    except TypeError:
        raise ValueError(f"{name} must be a whole number") from None


def _ids(value: Any, name: str) -> list[NodeId]:
    if not isinstance(value, list) or len(value) > MAX_MEMBERS:
        raise ValueError(f"{name} must be a list of ids")
    found = [_id(each, f"an id in {name}") for each in value]
    if len(set(found)) != len(found):
        raise ValueError(f"{name} holds an id twice")
    return sorted(found)


def _named_addresses(value: Any, members: set[NodeId]) -> dict[NodeId, str]:
    if not isinstance(value, dict):
        raise ValueError('addresses must be an object such as {"4": "127.0.0.1:7104"}')
    found: dict[NodeId, str] = {}
    for key, text in value.items():
        if not (key.isascii() and key.isdigit() and str(int(key)) == key and int(key) in members):
            raise ValueError(f"addresses holds {key!r}, which is none of the members asked for")
        address = Address.parse(text) if isinstance(text, str) else None
        if address is None or not address.port or str(address) != text:
            raise ValueError(f"the address of node {key} must be host:port, such as 127.0.0.1:7104")
        found[int(key)] = text
    return found
