"""What servers ask of each other by name: a CALL, and a REPLY with its number.

Nothing is lost for good by a connection that breaks: a question without an answer is asked again, with the
same number, so that the other side does not begin a second time while it is at it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from raft_io.core.types import NodeId
from raft_io.errors import (
    MembershipChangeInProgressError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    TransferInProgressError,
)
from raft_io.server import frames

__all__ = ["BegunError", "Calls", "Carrier", "NoAnswerError", "described", "raise_described"]

log = logging.getLogger("raft_io.server")

MAX_SERVED: Final = 256
"""Questions that are being answered at a time; above it they are refused."""

PATIENCE: Final = 1.0
"""Seconds after which a question is asked again."""

ERRORS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        MembershipChangeInProgressError,
        OverloadedError,
        RaftError,
        TimeoutError,
        TransferInProgressError,
        ValueError,
    )
}
"""The errors that travel, by name."""

Serve = Callable[[int, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Carries out an operation; its errors are those of `ERRORS` and `NotLeaderError`."""


class BegunError(NotLeaderError):
    """Who was asked led when it began and leads no more: whether what it began comes to pass is not known."""


class NoAnswerError(TimeoutError):
    """Nothing was said in time by whom was asked. What it says of a time of its own is a `TimeoutError`."""


class Carrier(Protocol):
    """What sends the frames."""

    def post(self, peer: NodeId, frame: bytes) -> None:
        """Send a frame to a peer, or drop it."""


def described(error: Exception) -> dict[str, Any]:
    """An error as it travels."""
    if isinstance(error, NotLeaderError):
        begun = {"begun": True} if isinstance(error, BegunError) else {}
        return {"error": "NotLeaderError", "leader": error.leader, **begun}
    for kind in type(error).__mro__:
        if kind.__name__ in ERRORS:
            return {"error": kind.__name__, "detail": str(error)}
    return {"error": "RaftError", "detail": f"{type(error).__name__}: {error}"}


def raise_described(fields: dict[str, Any]) -> None:
    """Raise the error that an answer holds, if it holds one."""
    name = fields.get("error")
    if name is None:
        return
    if name == "NotLeaderError":
        leader = fields.get("leader")
        kind = BegunError if fields.get("begun") is True else NotLeaderError
        raise kind(leader if isinstance(leader, int) else None)
    raise ERRORS.get(str(name), RaftError)(str(fields.get("detail", name)))


class Calls:
    """The questions of this server to others, and theirs to it."""

    def __init__(self, carrier: Carrier, serve: Serve) -> None:
        self._carrier = carrier
        self.serve = serve
        """Carry out an operation here."""
        # Not the numbers of an earlier life, which may still be answered.
        self._number = secrets.randbits(32)
        self._asked: dict[int, tuple[NodeId, asyncio.Future[dict[str, Any]]]] = {}
        self._serving: dict[tuple[NodeId, int], asyncio.Task[None]] = {}

    async def ask(
        self,
        peer: NodeId,
        operation: int,
        fields: dict[str, Any],
        *,
        timeout: float,
        while_: Callable[[], bool] = lambda: True,
    ) -> dict[str, Any]:
        """What `peer` answers. Raises what it says was raised there, and `NoAnswerError` after `timeout`
        seconds or when `while_` is not true any more."""
        self._number += 1
        number = self._number
        frame = frames.encode_call(number, operation, fields)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._asked[number] = (peer, future)
        end = loop.time() + timeout
        try:
            while True:
                self._carrier.post(peer, frame)
                again = min(end, loop.time() + PATIENCE)
                while not future.done() and loop.time() < again and while_():
                    await asyncio.wait((future,), timeout=min(0.05, max(0.0, again - loop.time())))
                if future.done():
                    answer = future.result()
                    raise_described(answer)
                    return answer
                if loop.time() >= end or not while_():
                    raise NoAnswerError(f"no answer from node {peer}: the outcome is unknown")
        finally:
            del self._asked[number]

    def replied(self, peer: NodeId, body: bytes) -> None:
        """A REPLY arrived. Raises `WireError`."""
        number, fields = frames.decode_reply(body)
        asked = self._asked.get(number)
        if asked is not None and asked[0] == peer and not asked[1].done():
            asked[1].set_result(fields)

    def called(self, peer: NodeId, body: bytes) -> None:
        """A CALL arrived. Raises `WireError`."""
        number, operation, fields = frames.decode_call(body)
        if (peer, number) in self._serving:
            return
        if len(self._serving) >= MAX_SERVED:
            error = OverloadedError("too many questions are being answered here; try again later")
            self._carrier.post(peer, frames.encode_reply(number, described(error)))
            return
        task = asyncio.get_running_loop().create_task(self._answer(peer, number, operation, fields))
        self._serving[peer, number] = task
        task.add_done_callback(lambda _: self._serving.pop((peer, number), None))

    async def _answer(self, peer: NodeId, number: int, operation: int, fields: dict[str, Any]) -> None:
        answer = await self.told(self.serve(operation, fields))
        self._carrier.post(peer, frames.encode_reply(number, answer))

    async def told(self, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """What `work` returns; its error is an answer as well."""
        try:
            return await work
        except (RaftError, ValueError, TimeoutError) as error:
            return described(error)
        except Exception as error:
            log.exception("a bug in what answers other servers")
            return described(error)

    async def close(self) -> None:
        """Give up everything."""
        tasks = list(self._serving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
