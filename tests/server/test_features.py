"""One driver, turn by turn: reads, the time, operators, the members and snapshots."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

import pytest
from tests.server.bench import TICK, Bench, kinds, messages
from tests.server.support import Answers, Recorder

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    ChangeMembership,
    InstallSnapshot,
    LogEntry,
    Membership,
    MembershipChanged,
    MembershipChangeInProgressError,
    MemoryLog,
    NotLeaderError,
    OverloadedError,
    RaftError,
    ReadIndexReply,
    ReadIndexRequest,
    Snapshot,
    StorageError,
    TransferLeadership,
    wire,
)
from raft_io.server import StateMachine, driver, envelope, frames
from raft_io.server.driver import Output
from raft_io.server.envelope import Member
from raft_io.server.requests import Request
from raft_io.server.sessions import State
from raft_io.server.snapshots import Capture

# Reads.


def test_reads_of_a_turn_share_a_round_and_no_entry() -> None:
    bench = Bench()
    bench.serve()
    last = bench.driver.node.log.last_index()
    readers = [bench.read() for _ in range(10)]
    [heartbeat] = messages(bench.turn(), 2)
    assert isinstance(heartbeat, AppendEntries) and heartbeat.round > 0
    assert not readers[0].done
    bench.receive(AppendEntriesReply(bench.term, True, 2, last, round=heartbeat.round))
    bench.turn()
    assert [reader.value for reader in readers] == [1] * 10
    assert bench.driver.node.log.last_index() == last


def test_a_follower_asks_the_leader_and_serves_what_it_has_applied_by_then() -> None:
    bench = Bench()
    bench.follow()
    reader = bench.read()
    [request] = messages(bench.turn(), 2)
    assert isinstance(request, ReadIndexRequest)
    reply = wire.encode(ReadIndexReply(5, request.context, 0))
    bench.driver.receive(3, frames.MESSAGE, reply)
    bench.turn()
    assert not reader.done, "only the leader's word counts"
    bench.driver.receive(2, frames.MESSAGE, reply)
    bench.turn()
    assert reader.value == 0
    bench.driver.receive(2, frames.MESSAGE, reply)
    assert bench.turn().failure is None


def test_a_read_waits_for_a_leader_and_then_for_its_confirmation() -> None:
    bench = Bench()
    early, late = bench.read(seconds=0.05), bench.read(seconds=1.0)
    output = bench.turn()
    assert (output.send, output.again) == ({}, False)
    bench.turn(0.05)
    assert isinstance(early.error, NotLeaderError)
    bench.follow()
    assert not late.done
    bench.turn(1.0)
    assert isinstance(late.error, TimeoutError)


def test_a_read_that_failed_is_asked_again_of_the_next_leader() -> None:
    bench = Bench()
    bench.follow()
    reader = bench.read()
    [first] = messages(bench.turn(), 2)
    bench.receive(AppendEntries(6, 3, 0, 0, (), 0), peer=3)
    output = bench.synced()
    [second] = [message for message in messages(output, 3) if isinstance(message, ReadIndexRequest)]
    assert isinstance(first, ReadIndexRequest) and second.context != first.context
    bench.receive(ReadIndexReply(6, first.context, 0), peer=3)
    bench.turn()
    assert not reader.done
    bench.receive(ReadIndexReply(6, second.context, 0), peer=3)
    bench.turn()
    assert reader.value == 0


def test_a_new_connection_to_the_leader_asks_again_at_once_and_to_others_does_not() -> None:
    bench = Bench()
    bench.follow()
    bench.read()
    assert len(messages(bench.turn(), 2)) == 1
    bench.driver.link_restored(3)
    assert messages(bench.turn(), 2) == []
    bench.driver.link_restored(2)
    assert len(messages(bench.turn(), 2)) == 1


# The time.


def test_what_a_leader_proposes_carries_its_time_whoever_asked() -> None:
    bench = Bench()
    bench.lead()
    bench.wall = 1000
    bench.ask(b"own")
    bench.driver.receive(3, frames.FORWARD, envelope.encode_open(bytes(16)))
    bench.turn()
    log = bench.driver.node.log
    found = [envelope.decode(entry.command) for entry in log.entries(1, log.last_index())]
    assert [entry.time for entry in found] == [1000, 1000]


@pytest.mark.parametrize(("wall", "time"), [(-5, 0), (2**70, 2**63 - 1)])
def test_a_clock_that_tells_nonsense_stops_no_node(wall: int, time: int) -> None:
    bench = Bench()
    bench.lead()
    bench.wall = wall
    bench.ask()
    assert bench.turn().failure is None
    entry = bench.driver.node.log.entry(1)
    assert entry is not None
    assert envelope.decode(entry.command).time == time


def test_a_machine_that_waits_for_the_time_is_told_it_once_by_an_entry() -> None:
    bench = Bench()
    bench.wall = 1000
    bench.serve()
    last = bench.driver.node.log.last_index()
    bench.machine.wanted = 5000
    bench.wall = 4999
    bench.turn(TICK)
    assert bench.driver.node.log.last_index() == last
    bench.wall = 5001
    for _ in range(3):
        bench.synced(TICK)
    assert bench.driver.node.log.last_index() == last + 1, "not again while it is under way"
    bench.commit()
    assert bench.machine.times == [1000, 5001]
    bench.turn(TICK)
    bench.machine.wanted = None
    bench.turn(TICK)
    assert bench.driver.node.log.last_index() == last + 1


def test_a_leader_that_can_take_nothing_tells_the_time_later() -> None:
    bench = Bench(max_uncommitted_bytes=200)
    bench.serve()
    bench.ask(bytes(150))
    bench.synced()
    bench.machine.wanted = bench.wall = 5
    last = bench.driver.node.log.last_index()
    bench.synced(TICK)
    assert bench.driver.node.log.last_index() == last
    bench.commit()
    bench.turn(TICK)
    assert bench.driver.node.log.last_index() == last + 1


def test_the_time_is_not_told_while_leadership_is_handed_over() -> None:
    bench = Bench()
    bench.serve()
    bench.operate(TransferLeadership(3))
    bench.turn()
    last = bench.driver.node.log.last_index()
    bench.machine.wanted = bench.wall = 5
    assert bench.turn(TICK).failure is None
    assert bench.driver.node.log.last_index() == last


def test_a_machine_need_not_care_for_the_time() -> None:
    machine = Recorder()
    StateMachine.advance(machine, 5)
    assert StateMachine.due(machine) is None


# Operators.


def test_an_operators_event_is_fed_in_the_next_turn_and_its_error_told() -> None:
    bench = Bench()
    refused = bench.operate(TransferLeadership(2))
    assert refused == []
    bench.turn()
    assert isinstance(refused[0], NotLeaderError)
    bench.serve()
    wrong = bench.operate(ChangeMembership([]))
    taken = bench.operate(ChangeMembership([1, 2]))
    second = bench.operate(ChangeMembership([1, 2, 3, 4]))
    output = bench.turn()
    assert isinstance(wrong[0], ValueError)
    assert taken == [None]
    assert isinstance(second[0], MembershipChangeInProgressError)
    assert [type(change) for change in output.changes] == [MembershipChanged]


def test_operators_are_bounded_and_told_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MAX_OPERATIONS", 1)
    bench = Bench()
    waits = bench.operate(TransferLeadership(2))
    bench.driver.request_snapshot(Answers())
    with pytest.raises(OverloadedError, match="1 operations are waiting"):
        bench.operate(TransferLeadership(3))
    with pytest.raises(OverloadedError, match="1 wait for a snapshot"):
        bench.driver.request_snapshot(Answers())
    [(_, succeeded, _)] = bench.driver.stop(RaftError("the end"))
    assert not succeeded
    assert [str(error) for error in waits] == ["the end"]


def test_a_node_that_is_dead_takes_no_requests_of_any_kind() -> None:
    bench = Bench()
    bench.lead()
    waits = bench.operate(TransferLeadership(2))
    bench.driver.sync_failed(0, "device busy")
    bench.turn()
    assert isinstance(waits[0], StorageError)
    for call in (
        bench.read,
        bench.ask,
        bench.driver.request_snapshot,
        lambda: bench.operate(ChangeMembership([1])),
    ):
        with pytest.raises(StorageError, match="device busy"):
            call()


def test_requests_wait_while_leadership_is_handed_over_wherever_they_come_from() -> None:
    bench = Bench()
    bench.serve()
    bench.operate(TransferLeadership(3))
    bench.turn()
    waiter = bench.ask(b"own")
    bench.driver.receive(2, frames.FORWARD, envelope.encode_open(bytes(16)))
    last = bench.driver.node.log.last_index()
    for tick in range(25):  # the target is deaf: it is given up
        bench.receive(AppendEntriesReply(bench.term, True, 2, last))
        assert kinds(bench.synced(TICK), 2).count(frames.REFUSED) == 0
        assert bench.driver.node.log.last_index() == last or tick > 15
    assert bench.driver.node.log.last_index() == last + 2
    bench.commit()
    assert waiter.value == b"2"


def test_what_is_forwarded_during_a_transfer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MAX_POSTPONED", 150)
    bench = Bench()
    bench.serve()
    bench.operate(TransferLeadership(3))
    bench.turn()
    entries = [envelope.encode_requests(9, n, 1, [envelope.Command(bytes(50))]) for n in (1, 2)]
    for entry in entries:
        bench.driver.receive(2, frames.FORWARD, entry)
    output = bench.turn()
    assert [data for data in output.send[2] if data[4] == frames.REFUSED] == [frames.encode_refused(9, 2)]


# The members.


def test_a_member_is_told_through_the_log_and_noticed_when_it_is_applied() -> None:
    bench = Bench()
    bench.serve()
    waiter = Answers()
    bench.driver.request(Request(waiter, 10.0, None, member=(4, Member("host:704", 44))))
    output = bench.turn()
    assert not output.members_changed
    bench.driver.synced(output.sync)
    bench.receive(AppendEntriesReply(bench.term, True, 2, bench.driver.node.log.last_index()))
    output = bench.turn()
    assert output.members_changed
    assert dict(bench.driver.members) == {4: Member("host:704", 44)}
    assert waiter.value == b""
    assert not bench.turn().members_changed


# Snapshots.


def written(output: Output) -> tuple[int, bytes]:
    """What the shell makes of a capture."""
    assert output.capture is not None
    sink = io.BytesIO()
    output.capture.write(sink)
    return output.capture.index, sink.getvalue()


def test_a_snapshot_is_taken_by_itself_and_saved_and_the_log_is_short() -> None:
    bench = Bench(snapshot_threshold=2)
    bench.lead()
    bench.ask(b"first")
    bench.commit()
    bench.synced()
    bench.receive(AppendEntriesReply(bench.term, True, 2, bench.driver.node.log.last_index()))
    output = bench.turn()
    index, data = written(output)
    assert index == bench.driver.node.last_applied == 2
    bench.driver.snapshot_taken(index, data)
    assert bench.turn().sync
    saved = bench.driver.node.log.snapshot()
    assert saved is not None and (saved.index, saved.data) == (2, data)
    assert bench.driver.node.log.entry(2) is None


def test_who_asks_for_a_snapshot_is_answered_once_it_is_durable() -> None:
    bench = Bench()
    waiter = Answers()
    bench.driver.request_snapshot(waiter)
    bench.turn()
    assert waiter.value == 0, "there is nothing to be saved yet"
    bench.serve()
    first, second = Answers(), Answers()
    bench.driver.request_snapshot(first)
    index, data = written(bench.turn())
    bench.driver.request_snapshot(second)
    assert bench.turn().capture is None, "one at a time"
    bench.driver.snapshot_taken(index, data)
    bench.driver.snapshot_taken(index + 1, b"not asked for")
    output = bench.turn()
    assert second.value == 2, "nothing was applied since"
    assert not first.done
    bench.driver.synced(output.sync)
    bench.turn()
    assert first.value == 2


def test_a_snapshot_that_cannot_be_taken_is_reported_and_the_node_goes_on() -> None:
    class Shy(Recorder):
        def capture(self) -> Callable[[BinaryIO], None]:
            raise ZeroDivisionError("not now")

    bench = Bench()
    bench.serve()
    taken, lost = Answers(), Answers()
    bench.driver.request_snapshot(lost)
    index, _ = written(bench.turn())
    bench.driver.snapshot_failed(index, OSError(28, "No space left on device"))
    bench.driver.snapshot_failed(index, OSError(28, "told twice"))
    bench.turn()
    assert str(lost.error) == "no snapshot at index 2: No space left on device"
    bench.machine.__class__ = Shy
    bench.driver.request_snapshot(taken)
    output = bench.turn()
    assert (output.capture, output.failure) == (None, None)
    assert bench.reports[-2:] == [
        "node 1: no snapshot at index 2: No space left on device",
        "node 1: no snapshot at index 2: ZeroDivisionError: not now",
    ]
    assert isinstance(taken.error, RaftError)
    bench.machine.__class__ = Recorder
    bench.driver.request_snapshot()
    assert written(bench.turn())[0] == 2


def test_a_node_starts_from_its_snapshot_with_sessions_and_members() -> None:
    bench = Bench()
    bench.serve()
    bench.wall = 7000
    bench.driver.request(Request(Answers(), 10.0, None, member=(4, Member("host:704", 44))))
    bench.commit()
    bench.driver.request_snapshot()
    index, data = written(bench.turn())
    log = MemoryLog()
    log.save_snapshot(Snapshot(index, bench.term, Membership([1, 2, 3]), data))
    again = Bench(log)
    assert again.machine.history == [b"first"]
    assert dict(again.driver.members) == {4: Member("host:704", 44)}
    assert again.turn().members_changed
    assert again.driver.node.last_applied == index
    assert again.reports == [f"node 1: restored the snapshot at index {index}"]


def test_a_node_whose_snapshot_is_damaged_does_not_start() -> None:
    log = MemoryLog()
    log.save_snapshot(Snapshot(3, 1, Membership([1]), b"nothing of ours at all"))
    with pytest.raises(StorageError, match="no snapshot of a server"):
        Bench(log)


def install(bench: Bench, data: bytes, index: int = 9) -> Output:
    """The leader sends a snapshot in one piece."""
    members = Membership([1, 2, 3])
    bench.receive(InstallSnapshot(5, 2, index, 4, members, 0, data, True, len(data), 0))
    return bench.synced()


def snapshot_of(state: State, history: list[bytes]) -> bytes:
    machine = Recorder()
    machine.history = history
    sink = io.BytesIO()
    Capture(9, state, machine.capture()).write(sink)
    return sink.getvalue()


def test_a_follower_that_is_sent_a_snapshot_goes_on_from_there_and_answers_who_waits() -> None:
    bench = Bench()
    bench.follow()
    waiter = bench.ask(b"mine")
    bench.turn()
    opening = envelope.encode_open(bytes(16))
    bench.receive(AppendEntries(5, 2, 0, 0, (LogEntry(5, 1, opening),), 1))
    bench.synced()
    bench.turn()
    covered = State([(1, bytes(16), 1, {1: [b"7"]})], [], [(1, 1)], 0, 0, {8: Member("host:8", 8)})
    install(bench, snapshot_of(covered, [b"%d" % n for n in range(7)]))
    assert waiter.value == b"7"
    assert len(bench.machine.history) == 7
    assert bench.driver.node.last_applied == 9
    assert dict(bench.driver.members) == {8: Member("host:8", 8)}


def test_the_time_that_a_restore_takes_is_no_silence_of_the_leader() -> None:
    bench = Bench()
    bench.follow()
    install(bench, snapshot_of(State([], [], [], 0, 0, {}), []))
    bench.turn(60.0)
    assert bench.driver.node.leader == 2
    output = bench.turn(60.0)
    assert messages(output, 2), "but any other is"


def test_a_snapshot_that_cannot_be_restored_ends_the_node() -> None:
    bench = Bench()
    bench.follow()
    install(bench, b"nothing of ours at all")
    output = bench.turn()
    assert isinstance(output.failure, StorageError)
    assert "no snapshot of a server" in str(output.failure)
