"""Reads that need no entry: gathered, confirmed, asked again, expired, answered once."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.support import Answers

from raft_io import NotLeaderError, OverloadedError, RaftError
from raft_io.server import reads
from raft_io.server.reads import Reads
from raft_io.server.requests import Request


class Room:
    """Reads, and a machine that is a list of what was asked of it."""

    def __init__(self, origin: bytes = b"node") -> None:
        self.reads = Reads(origin)
        self.machine: list[str] = []

    def ask(self, name: str = "x", deadline: float = 100.0) -> Answers:
        def query(machine: list[str]) -> str:
            machine.append(name)
            return name

        return self.add(query, deadline)

    def add(self, query: Any, deadline: float = 100.0) -> Answers:
        waiter = Answers()
        self.reads.add(Request(waiter, deadline, None, query=query))
        return waiter

    def confirmed(self, context: bytes) -> None:
        self.reads.confirmed(context, self.machine)
        self.deliver()

    def expire(self, now: float) -> None:
        self.reads.expire(now)
        self.deliver()

    def deliver(self) -> None:
        answers, self.reads.answers = self.reads.answers, []
        for waiter, succeeded, value in answers:
            if succeeded:
                waiter.succeeded(value)
            else:
                waiter.failed(value)


def test_reads_that_arrive_together_share_a_read_point_and_run_in_order() -> None:
    room = Room()
    assert not room.reads.ready
    waiters = [room.ask(str(n)) for n in range(5)]
    assert room.reads.ready
    context = room.reads.ask()
    assert not room.reads.ready
    assert not any(waiter.done for waiter in waiters)
    room.confirmed(context)
    assert [waiter.value for waiter in waiters] == room.machine == ["0", "1", "2", "3", "4"]


def test_a_read_is_never_served_at_a_point_that_was_asked_for_before_it() -> None:
    room = Room()
    early = room.ask("early")
    first = room.reads.ask()
    late = room.ask("late")
    second = room.reads.ask()
    later = room.ask("later")
    room.confirmed(first)
    assert (early.done, late.done, later.done) == (True, False, False)
    room.confirmed(second)
    assert (late.done, later.done) == (True, False)
    room.confirmed(second)
    room.confirmed(first)
    assert not later.done, "the same point again confirms nothing"


def test_no_context_is_used_twice() -> None:
    contexts = set()
    for origin in (b"a" * 8, b"b" * 8):
        room = Room(origin)
        for _ in range(10):
            room.ask()
            context = room.reads.ask()
            contexts.add(context)
            room.reads.refused(context)
    assert len(contexts) == 20


def test_what_is_refused_is_asked_again_ahead_of_what_came_later() -> None:
    room = Room()
    a = room.ask("a")
    first = room.reads.ask()
    b = room.ask("b")
    room.reads.refused(first)
    room.reads.refused(first)
    second = room.reads.ask()
    assert second != first
    room.confirmed(first)
    assert not (a.done or b.done), "a reply that comes late confirms nothing"
    room.confirmed(second)
    assert room.machine == ["a", "b"]


def test_what_may_be_lost_on_the_way_is_asked_again_in_order() -> None:
    room = Room()
    for name in ("a", "b", "c"):
        room.ask(name)
        room.reads.ask()
    room.ask("d")
    room.reads.lost()
    room.confirmed(room.reads.ask())
    assert room.machine == ["a", "b", "c", "d"]


def test_what_a_query_raises_goes_back_to_who_asked_and_to_nobody_else() -> None:
    room = Room()
    a = room.add(lambda _: 1 // 0)
    b = room.add(lambda _: next(iter(())))
    c = room.ask("c")
    room.confirmed(room.reads.ask())
    assert isinstance(a.error, ZeroDivisionError)
    assert isinstance(b.error, StopIteration)
    assert c.value == "c"


def test_a_read_that_could_not_be_asked_expires_for_want_of_a_leader() -> None:
    room = Room()
    early, late = room.ask(deadline=1.0), room.ask(deadline=2.0)
    room.expire(0.9)
    assert not early.done
    room.expire(1.0)
    assert isinstance(early.error, NotLeaderError)
    assert not late.done
    room.expire(2.0)
    assert isinstance(late.error, NotLeaderError)
    assert not room.reads.ready


def test_a_read_that_was_asked_expires_as_unconfirmed_each_at_its_own_time() -> None:
    room = Room()
    early, late = room.ask("early", 1.0), room.ask("late", 2.0)
    context = room.reads.ask()
    room.expire(1.5)
    assert isinstance(early.error, TimeoutError)
    assert not late.done
    room.confirmed(context)
    assert room.machine == ["late"]


def test_a_read_that_is_asked_again_is_late_all_the_same() -> None:
    room = Room()
    waiter = room.ask(deadline=1.0)
    room.reads.refused(room.reads.ask())
    room.expire(1.0)
    assert isinstance(waiter.error, TimeoutError)


def test_read_points_under_way_are_bounded_and_those_that_expire_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reads, "MAX_ASKED", 2)
    room = Room()
    for _ in range(2):
        room.ask(deadline=1.0)
        room.reads.ask()
    waiter = room.ask("later")
    assert not room.reads.ready
    room.expire(1.0)
    assert room.reads.ready
    room.confirmed(room.reads.ask())
    assert waiter.done


def test_reads_of_one_point_are_bounded_and_the_rest_takes_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "MAX_BATCH", 2)
    room = Room()
    waiters = [room.ask(str(n), 10.0 - n) for n in range(5)]
    room.confirmed(room.reads.ask())
    assert [waiter.done for waiter in waiters] == [True, True, False, False, False]
    room.expire(6.0)
    assert [waiter.done for waiter in waiters] == [True, True, False, False, True]
    room.confirmed(room.reads.ask())
    assert not room.reads.ready
    assert all(waiter.done for waiter in waiters)


def test_too_many_reads_are_refused_and_the_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "MAX_READS", 2)
    room = Room()
    for outcome in ("served", "expired", "expired in the queue"):
        room.ask(deadline=1.0)
        room.ask(deadline=1.0)
        with pytest.raises(OverloadedError, match="2 reads are waiting"):
            room.ask()
        if outcome == "served":
            room.confirmed(room.reads.ask())
        elif outcome == "expired":
            room.reads.ask()
        room.expire(1.0)
    room.ask()


def test_who_waits_when_the_node_stops_is_told_why() -> None:
    room = Room()
    asked = room.ask()
    context = room.reads.ask()
    queued = room.ask()
    room.reads.abandon(RaftError("the end"))
    room.deliver()
    assert (str(asked.error), str(queued.error)) == ("the end", "the end")
    room.confirmed(context)
    assert not room.reads.ready
