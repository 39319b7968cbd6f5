"""One driver, turn by turn: what it answers, refuses, holds back and survives."""

from __future__ import annotations

import pytest
from tests.server.bench import TICK, Bench, kinds

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    LogEntry,
    NotLeaderError,
    OverloadedError,
    RaftError,
    StorageError,
    WireError,
    wire,
)
from raft_io.server import driver, envelope, frames


def test_a_leader_answers_once_a_majority_has_it_and_it_is_applied() -> None:
    bench = Bench()
    bench.lead()
    waiter = bench.ask()
    bench.commit()  # the session
    assert not waiter.done
    bench.commit()
    assert waiter.value == b"1"


def test_an_overloaded_leader_refuses_its_own_callers_at_once() -> None:
    bench = Bench(max_uncommitted_bytes=200)
    bench.lead()
    first = bench.ask()
    bench.commit()
    bench.commit()
    assert first.done
    bench.ask(bytes(150))
    bench.turn()
    refused = bench.ask(bytes(150))
    bench.turn()
    assert isinstance(refused.error, OverloadedError)


def test_an_overloaded_leader_tells_who_forwards_which_entry_it_refuses() -> None:
    bench = Bench(max_uncommitted_bytes=200)
    bench.lead()
    entries = [envelope.encode_requests(9, n, 1, [envelope.Command(bytes(150))]) for n in (1, 2)]
    for entry in entries:
        bench.driver.receive(3, frames.FORWARD, entry)
    output = bench.turn()
    refusals = [data for data in output.send[3] if data[4] == frames.REFUSED]
    assert refusals == [frames.encode_refused(9, 2)]


def test_a_follower_drops_what_is_forwarded_to_it() -> None:
    bench = Bench()
    bench.follow()
    bench.driver.receive(3, frames.FORWARD, envelope.encode_open(bytes(16)))
    output = bench.turn()
    assert output.send == {}
    assert output.failure is None
    assert bench.driver.node.log.last_index() == 0


def test_a_follower_forwards_and_a_refused_opening_comes_again() -> None:
    bench = Bench()
    bench.follow()
    bench.ask()
    assert kinds(bench.turn(), 2) == [frames.FORWARD]
    bench.driver.receive(2, frames.REFUSED, bytes(16))
    seen = 0
    for _ in range(100):
        bench.receive(AppendEntries(5, 2, 0, 0, (), 0))
        seen += kinds(bench.turn(TICK), 2).count(frames.FORWARD)
    assert seen >= 2


def test_without_a_leader_a_caller_is_told_that_it_was_not_applied() -> None:
    bench = Bench()
    waiter = bench.ask(seconds=0.2)
    bench.turn(0.1)
    assert not waiter.done
    bench.turn(0.1)
    assert isinstance(waiter.error, NotLeaderError)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (frames.HELLO, b""),
        (0, b""),
        (frames.MESSAGE, b""),
        (frames.MESSAGE, wire.encode(AppendEntriesReply(1, True, 3, 0))),
        (frames.FORWARD, b""),
        (frames.REFUSED, b"short"),
    ],
)
def test_what_no_peer_sends_is_a_wire_error_and_changes_nothing(kind: int, body: bytes) -> None:
    bench = Bench()
    with pytest.raises(WireError):
        bench.driver.receive(2, kind, body)
    output = bench.turn()
    assert (output.send, output.sync, output.failure) == ({}, 0, None)


def test_a_forwarded_entry_that_no_server_makes_so_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MAX_FORWARD", 20)
    bench = Bench()
    with pytest.raises(WireError, match="entry of 26 bytes; at most 20"):
        bench.driver.receive(2, frames.FORWARD, envelope.encode_open(bytes(16)))


def test_what_relies_on_the_disk_waits_for_it() -> None:
    bench = Bench()
    bench.receive(AppendEntries(5, 2, 0, 0, (LogEntry(5, 1, b"a"),), 0))
    output = bench.turn()
    assert output.send == {}
    assert output.sync
    bench.receive(AppendEntries(5, 2, 1, 5, (LogEntry(5, 2, b"b"),), 0))
    second = bench.turn()
    assert (second.send, second.sync) == ({}, 0), "one sync at a time"
    bench.driver.synced(output.sync)
    third = bench.turn()
    assert len(third.send[2]) == 1, "what the second entry relies on is not durable yet"
    assert third.sync > output.sync
    bench.driver.synced(third.sync)
    assert len(bench.turn().send[2]) == 1


def test_a_disk_that_hangs_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MAX_HELD", 50)
    bench = Bench()
    bench.receive(AppendEntries(5, 2, 0, 0, (LogEntry(5, 1, b"a"),), 0))
    output = bench.turn()
    for _ in range(1000):
        bench.receive(AppendEntries(5, 2, 1, 5, (), 0))
        assert bench.turn(TICK).send == {}
    bench.driver.synced(output.sync)
    sent = len(bench.synced().send[2])
    assert 1 <= sent <= 50
    bench.receive(AppendEntries(5, 2, 1, 5, (), 0))
    assert len(bench.synced().send[2]) == 1


def test_a_process_that_slept_feeds_the_ticks_it_missed_and_asks_once() -> None:
    bench = Bench()
    output = bench.turn(3600.0)
    assert [kinds(output, peer) for peer in (2, 3)] == [[frames.MESSAGE]] * 2
    assert bench.driver.node.term == 0, "it only asks whether it could win"
    assert bench.driver.next_tick() > bench.now


def test_time_that_stands_still_or_goes_back_changes_nothing() -> None:
    bench = Bench()
    bench.follow()
    for seconds in (0.0, -100.0, 99.0):
        output = bench.turn(seconds)
        assert (output.send, output.sync) == ({}, 0)
    assert bench.driver.node.leader == 2


def test_a_failed_sync_ends_the_node_and_whoever_waits_is_told() -> None:
    bench = Bench()
    bench.lead()
    sent = bench.ask()
    output = bench.turn()
    late = bench.ask()
    bench.driver.sync_failed(output.sync, "device busy")
    output = bench.turn()
    assert isinstance(output.failure, StorageError)
    assert isinstance(sent.error, StorageError), "it waited for the session"
    assert isinstance(late.error, StorageError)
    with pytest.raises(StorageError, match="device busy"):
        bench.ask()
    assert bench.turn().failure is output.failure


def test_a_bug_in_the_machine_ends_the_node_with_errors_of_the_library() -> None:
    bench = Bench()
    bench.lead()
    bench.ask()
    bench.commit()
    bench.commit()
    unknown = bench.ask(b"die")
    bench.synced()
    bench.receive(AppendEntriesReply(bench.term, True, 2, bench.driver.node.log.last_index()))
    queued = bench.ask(b"die too")
    output = bench.turn()
    assert isinstance(output.failure, ZeroDivisionError)
    assert isinstance(unknown.error, TimeoutError)
    assert isinstance(queued.error, (RaftError, TimeoutError))


def test_each_change_of_role_is_one_line() -> None:
    bench = Bench()
    bench.lead()
    bench.receive(AppendEntries(bench.term + 1, 3, 0, 0, (), 0), peer=3)
    bench.synced()
    bench.turn()
    assert bench.reports == [
        "node 1: candidate in term 1, no leader known",
        "node 1: leader in term 1, node 1 leads",
        "node 1: follower in term 2, node 3 leads",
    ]
