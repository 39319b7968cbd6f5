"""The requests of one node whose leader hands over, or whose state a snapshot has replaced."""

from __future__ import annotations

import pytest
from tests.server.desk import Desk, commands, since
from tests.server.support import Recorder

from raft_io import (
    CommandError,
    NotLeaderError,
    RaftError,
    SessionExpiredError,
)
from raft_io.server import envelope
from raft_io.server.sessions import Opened, Result, Sessions, State

# While leadership is handed over.


def test_what_a_leader_that_hands_over_does_not_take_is_tried_again_soon_wherever() -> None:
    desk = Desk()
    waiter = desk.ask(b"a")
    [entry] = desk.due(forwarded=False)
    for _ in range(5):
        desk.requests.postponed(entry.sequence)
        assert desk.due(forwarded=False) == [], "not in the same tick"
        desk.tick += 1
        assert desk.due(forwarded=False) == [entry]
    desk.requests.postponed(entry.sequence)
    desk.tick += 1
    assert desk.due((2, 2)) == [entry], "another leads by now"
    assert desk.due((3, 3)) == [entry], "it is as if it had been sent once"
    desk.applied(5, entry.sequence, [b"1"])
    assert waiter.value == b"1"
    desk.requests.postponed(entry.sequence)
    assert not desk.requests.waiting


def test_an_opening_is_postponed_like_anything_else() -> None:
    desk = Desk(opened=False)
    desk.ask(b"a")
    [opening] = desk.due(forwarded=False)
    desk.requests.postponed(0)
    desk.tick += 1
    assert desk.due(forwarded=False) == [opening]


def test_what_no_leader_ever_took_is_certainly_not_applied() -> None:
    desk = Desk()
    late, left = desk.ask(b"a", deadline=1.0), desk.ask(b"b")
    [entry] = desk.due(forwarded=False)
    desk.requests.postponed(entry.sequence)
    desk.expire(1.0)
    assert isinstance(late.error, NotLeaderError)
    desk.requests.abandon(RaftError("the end"))
    desk.deliver()
    assert str(left.error) == "the end"


def test_what_was_said_to_be_not_applied_is_not_sent_with_what_shared_its_entry() -> None:
    desk = Desk()
    late, left = desk.ask(b"a", deadline=1.0), desk.ask(b"b")
    [entry] = desk.due(forwarded=False)
    desk.requests.postponed(entry.sequence)
    desk.expire(1.0)
    assert isinstance(late.error, NotLeaderError)
    desk.tick += 1
    [again] = desk.due((2, 2))
    assert [command.data for command in commands(again).commands] == [b"b"]
    desk.applied(5, again.sequence, [b"1"])
    assert left.value == b"1"


# After a snapshot has replaced the state.


def state(session: int | None, results: dict[int, list[Result]]) -> Sessions:
    """The replicated state of a snapshot in which this session is open, or evicted."""
    held = Sessions(Recorder())
    opened = [] if session is None else [(session, bytes(16), 1, results)]
    held.restore(State(opened, [], [], 0, 0, {}))
    return held


def test_what_a_snapshot_covers_is_answered_from_it_and_the_rest_stays_under_way() -> None:
    desk = Desk()
    a, b = desk.ask(b"a"), desk.ask(b"b", deadline=1.0)
    [first] = desk.due()
    c = desk.ask(b"c")
    [second] = desk.due()
    desk.expire(1.0)
    assert isinstance(b.error, TimeoutError)
    d = desk.ask(b"d")
    desk.requests.restored(state(5, {first.sequence: [b"1", CommandError("no")], 99: [b"x"]}))
    desk.deliver()
    assert a.value == b"1"
    assert not (c.done or d.done)
    [third] = desk.due()
    assert commands(third).floor == second.sequence
    assert desk.due((2, 2)) == [second, third]
    desk.applied(5, second.sequence, [b"3"])
    assert c.value == b"3"


def test_a_session_that_was_opened_unseen_is_found_in_the_snapshot() -> None:
    desk = Desk(opened=False)
    a = desk.ask(b"a")
    [opening] = desk.due()
    nonce = opening.data[-16:]
    held = Sessions(Recorder())
    desk.requests.restored(held)
    assert desk.due() == [opening]
    held.apply(7, opening.data)
    assert held.opened(nonce) == 7
    desk.requests.restored(held)
    [entry] = desk.due()
    desk.applied(7, entry.sequence, [b"1"])
    assert a.value == b"1"


def test_what_a_snapshot_remembers_only_by_name_is_expired() -> None:
    desk = Desk()
    a = desk.ask(b"a")
    [entry] = desk.due()
    desk.requests.restored(state(5, {entry.sequence: [SessionExpiredError()]}))
    desk.deliver()
    assert isinstance(a.error, SessionExpiredError)


def test_what_was_sent_in_a_session_that_a_snapshot_has_evicted_is_unknown_unless_it_has_a_key() -> None:
    desk = Desk()
    plain, keyed = desk.ask(b"a"), desk.ask(b"b", key=b"k")
    gone = desk.ask(b"gone", deadline=1.0)
    [entry] = desk.due()
    desk.expire(1.0)
    assert gone.done
    kept = desk.ask(b"c")
    desk.requests.restored(state(None, {}))
    desk.deliver()
    assert isinstance(plain.error, SessionExpiredError)
    assert not (keyed.done or kept.done)
    [opening] = desk.due()
    assert isinstance(envelope.decode(opening.data), envelope.Open)
    desk.requests.applied(Opened(20, b"\x02" + bytes(15)))
    [again] = desk.due()
    assert [command.data for command in commands(again).commands] == [b"b", b"c"]
    assert since(again) == [10, 0], "its key is as old as it was"
    desk.applied(20, again.sequence, [b"2", b"3"])
    assert (keyed.value, kept.value) == (b"2", b"3")
    assert not desk.requests.waiting
    assert desk.due((3, 3)) == []
    assert entry.sequence != again.sequence


@pytest.mark.parametrize("end", ["expired", "refused", "abandoned"])
def test_what_may_have_been_applied_in_an_evicted_session_is_never_said_not_to_be(end: str) -> None:
    desk = Desk()
    waiter = desk.ask(b"a", key=b"key", deadline=50.0)
    assert since(desk.due()[0]) == [10]
    desk.index = 90
    desk.requests.restored(state(None, {}))
    if end == "expired":
        desk.expire(60.0)
    elif end == "abandoned":
        desk.requests.abandon(RaftError("the end"))
        desk.deliver()
    else:
        desk.due()
        desk.requests.applied(Opened(20, b"\x02" + bytes(15)))
        [again] = desk.due()
        desk.requests.refused(20, again.sequence)
        desk.deliver()
    assert isinstance(waiter.error, TimeoutError)
    if end == "refused":
        desk.ask(b"a", key=b"key")
        assert since(desk.due()[-1]) == [10], "the key is as old as it was"


def test_what_no_leader_took_before_the_eviction_goes_into_the_new_session() -> None:
    desk = Desk()
    waiter = desk.ask(b"a")
    [entry] = desk.due(forwarded=False)
    desk.requests.postponed(entry.sequence)
    desk.requests.restored(state(None, {}))
    desk.deliver()
    assert not waiter.done


def test_an_opening_that_a_snapshot_may_cover_is_sent_again_at_once() -> None:
    desk = Desk(opened=False)
    desk.ask(b"a")
    [opening] = desk.due()
    desk.requests.restored(state(None, {}))
    assert desk.due() == [opening]
