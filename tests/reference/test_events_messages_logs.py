"""The reference of raft-io 0.4, sentence by sentence in its order: from `Event` on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support import (
    Cluster,
    TracingLog,
    ack,
    applied,
    campaign,
    caught_up_leader,
    elect,
    entries_of,
    heartbeat,
    leader,
    log_of,
    paper,
    receive,
    reply_of,
    sent,
    sent_to,
    step,
    terms_in,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    Apply,
    Event,
    HardState,
    LogEntry,
    MemoryLog,
    MemoryTransport,
    Message,
    NotLeaderError,
    Propose,
    RaftConfig,
    RaftError,
    RaftLog,
    RaftNode,
    RaftTransport,
    Receive,
    RequestVote,
    RequestVoteReply,
    Send,
    StorageError,
    Tick,
    WalLog,
)

pytestmark = pytest.mark.core


# Event.


def test_example_events() -> None:
    node = RaftNode(paper(1, [2, 3]))
    events: list[Event] = [
        Tick(),
        Receive(RequestVote(term=1, candidate=2, last_log_index=0, last_log_term=0)),
    ]
    for event in events:
        node.step(event)
    with pytest.raises(NotLeaderError):
        node.step(Propose(b"cmd"))


def test_a_node_changes_only_in_response_to_an_event() -> None:
    node = leader()
    step(node, Propose(b"x"))
    before = node.status
    assert node.drain() == []
    assert node.status == before


# Action.


def test_example_actions() -> None:
    node = RaftNode(RaftConfig.single(1))
    while not node.is_leader:
        node.step(Tick())
    seen = []
    for action in node.step(Propose(b"x")):
        match action:
            case Send(to, message):
                seen.append((to, message))
            case Apply(index, _, command):
                seen.append((index, command))
            case _:
                raise AssertionError
    assert seen == [(1, b"x")]


def test_applies_come_in_strictly_increasing_order_each_index_once() -> None:
    node = RaftNode(paper(1, [2, 3]))
    receive(node, AppendEntries(1, 2, 0, 0, entries_of([1] * 9), 0))
    indexes = []
    for commit in (2, 2, 1, 5, 9, 9):
        indexes += applied(heartbeat(node, prev=(9, 1), commit=commit))
    assert indexes == list(range(1, 10))


# Messages.


def test_example_the_term_of_any_message() -> None:
    message: Message = AppendEntriesReply(
        term=5, success=False, sender=2, match_index=0, conflict_index=1, conflict_term=0
    )
    assert message.term == 5


def test_example_an_empty_heartbeat() -> None:
    beat: Message = AppendEntries(
        term=4, leader=1, prev_log_index=9, prev_log_term=3, entries=[], leader_commit=7
    )
    assert beat.term == 4


def test_the_node_sends_nothing_itself_but_emits_send() -> None:
    actions = campaign(RaftNode(paper(1, [2, 3])))
    assert [(action.to, type(action.message)) for action in actions if isinstance(action, Send)] == [
        (2, RequestVote),
        (3, RequestVote),
    ]


def test_append_entries_carries_entries_to_a_follower_behind_and_none_to_one_caught_up() -> None:
    node = caught_up_leader(heartbeat_interval=1)
    (entries, _) = sent(step(node, Propose(b"x")), AppendEntries)
    assert len(entries.entries) == 1
    ack(node, 2, 1)
    (beat, _) = sent(step(node, Tick()), AppendEntries)
    assert beat.entries == ()


def test_a_vote_is_granted_only_by_who_has_not_voted_in_this_term() -> None:
    node = RaftNode(paper(1, [2, 3]))
    assert reply_of(node, RequestVote(1, 2, 0, 0)).vote_granted
    assert not reply_of(node, RequestVote(1, 3, 0, 0)).vote_granted


def test_a_vote_is_granted_only_to_a_log_as_up_to_date() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 2]))
    assert not reply_of(node, RequestVote(3, 2, 9, 1)).vote_granted
    assert not reply_of(node, RequestVote(4, 2, 1, 2)).vote_granted
    assert reply_of(node, RequestVote(5, 2, 2, 2)).vote_granted


def test_a_node_missing_committed_entries_is_not_elected() -> None:
    cluster = Cluster({1: log_of([]), 2: log_of([]), 3: log_of([])})
    cluster.elect(1)
    cluster.cut = {3}
    cluster.step(1, Propose(b"x"))
    cluster.settle()
    assert cluster.nodes[1].commit_index == 1
    cluster.cut = {1}
    cluster.tick(3, count=100)
    assert not cluster.nodes[3].is_leader
    cluster.tick(2, count=100)
    assert cluster.nodes[2].is_leader


def test_votes_are_counted_by_the_id_in_the_reply() -> None:
    node = RaftNode(paper(1, [2, 3, 4, 5]))
    campaign(node)
    for _ in range(5):
        receive(node, RequestVoteReply(1, True, 2))
    assert not node.is_leader
    receive(node, RequestVoteReply(1, True, 3))
    assert node.is_leader


def test_a_heartbeat_asserts_leadership_and_resets_the_election_timer() -> None:
    node = RaftNode(paper(1, [2, 3]).with_election_timeout(10, 10))
    for _ in range(9):
        step(node, Tick())
    heartbeat(node, term=1, sender=3)
    assert node.leader == 3
    for _ in range(9):
        assert step(node, Tick()) == []


def test_prev_log_lets_the_follower_verify_that_its_log_matches() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 2]))
    assert reply_of(node, AppendEntries(3, 2, 2, 2, (), 0)).success
    assert not reply_of(node, AppendEntries(3, 2, 2, 1, (), 0)).success
    assert not reply_of(node, AppendEntries(3, 2, 3, 2, (), 0)).success


def test_match_index_is_the_highest_index_agreed_on() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 1]))
    assert reply_of(node, AppendEntries(1, 2, 2, 1, entries_of([1, 1], first=3), 0)).match_index == 4


def test_the_hint_is_0_on_success() -> None:
    reply = heartbeat(RaftNode(paper(1, [2, 3])))
    assert sent(reply, AppendEntriesReply) == [AppendEntriesReply(1, True, 1, 0, 0, 0)]


def test_on_a_rejection_the_hint_skips_a_whole_term_in_one_round_trip() -> None:
    follower = RaftNode(paper(2, [1]), log_of([1] * 5 + [2] * 200))
    node = RaftNode(paper(1, [2]), log_of([1] * 5 + [3] * 200))
    (probe,) = sent(elect(node), AppendEntries)
    refusal = reply_of(follower, probe)
    assert (refusal.conflict_index, refusal.conflict_term) == (6, 2)
    (second,) = sent_to(receive(node, refusal), 2)
    assert reply_of(follower, second).success


def test_pipelining_sends_on_without_waiting_for_acknowledgements() -> None:
    node = caught_up_leader()
    sizes = [len(sent(step(node, Propose(b"x")), AppendEntries)) for _ in range(10)]
    assert sizes == [2] * 10


def test_an_entry_commits_on_a_quorum() -> None:
    node = leader([2, 3, 4, 5])
    step(node, Propose(b"x"))
    assert applied(ack(node, 2, 1)) == []
    assert applied(ack(node, 3, 1)) == [1]


# RaftLog and MemoryLog.


def test_example_memory_log() -> None:
    log = MemoryLog()
    log.append([LogEntry(1, 1, b"a")])
    log.set_hard_state(HardState(1, 1))
    log.sync()
    assert log.last_index() == 1
    assert log.last_term() == 1
    assert log.term_at(1) == 1
    assert log.term_at(0) == 0
    assert log.hard_state().voted_for == 1
    assert (len(log), log.is_empty) == (1, False)


def test_example_an_append_that_is_not_contiguous_is_rejected() -> None:
    with pytest.raises(StorageError):
        MemoryLog().append([LogEntry(1, 2)])


def test_the_log_methods() -> None:
    log = MemoryLog()
    log.append(entries_of([1, 1, 2]))
    assert log.term_at(4) is None and log.entry(4) is None
    assert [entry.index for entry in log.entries(2, 3)] == [2, 3]
    log.truncate(2)
    assert log.last_index() == 1


def test_entries_has_a_default_over_entry() -> None:
    assert "entries" not in vars(TracingLog)
    log: RaftLog = TracingLog([1, 1, 2])
    assert list(log.entries(2, 9)) == entries_of([1, 1, 2])[1:]


def test_the_node_reads_and_writes_through_its_log() -> None:
    log = TracingLog([1, 1])
    node = RaftNode(paper(1, [2, 3]), log)
    receive(node, AppendEntries(2, 2, 1, 1, entries_of([2], first=2), 0))
    assert log.calls == ["set_hard_state", "truncate", "append", "sync"]
    assert terms_in(log) == [1, 2]


def test_the_node_syncs_before_a_message_that_depends_on_what_was_written() -> None:
    unsynced: list[str] = []

    class Watched(TracingLog):
        def called(self, name: str) -> None:
            super().called(name)
            unsynced.append(name)
            if name == "sync":
                unsynced.clear()

    node = RaftNode(paper(1, [2, 3]), Watched())
    for message in (
        RequestVote(1, 2, 0, 0),
        AppendEntries(2, 3, 0, 0, entries_of([1, 2]), 0),
        AppendEntries(3, 2, 1, 1, entries_of([3], first=2), 0),
    ):
        assert receive(node, message) != []
        assert unsynced == []


def test_implementors_map_their_own_errors() -> None:
    class Failing(TracingLog):
        def append(self, entries: Sequence[LogEntry]) -> None:
            raise StorageError.wrap("append entries", OSError("disk full"))

    node = leader(log=Failing())
    with pytest.raises(StorageError, match="log storage error while append entries: disk full"):
        node.step(Propose(b"x"))


# WalLog.


def test_example_a_durable_log_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "node-1.wal"
    with WalLog.open(path) as log:
        node = RaftNode.with_log(RaftConfig.single(1), log)
        elect(node)
        step(node, Propose(b"x"))
        last = log.last_index()
    with WalLog.open(path) as recovered:
        assert recovered.last_index() == last
        assert recovered.entry(last) == LogEntry(1, 1, b"x")
        assert recovered.hard_state() == HardState(1, 1)


def test_a_log_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no directory")
    with pytest.raises(StorageError):
        WalLog.open(tmp_path / "file")


# RaftTransport and MemoryTransport.


def test_example_memory_transport() -> None:
    transport: RaftTransport = MemoryTransport()
    transport.send(2, AppendEntries(1, 1, 0, 0, [], 0))
    assert isinstance(transport, MemoryTransport)
    assert transport.pending() == 1
    pending = transport.take()
    assert pending[0][0] == 2
    assert transport.take() == []


# Error.


def test_example_errors() -> None:
    assert str(NotLeaderError(3)) == "not the leader; current leader is node 3"
    assert "disk full" in str(StorageError.wrap("append entries", OSError("disk full")))


def test_not_leader_is_retryable_and_storage_is_fatal() -> None:
    redirect: RaftError = NotLeaderError(None)
    assert (redirect.kind, redirect.is_retryable, redirect.is_fatal) == ("NotLeader", True, False)
    broken: RaftError = StorageError("sync log", "device busy")
    assert (broken.kind, broken.is_retryable, broken.is_fatal) == ("Storage", False, True)
    assert redirect.caption == "Not the leader"
    assert isinstance(broken, Exception)


def test_storage_names_the_operation_and_the_backends_message() -> None:
    error = StorageError("sync log", "device busy")
    assert (error.context, error.detail) == ("sync log", "device busy")
