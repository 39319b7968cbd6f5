"""A node that is operated, without a cluster behind it: what it is asked for, and how it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from raft_io import Membership, Role, Snapshot, Status
from raft_io.core.status import FollowerStatus
from raft_io.errors import NotLeaderError
from raft_io.server.address import Address
from raft_io.server.admin import Admin
from raft_io.server.http import HttpServer

__all__ = ["Pretended", "answer", "answers", "exchange", "hosted", "post", "refusal", "request", "status_of"]


def status_of(node: int = 1, role: Role = Role.LEADER, **others: Any) -> Status:
    """The status of a node of three, and of a learner."""
    fields: dict[str, Any] = {
        "id": node,
        "role": role,
        "term": 4,
        "leader": 1,
        "voted_for": 1,
        "commit_index": 60,
        "last_applied": 50,
        "last_index": 70,
        "last_term": 4,
        "stable_index": 65,
        "membership": Membership([3, 1, 2], learners=[4]),
        "uncommitted_bytes": 100,
        "followers": [
            FollowerStatus(2, "replicate", 60, 71, 1),
            FollowerStatus(3, "probe", 0, 1, 0, silent=30),
            FollowerStatus(4, "snapshot", 10, 11, 1, part="learner", snapshot_offset=5),
        ],
        "snapshot_index": 40,
        "snapshot_term": 3,
    }
    return Status(**{**fields, **others})


class Pretended:
    """Stands in for a `RaftServer`. `failure` is raised by whatever is asked of it."""

    cluster_id = "shop"

    def __init__(self) -> None:
        self.status = status_of()
        self.addresses: Mapping[int, str] = {node: f"127.0.0.1:710{node}" for node in (1, 2, 3, 4)}
        self.snapshot: Snapshot | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.silent = {3}
        self.moved: Callable[[Pretended], None] | None = None
        """Called when the membership was changed."""

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

    async def change_membership(
        self,
        voters: Iterable[int] | None = None,
        learners: Iterable[int] | None = None,
        *,
        addresses: Mapping[int, str] | None = None,
        timeout: float = 10.0,
    ) -> None:
        await asyncio.sleep(0)
        self._note("change", voters, learners, dict(addresses or {}), timeout)
        now = self.status.membership
        after = Membership(
            now.voters if voters is None else voters, now.learners if learners is None else learners
        )
        self.status = status_of(membership=after)
        self.addresses = {**self.addresses, **(addresses or {})}
        if self.moved is not None:
            self.moved(self)

    async def transfer_leadership(self, target: int | None = None, *, timeout: float = 10.0) -> int:
        await asyncio.sleep(0)
        self._note("transfer", target, timeout)
        return target or 2

    async def take_snapshot(self, *, timeout: float = 10.0) -> int:
        await asyncio.sleep(0)
        self._note("snapshot", timeout)
        return 50

    async def read(self, query: Callable[[Any], Any], *, timeout: float = 10.0) -> Any:
        await asyncio.sleep(0)
        self._note("read", timeout)
        return query(None)

    async def ask(self, node: int, kind: str, body: Any, *, timeout: float = 10.0) -> Any:
        await asyncio.sleep(0)
        if node in self.silent:
            raise NotLeaderError(None) if node % 2 else TimeoutError
        state = status_of(node, Role.FOLLOWER, followers=[], commit_index=55, last_applied=45)
        return Admin(_Fixed(self, state), {}).own_status()


class _Fixed(Pretended):
    """Another node of the same cluster."""

    def __init__(self, like: Pretended, status: Status) -> None:
        super().__init__()
        self.status = status
        self.addresses = like.addresses


@asynccontextmanager
async def hosted(server: Pretended) -> AsyncIterator[Address]:
    """Serve its routes; gives the address."""
    listens: dict[str, str] = {"http": "127.0.0.1:0"}
    http = HttpServer(Admin(server, listens, ["db1.internal"]).routes(), listen=0)
    address = await http.start()
    listens["http"] = str(address)
    try:
        yield address
    finally:
        await http.stop()


async def exchange(address: Address, request: bytes) -> tuple[int, bytes]:
    """Status and body of one answer."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(request)
        whole = b""
        with suppress(ConnectionResetError):
            while block := await reader.read(1 << 20):
                whole += block
        head, _, body = whole.partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()


def request(method: str, path: str, /, body: bytes = b"", **headers: str) -> bytes:
    """A request after which the connection closes."""
    given = {"host": "127.0.0.1", "connection": "close", "content-length": str(len(body))}
    given.update({name.replace("_", "-"): text for name, text in headers.items()})
    lines = [f"{method} {path} HTTP/1.1", *[f"{name}: {text}" for name, text in given.items() if text]]
    return "\r\n".join([*lines, "", ""]).encode() + body


def post(path: str, value: Any, **headers: str) -> bytes:
    """A request with a value as JSON."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return request("POST", path, body, **{"content_type": "application/json", **headers})


def answers(server: Pretended, *requests: bytes) -> list[tuple[int, Any]]:
    """What a node says to these requests."""

    async def test() -> list[tuple[int, Any]]:
        async with hosted(server) as address:
            found = [await exchange(address, each) for each in requests]
            return [(status, json.loads(body)) for status, body in found]

    return asyncio.run(asyncio.wait_for(test(), 20))


def answer(server: Pretended, data: bytes) -> tuple[int, Any]:
    """What a node says to a request."""
    return answers(server, data)[0]


def refusal(server: Pretended, data: bytes) -> tuple[int, str, str]:
    """Status, kind and message of a refusal, after which nothing was done."""
    status, body = answer(server, data)
    assert set(body) == {"error", "message", "retryable"}
    assert "\n" not in body["message"]
    return status, body["error"], body["message"]
