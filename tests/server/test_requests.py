"""The requests of one node: gathered, routed, retried, refused, expired, answered once."""

from __future__ import annotations

import pytest
from tests.server.desk import PATIENCE, Desk, commands, since

from raft_io import (
    CommandError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    SessionExpiredError,
)
from raft_io.server import envelope, requests
from raft_io.server.envelope import Member
from raft_io.server.sessions import Opened

# The session.


def test_nothing_but_the_opening_is_sent_before_the_session_is_open() -> None:
    desk = Desk(opened=False)
    assert desk.due() == []
    assert not desk.requests.waiting
    desk.ask(b"a")
    [opening] = desk.due()
    assert isinstance(envelope.decode(opening.data), envelope.Open)
    assert desk.due() == []
    assert not desk.requests.ready
    desk.requests.applied(Opened(4, bytes(16)))
    assert desk.due() == [], "the session of somebody else"
    desk.requests.applied(Opened(7, b"\x01" + bytes(15)))
    assert desk.requests.ready
    [entry] = desk.due()
    assert commands(entry).session == 7


def test_a_refused_opening_is_sent_again_here_and_through_another_node() -> None:
    for forwarded in (True, False):
        desk = Desk(opened=False)
        desk.ask(b"a")
        [opening] = desk.due(forwarded=forwarded)
        desk.requests.refused(*envelope.peek(opening.data))
        assert desk.due(forwarded=forwarded) == [], "not at once"
        desk.tick += PATIENCE
        assert desk.due(forwarded=forwarded) == [opening]


def test_an_evicted_session_starts_over_with_what_is_unanswered() -> None:
    desk = Desk()
    gone = desk.ask(b"gone", deadline=1.0)
    a = desk.ask(b"a")
    [old] = desk.due()
    b = desk.ask(b"b")
    desk.expire(1.0)
    assert isinstance(gone.error, TimeoutError)
    desk.applied(5, old.sequence, None)
    assert not (a.done or b.done)
    [opening] = desk.due()
    assert isinstance(envelope.decode(opening.data), envelope.Open)
    desk.applied(5, old.sequence, None)
    desk.requests.applied(Opened(20, b"\x02" + bytes(15)))
    [entry] = desk.due()
    assert commands(entry).session == 20
    assert [command.data for command in commands(entry).commands] == [b"a", b"b"], "what was given up is not"
    desk.applied(20, entry.sequence, [b"1", b"2"])
    assert (a.value, b.value) == (b"1", b"2")


def test_the_floor_is_the_oldest_that_is_neither_answered_nor_given_up() -> None:
    desk = Desk()
    desk.ask(b"a", deadline=1.0)
    [a] = desk.due()
    desk.ask(b"b")
    [b] = desk.due()
    assert commands(b).floor == a.sequence
    desk.expire(1.0)
    desk.ask(b"c")
    [c] = desk.due()
    assert commands(c).floor == b.sequence
    desk.applied(5, b.sequence, [b""])
    desk.applied(5, c.sequence, [b""])
    desk.ask(b"d")
    [d] = desk.due()
    assert commands(d).floor == d.sequence


# On the way.


def test_what_arrives_together_travels_together_up_to_a_size() -> None:
    desk = Desk()
    small = [desk.ask(b"%d" % n) for n in range(100)]
    desk.ask(b"x" * requests.GATHER_BYTES)
    desk.ask(b"y")
    due = desk.due()
    assert [len(outbound.requests) for outbound in due] == [100, 1, 1]
    desk.applied(5, due[0].sequence, [b"%d" % n for n in range(100)])
    assert [waiter.value for waiter in small] == [b"%d" % n for n in range(100)]


def test_through_another_node_an_entry_is_sent_again_with_growing_patience() -> None:
    desk = Desk()
    desk.ask(b"a")
    [entry] = desk.due()
    sent = []
    for desk.tick in range(1, 600):
        for outbound in desk.due():
            assert outbound is entry
            sent.append(desk.tick)
    gaps = [b - a for a, b in zip([0, *sent], sent, strict=False)]
    assert gaps == [10, 20, 40, 80, 160, 160]


