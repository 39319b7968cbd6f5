"""Questions between servers: answered once, asked again when something was lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.hosts import eventually, run

from raft_io import (
    MembershipChangeInProgressError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    StorageError,
    TransferInProgressError,
)
from raft_io.server import calls, frames
from raft_io.server.calls import BegunError, Calls, described, raise_described


class Pair:
    """Two sides, 1 and 2, joined by wires that can be cut."""

    def __init__(self) -> None:
        self.served: list[dict[str, Any]] = []
        self.cut = False
        self.posted = 0
        self.wait = asyncio.Event()
        self.wait.set()
        self.sides = {node: Calls(Wire(self, node), self.serve) for node in (1, 2)}

    async def serve(self, operation: int, fields: dict[str, Any]) -> dict[str, Any]:
        self.served.append(fields)
        await self.wait.wait()
        if "raise" in fields:
            raise fields_error(fields["raise"])
        return {"operation": operation, **fields}


def fields_error(name: str) -> Exception:
    return {"value": ValueError("no"), "zero": ZeroDivisionError("bug"), "leader": NotLeaderError(7)}[name]


class Wire:
    def __init__(self, pair: Pair, node: int) -> None:
        self._pair = pair
        self._node = node

    def post(self, peer: int, frame: bytes) -> None:
        self._pair.posted += 1
        if self._pair.cut:
            return
        [(kind, body)] = frames.Frames(1 << 20).feed(frame)
        other = self._pair.sides[peer]
        if kind == frames.CALL:
            other.called(self._node, body)
        else:
            assert kind == frames.REPLY
            other.replied(self._node, body)


def test_a_question_is_answered() -> None:
    async def test() -> None:
        pair = Pair()
        assert await pair.sides[1].ask(2, 5, {"a": 1}, timeout=5) == {"operation": 5, "a": 1}
        for node in (1, 2):
            await pair.sides[node].close()

    run(test)


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("value", ValueError, "^no$"),
        ("zero", RaftError, "ZeroDivisionError: bug"),
        ("leader", NotLeaderError, "7"),
    ],
)
def test_an_error_comes_back(name: str, kind: type[Exception], match: str) -> None:
    async def test() -> None:
        pair = Pair()
        with pytest.raises(kind, match=match):
            await pair.sides[1].ask(2, 5, {"raise": name}, timeout=5)

    run(test)


def test_what_is_lost_is_asked_again_and_not_done_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PATIENCE", 0.05)

    async def test() -> None:
        pair = Pair()
        pair.cut = True
        asked = asyncio.ensure_future(pair.sides[1].ask(2, 5, {}, timeout=5))
        await eventually(lambda: pair.posted > 2)
        pair.cut = False
        pair.wait.clear()
        await eventually(lambda: pair.served)
        before = pair.posted
        await eventually(lambda: pair.posted > before + 2)
        assert len(pair.served) == 1, "it is at it"
        pair.wait.set()
        assert (await asked)["operation"] == 5

    run(test)


def test_a_question_is_given_up_in_time_or_when_there_is_no_use_in_it() -> None:
    async def test() -> None:
        pair = Pair()
        pair.cut = True
        with pytest.raises(TimeoutError, match="no answer from node 2"):
            await pair.sides[1].ask(2, 5, {}, timeout=0.1)
        useful = True
        asked = asyncio.ensure_future(pair.sides[1].ask(2, 5, {}, timeout=20, while_=lambda: useful))
        await asyncio.sleep(0.05)
        useful = False
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asked, 5)

    run(test)


def test_too_many_questions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_SERVED", 3)

    async def test() -> None:
        pair = Pair()
        pair.wait.clear()
        asked = [asyncio.ensure_future(pair.sides[1].ask(2, 5, {}, timeout=5)) for _ in range(4)]
        with pytest.raises(OverloadedError):
            await asked[3]
        await pair.sides[2].close()
        for each in asked[:3]:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    run(test)


def test_an_answer_from_somebody_else_or_to_nothing_is_ignored() -> None:
    async def test() -> None:
        pair = Pair()
        pair.wait.clear()
        asked = asyncio.ensure_future(pair.sides[1].ask(2, 5, {}, timeout=5))
        await eventually(lambda: pair.served)
        number = pair.sides[1]._number
        for peer, each in ((3, number), (2, number + 1)):
            [(_, body)] = frames.Frames().feed(frames.encode_reply(each, {"operation": 6}))
            pair.sides[1].replied(peer, body)
        pair.wait.set()
        assert (await asked)["operation"] == 5

    run(test)


@pytest.mark.parametrize(
    "error",
    [
        MembershipChangeInProgressError("one is in progress"),
        TransferInProgressError("handing over"),
        OverloadedError("too much"),
        RaftError("something"),
        ValueError("wrong"),
        TimeoutError("late"),
        NotLeaderError(3),
        NotLeaderError(None),
        BegunError(2),
    ],
)
def test_errors_travel(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        raise_described(described(error))
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_an_older_side_takes_what_has_begun_for_what_it_can_ask_again() -> None:
    assert described(BegunError(2)) == {"error": "NotLeaderError", "leader": 2, "begun": True}
    assert described(NotLeaderError(2)) == {"error": "NotLeaderError", "leader": 2}


def test_an_error_that_does_not_travel_becomes_its_next_of_kin() -> None:
    with pytest.raises(RaftError, match="while sync: failed"):
        raise_described(described(StorageError("sync", "failed")))
    with pytest.raises(RaftError, match="what is new"):
        raise_described({"error": "NewError", "detail": "what is new"})
    with pytest.raises(NotLeaderError, match="no leader"):
        raise_described({"error": "NotLeaderError", "leader": "x"})
    raise_described({"fine": True})
