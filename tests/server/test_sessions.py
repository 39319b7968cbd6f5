"""What the replicated state remembers: each request of a session once, each key once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.support import Recorder

from raft_io import CommandError, SessionExpiredError
from raft_io.server import sessions
from raft_io.server.envelope import Command, Member, encode_clock, encode_open, encode_requests, stamp
from raft_io.server.sessions import Applied, Opened, Sessions


def opened(*, at: int = 1) -> tuple[Sessions, Recorder]:
    """Sessions with one open, of the id `at`."""
    machine = Recorder()
    held = Sessions(machine)
    assert held.apply(at, encode_open(bytes(16))) == Opened(at, bytes(16))
    return held, machine


def results(outcome: object) -> list[sessions.Result]:
    assert isinstance(outcome, Applied)
    assert outcome.results is not None
    return outcome.results


def test_an_entry_that_no_server_made_changes_nothing() -> None:
    held, machine = opened()
    for data in (b"", b"x", b"\x01\x02", b"\x01\x01short", b"\x03\x02" + bytes(40), b"\x01\x03" + bytes(40)):
        assert held.apply(2, data) is None
    assert machine.history == []


def test_an_opening_that_comes_twice_opens_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    held, _ = opened(at=1)
    other = bytes([2] * 16)
    assert held.apply(2, encode_open(other)) == Opened(2, other)
    assert held.apply(3, encode_open(other)) == Opened(2, other)
    assert [held.results(session) for session in (1, 2, 3)] == [{}, {}, None]
    assert [held.opened(nonce) for nonce in (bytes(16), other, bytes([3] * 16))] == [1, 2, 0]
    # Evicted, it is another one.
    held.apply(4, encode_open(bytes([4] * 16)))
    assert held.opened(bytes(16)) == 0
    assert held.apply(5, encode_open(bytes(16))) == Opened(5, bytes(16))


def test_requests_of_an_unknown_session_are_not_applied() -> None:
    held, machine = opened()
    assert held.apply(2, encode_requests(99, 1, 1, [Command(b"a")])) == Applied(99, 1, None)
    assert machine.history == []


def test_a_duplicate_gets_the_first_results_again() -> None:
    held, machine = opened()
    entry = encode_requests(1, 1, 1, [Command(b"a"), Command(None), Command(b"refuse")])
    first = results(held.apply(2, entry))
    assert first[:2] == [b"1", b""]
    assert isinstance(first[2], CommandError)
    again = results(held.apply(3, entry))
    assert again[:2] == first[:2]
    assert str(again[2]) == str(first[2]) == "not refuse"
    assert machine.history == [b"a", b"refuse"]


def test_numbers_may_come_in_any_order_and_each_is_applied_once() -> None:
    held, machine = opened()
    for index, sequence in enumerate([3, 1, 2, 1, 3, 2], 2):
        held.apply(index, encode_requests(1, sequence, 1, [Command(b"%d" % sequence)]))
    assert machine.history == [b"3", b"1", b"2"]


def test_what_is_below_the_floor_is_forgotten_and_never_applied() -> None:
    held, machine = opened()
    held.apply(2, encode_requests(1, 1, 1, [Command(b"a")]))
    held.apply(3, encode_requests(1, 3, 3, [Command(b"c")]))
    assert held.apply(4, encode_requests(1, 1, 1, [Command(b"a")])) is None, "answered, or given up"
    assert held.apply(5, encode_requests(1, 2, 1, [Command(b"b")])) is None, "given up before it came"
    assert machine.history == [b"a", b"c"]


def test_a_lower_floor_does_not_take_the_floor_back() -> None:
    held, machine = opened()
    held.apply(2, encode_requests(1, 5, 5, [Command(b"e")]))
    held.apply(3, encode_requests(1, 6, 1, [Command(b"f")]))
    assert held.apply(4, encode_requests(1, 4, 1, [Command(b"d")])) is None
    assert machine.history == [b"e", b"f"]


def test_the_session_used_longest_ago_is_evicted_and_applies_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    held, machine = opened(at=1)
    held.apply(2, encode_open(bytes([2] * 16)))
    held.apply(3, encode_requests(1, 1, 1, [Command(b"a")]))
    held.apply(4, encode_open(bytes([4] * 16)))
    assert held.apply(5, encode_requests(2, 1, 1, [Command(b"b")])) == Applied(2, 1, None)
    assert results(held.apply(6, encode_requests(1, 2, 1, [Command(b"c")]))) == [b"2"]
    assert machine.history == [b"a", b"c"]


def test_whatever_but_a_command_error_comes_out() -> None:
    held, _ = opened()
    with pytest.raises(ZeroDivisionError):
        held.apply(2, encode_requests(1, 1, 1, [Command(b"die")]))


@pytest.mark.parametrize("result", [None, "text", 5, bytearray(b"x")])
def test_a_machine_that_returns_no_bytes_is_an_error(result: object) -> None:
    class Wrong(Recorder):
        def apply(self, command: bytes) -> bytes:
            return result  # type: ignore[return-value]

    held = Sessions(Wrong())
    held.apply(1, encode_open(bytes([1] * 16)))
    with pytest.raises(TypeError, match="apply must return bytes"):
        held.apply(2, encode_requests(1, 1, 1, [Command(b"a")]))


# Keys.


def keyed(key: bytes, since: int, data: bytes = b"a") -> list[Command]:
    return [Command(data, key, since)]


def test_a_key_is_applied_once_over_nodes_and_callers() -> None:
    held, machine = opened(at=1)
    held.apply(2, encode_open(bytes([2] * 16)))
    assert results(held.apply(3, encode_requests(1, 1, 1, keyed(b"k", 2)))) == [b"1"]
    assert results(held.apply(4, encode_requests(2, 1, 1, keyed(b"k", 2)))) == [b"1"]
    assert results(held.apply(5, encode_requests(1, 2, 1, keyed(b"k", 2)))) == [b"1"]
    assert results(held.apply(6, encode_requests(1, 3, 1, keyed(b"k", 5, b"another")))) == [b"1"]
    assert machine.history == [b"a"]


def test_the_empty_key_is_a_key() -> None:
    held, machine = opened()
    for index in (2, 3):
        assert results(held.apply(index, encode_requests(1, index, 1, keyed(b"", 1)))) == [b"1"]
    assert machine.history == [b"a"]


def test_a_refusal_is_remembered_by_its_key() -> None:
    held, machine = opened()
    said = [results(held.apply(i, encode_requests(1, i, 1, keyed(b"k", 1, b"refuse"))))[0] for i in (2, 3)]
    assert [str(error) for error in said] == ["not refuse"] * 2
    assert all(isinstance(error, CommandError) for error in said)
    assert machine.history == [b"refuse"]


def test_an_evicted_key_is_expired_for_who_tried_it_before_and_new_for_who_did_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MAX_KEYS", 1)
    held, machine = opened()
    held.apply(2, encode_requests(1, 1, 1, keyed(b"k", 1)))
    held.apply(3, encode_requests(1, 2, 1, keyed(b"l", 1)))
    [again] = results(held.apply(4, encode_requests(1, 3, 1, keyed(b"k", 1))))
    assert isinstance(again, SessionExpiredError)
    assert results(held.apply(5, encode_requests(1, 4, 1, keyed(b"new", 2)))) == [b"3"]
    assert machine.history == [b"a", b"a", b"a"]


def test_a_key_whose_result_was_forgotten_is_not_applied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_RESULT_BYTES", 3 * (sessions.RESULT_OVERHEAD + 1))
    held, machine = opened()
    held.apply(2, encode_requests(1, 1, 1, keyed(b"0123456789", 1)))
    assert results(held.apply(3, encode_requests(1, 2, 1, keyed(b"0123456789", 1)))) == [b"1"]
    held.apply(4, encode_requests(1, 3, 1, keyed(b"k", 1, b"refuse")))
    [again] = results(held.apply(5, encode_requests(1, 4, 1, keyed(b"0123456789", 1))))
    assert isinstance(again, SessionExpiredError)
    assert len(machine.history) == 2


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)), max_size=60))
def test_two_replicas_agree_whatever_is_sent(entries: list[tuple[int, int, int]]) -> None:
    replicas = [opened(), opened()]
    for index, (session, sequence, floor) in enumerate(entries, 2):
        data = encode_requests(session, sequence, floor, [Command(b"%d" % sequence)])
        if session == 3:
            data = encode_open(bytes([sequence] * 16))
        assert len({repr(held.apply(index, data)) for held, _ in replicas}) == 1
    assert replicas[0][1].history == replicas[1][1].history


def test_results_that_take_too_many_bytes_are_forgotten_but_not_applied_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MAX_RESULT_BYTES", sessions.RESULT_OVERHEAD + 1)
    held, machine = opened()
    assert held.apply(2, encode_open(bytes([2] * 16))) == Opened(2, bytes([2] * 16))
    old = encode_requests(1, 1, 1, [Command(b"a" * 15)])
    new = encode_requests(2, 1, 1, [Command(b"b" * 15)])
    first = results(held.apply(3, old))
    assert results(held.apply(4, old)) == first
    second = results(held.apply(5, new))
    assert isinstance(second[0], bytes)
    assert results(held.apply(6, new)) == second
    [forgotten] = results(held.apply(7, old))
    assert isinstance(forgotten, SessionExpiredError)
    assert len(machine.history) == 2


# The time.


def test_the_time_is_told_before_what_happens_at_it_and_never_goes_back() -> None:
    seen: list[object] = []

    class Watch(Recorder):
        def apply(self, command: bytes) -> bytes:
            seen.append(command)
            return b""

        def advance(self, now: int) -> None:
            seen.append(now)

    held = Sessions(Watch())
    held.apply(1, stamp(encode_open(bytes(16)), 50))
    for sequence, time in enumerate([70, 70, 60, 0, 80], 1):
        held.apply(1 + sequence, stamp(encode_requests(1, sequence, 1, [Command(b"%d" % sequence)]), time))
    held.apply(9, encode_clock(75))
    held.apply(10, encode_clock(90))
    assert seen == [50, 70, b"1", b"2", b"3", b"4", 80, b"5", 90]
    assert held.time == 90


def test_entries_of_the_first_version_are_applied_and_leave_the_time_as_it_is() -> None:
    held, machine = opened()
    held.apply(2, encode_clock(40))
    old = encode_requests(1, 1, 1, [Command(b"a")])
    assert results(held.apply(3, b"\x01\x02" + old[10:])) == [b"1"]
    assert held.apply(4, b"\x01\x01" + bytes([4] * 16)) == Opened(4, bytes([4] * 16))
    assert (machine.times, held.time) == ([40], 40)


def test_a_duplicate_may_move_the_time_and_is_still_not_applied_again() -> None:
    held, machine = opened()
    entry = encode_requests(1, 1, 1, [Command(b"a")])
    held.apply(2, stamp(entry, 10))
    held.apply(3, stamp(entry, 20))
    held.apply(4, stamp(encode_requests(99, 1, 1, [Command(b"b")]), 30))
    assert (machine.history, machine.times) == ([b"a"], [10, 20, 30])


# The members.


def member(sequence: int, node: int, address: str, incarnation: int) -> bytes:
    return encode_requests(1, sequence, 1, [Command(None, None, 0, (node, Member(address, incarnation)))])


def test_a_member_is_set_changed_and_taken_out_each_once() -> None:
    held, machine = opened()
    assert (held.members, held.members_changed) == ({}, False)
    assert results(held.apply(2, member(1, 3, "host:1", 7))) == [b""]
    assert (held.members, held.members_changed) == ({3: Member("host:1", 7)}, True)
    held.members_changed = False
    held.apply(3, member(2, 3, "host:2", 8))
    held.apply(4, member(3, 4, "host:3", 9))
    held.apply(5, member(1, 3, "host:1", 7))
    assert held.members == {3: Member("host:2", 8), 4: Member("host:3", 9)}, "the first was a duplicate"
    held.apply(6, member(4, 3, "", 0))
    held.apply(7, member(5, 99, "", 0))
    assert held.members == {4: Member("host:3", 9)}
    assert machine.history == []


# The whole of it.


def replica(held: Sessions) -> Sessions:
    """Another node that was brought to the state of `held`."""
    other = Sessions(Recorder())
    other.restore(held.capture())
    return other


def test_what_is_captured_does_not_change_any_more() -> None:
    held, _ = opened()
    held.apply(2, encode_requests(1, 1, 1, keyed(b"k", 1)))
    state = held.capture()
    before = repr(state)
    held.apply(3, encode_requests(1, 2, 2, keyed(b"l", 1)))
    held.apply(4, member(3, 3, "host:1", 7))
    held.apply(5, encode_open(bytes([5] * 16)))
    held.apply(6, encode_clock(99))
    assert repr(state) == before
    other = Sessions(Recorder())
    other.restore(state)
    other.apply(3, encode_requests(1, 2, 2, keyed(b"l", 1)))
    assert repr(state) == before, "nor by who was restored from it"


def test_a_restored_node_knows_what_was_applied() -> None:
    held, _ = opened()
    entry = encode_requests(1, 1, 1, [Command(b"a"), Command(b"refuse"), *keyed(b"k", 1)])
    first = results(held.apply(2, entry))
    held.apply(3, member(2, 3, "host:1", 7))
    held.apply(4, encode_clock(99))
    other = replica(held)
    assert other.results(1) == held.results(1)
    assert other.results(9) is None
    assert [str(result) for result in results(other.apply(5, entry))] == [str(result) for result in first]
    assert results(other.apply(6, encode_requests(1, 3, 1, keyed(b"k", 1)))) == [first[2]]
    assert (other.members, other.members_changed) == ({3: Member("host:1", 7)}, True)
    assert other.time == 99


ENTRIES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 9)),
    max_size=60,
)


def entry_of(session: int, sequence: int, floor: int, key: int, time: int) -> bytes:
    if session == 4:
        return stamp(encode_open(bytes([sequence] * 16)), time)
    commands = [Command(b"%d" % sequence)]
    if key:
        commands.append(Command(b"refuse %d" % sequence, b"key %d" % (key * sequence), floor))
    return stamp(encode_requests(session, sequence, floor, commands), time)


@given(ENTRIES, ENTRIES)
def test_a_restored_node_and_one_that_applied_it_all_go_on_alike(
    before: list[tuple[int, int, int, int, int]], after: list[tuple[int, int, int, int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Everything that is bounded runs over.
        patch.setattr(sessions, "MAX_SESSIONS", 2)
        patch.setattr(sessions, "MAX_KEYS", 3)
        patch.setattr(sessions, "MAX_RESULT_BYTES", 5 * sessions.RESULT_OVERHEAD)
        held, machine = opened()
        for index, entry in enumerate(before, 2):
            held.apply(index, entry_of(*entry))
        machine.history.clear()
        other = replica(held)
        for index, entry in enumerate(after, 100):
            assert repr(held.apply(index, entry_of(*entry))) == repr(other.apply(index, entry_of(*entry)))
        assert repr(held.capture()) == repr(other.capture())