def test_in_the_own_log_it_stays_until_the_leader_or_the_term_changes() -> None:
    desk = Desk()
    desk.ask(b"a")
    [entry] = desk.due(forwarded=False)
    desk.tick = 10_000
    assert desk.due(forwarded=False) == []
    assert desk.due((1, 2), forwarded=False) == [entry]
    assert desk.due((1, 2), forwarded=False) == []


def test_one_lost_leader_costs_no_time_and_one_after_the_other_costs_patience() -> None:
    # What is too heavy for a disk makes it lose its leader: copy upon copy of it would keep it so.
    desk = Desk()
    desk.ask(b"a")
    [entry] = desk.due()
    assert desk.due((2, 2)) == [entry]
    assert desk.due((2, 2)) == []
    sent = []
    for desk.tick in range(1, 200):
        sent += [desk.tick for _ in desk.due((desk.tick % 2, desk.tick), forwarded=desk.tick % 3 > 0)]
    assert sent == [20, 60, 140]


def test_a_new_connection_to_the_leader_sends_again_at_once_and_to_others_does_not() -> None:
    desk = Desk()
    desk.ask(b"a")
    [entry] = desk.due()
    desk.requests.link_restored(2)
    assert desk.due() == []
    desk.requests.link_restored(1)
    assert desk.due() == [entry]


def test_a_refusal_of_what_was_sent_once_is_an_overload() -> None:
    desk = Desk()
    waiter = desk.ask(b"a")
    [entry] = desk.due()
    desk.requests.refused(5, entry.sequence)
    desk.deliver()
    assert isinstance(waiter.error, OverloadedError)
    desk.tick = 10_000
    assert desk.due() == []


def test_a_refusal_of_what_was_sent_twice_proves_nothing_and_it_is_tried_again_later() -> None:
    desk = Desk()
    waiter = desk.ask(b"a", deadline=50.0)
    [entry] = desk.due()
    assert desk.due((2, 2)) == [entry]
    desk.requests.refused(5, entry.sequence)
    desk.deliver()
    assert not waiter.done
    desk.tick = 2 * PATIENCE - 1
    assert desk.due((2, 2)) == []
    desk.tick = 2 * PATIENCE
    assert desk.due((2, 2)) == [entry]
    desk.expire(50.0)
    assert isinstance(waiter.error, TimeoutError)


@pytest.mark.parametrize(("session", "ahead"), [(5, 1), (4, 0), (0, 0), (2**64 - 1, 0)])
def test_a_refusal_of_anything_else_changes_nothing(session: int, ahead: int) -> None:
    desk = Desk()
    waiter = desk.ask(b"a")
    [entry] = desk.due()
    desk.requests.refused(session, entry.sequence + ahead)
    desk.requests.refused(0, 0)
    desk.deliver()
    assert not waiter.done
    assert desk.due() == []


# Answers.


def test_each_request_of_an_entry_gets_its_own_answer_once() -> None:
    desk = Desk()
    a, b, c = desk.ask(b"a"), desk.ask(None, member=(4, Member("host:1", 7))), desk.ask(b"c")
    [entry] = desk.due()
    assert [command.member for command in commands(entry).commands] == [None, (4, Member("host:1", 7)), None]
    for _ in range(2):
        desk.applied(5, entry.sequence, [b"1", b"", CommandError("no")])
    assert (a.value, b.value, str(c.error)) == (b"1", b"", "no")
    assert not desk.requests.waiting


def test_what_was_never_sent_expires_as_certainly_not_applied() -> None:
    desk = Desk()
    early, late = desk.ask(b"a", deadline=1.0), desk.ask(b"b", deadline=2.0)
    desk.expire(1.5)
    assert isinstance(early.error, NotLeaderError)
    assert not late.done
    [entry] = desk.due()
    assert [command.data for command in commands(entry).commands] == [b"b"]


def test_what_was_sent_expires_as_unknown_each_at_its_own_time() -> None:
    desk = Desk()
    early, late = desk.ask(b"a", deadline=1.0), desk.ask(b"b", deadline=2.0)
    [entry] = desk.due()
    desk.expire(0.9)
    assert not early.done
    desk.expire(1.0)
    assert isinstance(early.error, TimeoutError)
    assert not late.done
    desk.applied(5, entry.sequence, [b"1", b"2"])
    assert late.value == b"2"


