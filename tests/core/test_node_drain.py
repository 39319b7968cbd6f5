"""`RaftNode`: `step` against `feed` and `drain`, what is synced, and what is sent from which state."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import (
    TracingLog,
    ack,
    applied,
    drain,
    entries_of,
    feed,
    heartbeat,
    leader,
    paper,
    reply_of,
    sent,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    Event,
    HardState,
    NotLeaderError,
    OverloadedError,
    Propose,
    RaftConfig,
    RaftNode,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    Sync,
    Synced,
    Tick,
)

pytestmark = pytest.mark.core


# feed, drain, step.


def test_feed_returns_the_index_of_the_entry_it_made_else_0() -> None:
    node = leader()
    assert node.feed(Propose(b"a")) == 1
    assert node.feed(Propose(b"b")) == 2
    assert node.feed(Tick()) == 0
    assert node.feed(Receive(AppendEntriesReply(1, True, 2, 0))) == 0


def test_a_feed_that_raises_changes_nothing() -> None:
    node = RaftNode(paper(1, [2, 3]))
    heartbeat(node, sender=3)
    before = node.status
    with pytest.raises(NotLeaderError) as caught:
        node.feed(Propose(b"x"))
    assert caught.value.leader == 3
    assert node.status == before and not node.pending and node.drain() == []


def test_a_proposal_that_does_not_fit_changes_nothing() -> None:
    node = leader(max_uncommitted_bytes=1)
    step(node, Propose(b"x"))
    before = node.status
    with pytest.raises(OverloadedError, match="1 bytes are uncommitted; try again later"):
        node.feed(Propose(b"y"))
    assert node.status == before and not node.pending


@pytest.mark.parametrize("bad", [None, 5, "tick", b"x", RequestVote(1, 2, 0, 0), Role.LEADER])
def test_only_events_are_fed(bad: Any) -> None:
    node = RaftNode(paper(1, [2, 3]))
    with pytest.raises(TypeError):
        node.feed(bad)
    with pytest.raises(TypeError):
        node.step(bad)
    assert step(node, Tick()) == [], "and the node lives on"


def test_step_is_feed_and_drain_until_nothing_is_pending() -> None:
    events: list[Event] = [
        *[Tick()] * 25,
        Receive(RequestVoteReply(1, True, 2)),
        Propose(b"a"),
        Propose(b"b"),
        Receive(AppendEntriesReply(1, True, 3, 2)),
        Receive(RequestVote(2, 3, 2, 1)),
    ]
    config = paper(1, [2, 3], max_apply_bytes=1).with_election_timeout(20, 20)
    one, two = RaftNode(config), RaftNode(config)
    for event in events:
        actions = step(one, event)
        feed(two, event)
        halves = drain(two)
        while two.pending:
            halves += drain(two)
        assert actions == halves, event
        assert not one.pending
    assert one.status == two.status


def test_a_drain_without_an_event_does_nothing() -> None:
    log = TracingLog()
    node = RaftNode(paper(1, [2, 3]), log)
    step(node, Tick())
    assert (node.pending, node.drain(), log.calls) == (False, [], [])


def test_new_entries_of_a_batch_go_out_together() -> None:
    node = leader()
    ack(node, 2, 0)
    feed(node, Propose(b"a"), Propose(b"b"), Propose(b"c"))
    assert node.pending
    to_both = sent(drain(node), AppendEntries)
    assert [len(message.entries) for message in to_both] == [3, 3]


def test_a_drain_syncs_once_however_many_events_it_stands_for() -> None:
    log = TracingLog()
    node = leader(log=log)
    log.calls.clear()
    feed(node, Propose(b"a"), Propose(b"b"), Tick())
    assert "sync" not in log.calls
    drain(node)
    assert log.calls == ["append", "append", "sync"]
    drain(node)
    assert log.calls.count("sync") == 1


def test_a_drain_syncs_only_if_something_must_be_durable() -> None:
    log = TracingLog()
    node = RaftNode(paper(1, [2, 3]), log)
    heartbeat(node)
    log.calls.clear()
    assert len(heartbeat(node)) == 1
    assert log.calls == []


def test_what_becomes_due_by_a_sync_and_needs_another_waits_for_the_next_drain() -> None:
    log = TracingLog([1], HardState(1))
    node = RaftNode(RaftConfig.single(1), log)
    while node.role is Role.FOLLOWER:
        node.feed(Tick())
    assert log.calls == ["set_hard_state"]
    assert drain(node) == [], "the vote is durable, the NOOP is not"
    assert (node.is_leader, node.pending, log.calls) == (True, True, ["set_hard_state", "sync", "append"])
    assert applied(drain(node)) == [1]
    assert log.calls[3:] == ["sync"]
    assert not node.pending


def test_it_sends_from_the_state_it_finds() -> None:
    node = leader()
    feed(node, Propose(b"x"), Receive(RequestVote(5, 3, 9, 9)))
    actions = drain(node)
    assert sent(actions, AppendEntries) == [], "who no longer leads sends none"
    assert sent(actions, RequestVoteReply) == [RequestVoteReply(5, True, 1)]


def test_deferred_the_driver_syncs_and_says_so() -> None:
    log = TracingLog()
    node = RaftNode(paper(1, [2, 3]), log, deferred_sync=True)
    feed(node, Receive(RequestVote(1, 2, 0, 0)))
    reply: Action = Send(2, RequestVoteReply(1, True, 1))
    assert drain(node) == [Sync(1), reply]
    assert not node.pending
    feed(node, Receive(RequestVote(1, 2, 0, 0)), Synced(1))
    assert node.pending
    assert drain(node) == [reply]
    feed(node, Synced(1), Synced(7))
    assert not node.pending
    assert "sync" not in log.calls


def test_deferred_a_leader_commits_by_its_own_sync() -> None:
    node = RaftNode(RaftConfig.single(1), deferred_sync=True)
    while node.term == 0:
        node.feed(Tick())
    assert drain(node) == [Sync(1)]
    feed(node, Synced(1), Propose(b"x"))
    assert drain(node) == [Sync(2)]
    feed(node, Synced(2))
    assert drain(node) == [Apply(1, 1, b"x")]


def test_deferred_step_leaves_what_must_wait_behind_the_sync() -> None:
    node = RaftNode(paper(1, [2, 3]), deferred_sync=True)
    expected: list[Action] = [Sync(1), Send(2, AppendEntriesReply(1, True, 1, 0))]
    assert step(node, Receive(AppendEntries(1, 2, 0, 0, (), 0))) == expected


def test_deferred_an_answer_of_a_term_that_has_passed_is_not_sent() -> None:
    node = RaftNode(paper(1, [2, 3]), deferred_sync=True)
    feed(node, Receive(RequestVote(1, 2, 0, 0)), Receive(RequestVote(2, 3, 0, 0)))
    expected: list[Action] = [Sync(1), Send(3, RequestVoteReply(2, True, 1))]
    assert drain(node) == expected


def test_deferred_it_sends_from_the_state_it_finds() -> None:
    node = RaftNode(RaftConfig.single(1), deferred_sync=True)
    feed(node, Receive(AppendEntries(1, 2, 0, 0, (), 0)))
    drain(node)
    feed(node, Synced(1), Receive(AppendEntries(1, 2, 0, 0, (), 0)))
    expected: list[Action] = [Send(2, AppendEntriesReply(1, True, 1, 0))]
    assert drain(node) == expected


def test_an_answer_of_a_term_that_has_passed_is_not_sent() -> None:
    node = RaftNode(paper(1, [2, 3]))
    feed(node, Receive(RequestVote(1, 2, 0, 0)), Receive(RequestVote(2, 3, 0, 0)))
    assert sent(drain(node), RequestVoteReply) == [RequestVoteReply(2, True, 1)]


def test_the_same_events_give_the_same_actions() -> None:
    def run() -> list[object]:
        node = RaftNode(paper(1, [2, 3, 4, 5], seed=9))
        seen: list[object] = []
        for round_ in range(60):
            seen += node.step(Tick())
            seen += node.step(Receive(RequestVoteReply(node.term or 1, True, 2 + round_ % 4)))
        return seen

    assert run() == run()


def test_answers_come_in_the_order_of_the_requests() -> None:
    node = RaftNode(paper(1, [2, 3]))
    feed(
        node,
        Receive(AppendEntries(1, 2, 0, 0, entries_of([1]), 0)),
        Receive(RequestVote(1, 3, 9, 9)),
        Receive(AppendEntries(1, 2, 1, 1, (), 0)),
    )
    assert [type(a.message) for a in drain(node) if hasattr(a, "message")] == [
        AppendEntriesReply,
        RequestVoteReply,
        AppendEntriesReply,
    ]
    assert reply_of(node, AppendEntries(1, 2, 1, 1, (), 0)) == AppendEntriesReply(1, True, 1, 1)