def test_what_everybody_gave_up_is_not_sent_again() -> None:
    desk = Desk()
    desk.ask(b"a", deadline=1.0)
    desk.due()
    desk.expire(1.0)
    desk.tick = 1000
    assert desk.due((2, 2)) == []
    assert not desk.requests.waiting


def test_abandoned_requests_fail_with_the_reason_or_as_unknown_if_sent() -> None:
    desk = Desk()
    sent = desk.ask(b"a")
    desk.due()
    queued = desk.ask(b"b")
    desk.requests.abandon(RaftError("the end"))
    desk.deliver()
    assert isinstance(sent.error, TimeoutError)
    assert str(queued.error) == "the end"


# Limits.


def test_too_many_bytes_are_refused_and_the_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_WAITING_BYTES", 1000)
    desk = Desk()
    for outcome in ("applied", "expired in the queue", "expired", "refused", "evicted"):
        desk.ask(b"x" * 5000, deadline=1.0)  # one always fits
        with pytest.raises(OverloadedError, match="requests are waiting here"):
            desk.ask(b"y")
        entry = desk.due()[0] if outcome != "expired in the queue" else None
        if outcome == "applied":
            assert entry is not None
            desk.applied(5, entry.sequence, [b""])
        elif outcome == "refused":
            assert entry is not None
            desk.requests.refused(5, entry.sequence)
        elif outcome == "evicted":
            assert entry is not None
            desk.applied(5, entry.sequence, None)
        desk.expire(1.0)
    desk.ask(b"z")


# Keys.


def test_a_key_counts_from_where_the_log_stood_when_it_was_first_sent() -> None:
    desk = Desk()
    desk.index = 30
    first = desk.ask(b"a", deadline=1.0, key=b"k")
    desk.index = 40
    [entry] = desk.due()
    assert since(entry) == [40]
    desk.expire(1.0)
    assert isinstance(first.error, TimeoutError)
    desk.index = 90
    desk.ask(b"a", key=b"k")
    desk.ask(b"a", key=b"l")
    [entry] = desk.due()
    assert since(entry) == [40, 90]
    desk.applied(5, entry.sequence, [b"1", b"2"])
    desk.index = 95
    desk.ask(b"a", key=b"k")
    [entry] = desk.due()
    assert since(entry) == [95], "it had an answer: this is somebody's new request"


def test_a_key_stays_open_when_it_is_applied_after_its_caller_gave_up() -> None:
    desk = Desk()
    desk.ask(b"a", deadline=1.0, key=b"k")
    desk.ask(b"other")
    [entry] = desk.due()
    desk.expire(1.0)
    desk.index = 50
    desk.applied(5, entry.sequence, [b"1", b"2"])
    desk.ask(b"a", key=b"k")
    assert since(desk.due()[0]) == [10]


def test_an_expired_key_stays_expired() -> None:
    desk = Desk()
    waiter = desk.ask(b"a", key=b"k")
    [entry] = desk.due()
    desk.applied(5, entry.sequence, [SessionExpiredError()])
    assert isinstance(waiter.error, SessionExpiredError)
    desk.index = 50
    desk.ask(b"a", key=b"k")
    assert since(desk.due()[0]) == [10]


def test_a_refusal_says_nothing_about_an_earlier_try_with_the_same_key() -> None:
    desk = Desk()
    desk.ask(b"a", deadline=1.0, key=b"k")
    desk.due()
    desk.expire(1.0)
    desk.index = 50
    desk.ask(b"a", key=b"k")
    desk.ask(b"b", key=b"l")
    [entry] = desk.due()
    desk.requests.refused(5, entry.sequence)
    desk.deliver()
    desk.ask(b"a", deadline=2.0, key=b"k")
    desk.expire(2.0)
    desk.index = 60
    desk.ask(b"a", key=b"k")
    desk.ask(b"b", key=b"l")
    assert since(desk.due()[0]) == [10, 60]


def test_open_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_OPEN_KEYS", 2)
    desk = Desk()
    for key in (b"a", b"b", b"c"):
        desk.ask(b"x", key=key)
    desk.due()
    desk.index = 50
    for key in (b"c", b"b", b"a"):
        desk.ask(b"x", key=key)
    assert since(desk.due()[0]) == [10, 10, 50]
