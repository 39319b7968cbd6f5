"""`RaftNode`: construction, the term gate, what it refuses, `step` against `feed` and `drain`, death."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import (
    TOP,
    TracingLog,
    ack,
    applied,
    campaign,
    drain,
    elect,
    entries_of,
    feed,
    heartbeat,
    leader,
    log_of,
    paper,
    receive,
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
    LogEntry,
    Membership,
    MemoryLog,
    Message,
    NotLeaderError,
    OverloadedError,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    StorageError,
    Sync,
    Synced,
    Tick,
)

pytestmark = pytest.mark.core


# Construction.


def test_a_fresh_node_follows_nobody_in_term_0() -> None:
    node = RaftNode(paper(1, [2, 3]))
    assert (node.id, node.role, node.term, node.leader) == (1, Role.FOLLOWER, 0, None)
    assert (node.commit_index, node.last_applied, node.is_leader, node.pending) == (0, 0, False, False)
    assert isinstance(node.log, MemoryLog) and node.log.is_empty
    assert node.membership == Membership([1, 2, 3])
    assert node.drain() == []


def test_two_fresh_nodes_do_not_share_a_log() -> None:
    assert RaftNode(RaftConfig(1)).log is not RaftNode(RaftConfig(1)).log


def test_a_node_adopts_what_its_log_holds() -> None:
    log = log_of([1, 1, 3], term=5, voted_for=2)
    for node in (RaftNode(paper(1, [2, 3]), log), RaftNode.with_log(paper(1, [2, 3]), log)):
        assert node.log is log
        assert (node.term, node.status.voted_for, node.status.last_index) == (5, 2, 3)
        assert (node.commit_index, node.last_applied) == (0, 0)


def test_applied_is_where_commitment_starts() -> None:
    node = RaftNode(RaftConfig.single(1), log_of([1, 1, 1]), applied=2)
    assert (node.commit_index, node.last_applied) == (2, 2)
    elect(node)
    assert node.last_applied == 4, "the third entry and the NOOP that commits it"


def test_entries_through_applied_are_not_applied_again() -> None:
    node = RaftNode(RaftConfig.single(1), log_of([1, 1, 1]), applied=2)
    assert applied(campaign(node)) == [3]


def test_applied_lies_within_the_log() -> None:
    with pytest.raises(ValueError, match="applied is 4, but the log ends at index 3"):
        RaftNode(RaftConfig(1), log_of([1, 1, 1]), applied=4)
    for number in (-1, TOP + 1):
        with pytest.raises(ValueError, match="applied must be in"):
            RaftNode(RaftConfig(1), applied=number)


def test_wrong_types_are_type_errors() -> None:
    config: Any = 1
    log: Any = [1]
    nothing: Any = None
    with pytest.raises(TypeError):
        RaftNode(config)
    with pytest.raises(TypeError):
        RaftNode(RaftConfig(1), log)
    with pytest.raises(TypeError):
        RaftNode.with_log(RaftConfig(1), nothing)
    with pytest.raises(TypeError):
        RaftNode(RaftConfig(1), applied=nothing)


def partial_log(*lacking: str) -> RaftLog:
    """A `RaftLog` of a class that lacks some methods, made although `abc` would refuse to."""
    methods = {
        name: getattr(TracingLog, name)
        for name in dir(TracingLog)
        if not name.startswith("_") and name in RaftLog.__dict__ and name not in lacking
    }
    cls: Any = type("PartialLog", (RaftLog,), methods)
    cls.__abstractmethods__ = frozenset()
    made: RaftLog = cls()
    return made


@pytest.mark.parametrize(
    "lacking",
    [
        ["last_index"],
        ["last_term"],
        ["term_at"],
        ["entry"],
        ["append"],
        ["truncate"],
        ["hard_state"],
        ["set_hard_state"],
        ["sync"],
        ["append", "sync"],
    ],
    ids=lambda names: "+".join(names),
)
def test_an_incomplete_log_is_refused_and_told_what_it_lacks(lacking: list[str]) -> None:
    expected = f"^PartialLog is no complete RaftLog: it lacks {', '.join(lacking)}$"
    with pytest.raises(TypeError, match=expected):
        RaftNode(RaftConfig(1), partial_log(*lacking))
    with pytest.raises(TypeError, match=expected):
        RaftNode.with_log(RaftConfig(1), partial_log(*lacking))


def test_a_log_in_python_works_as_well_as_the_one_in_memory() -> None:
    log = TracingLog()
    node = RaftNode(RaftConfig.single(1), log)
    elect(node)
    assert step(node, Propose(b"x")) == [Apply(1, 1, b"x")]
    assert log.calls == ["set_hard_state", "sync", "append", "sync"]


class Far(TracingLog):
    """A log that claims to end at `last`."""

    def __init__(self, last: int, term: int = 1) -> None:
        super().__init__()
        self.last = last
        self.state = HardState(term)

    def last_index(self) -> int:
        return self.last + len(self.held)

    def last_term(self) -> int:
        return self.held[-1].term if self.held else 1

    def term_at(self, index: int) -> int | None:
        if index > self.last:
            return self.held[index - self.last - 1].term
        return 1 if index else 0

    def entry(self, index: int) -> LogEntry | None:
        return LogEntry(1, index)

    def membership_entries(self) -> list[LogEntry]:
        return []


@pytest.mark.parametrize(("last", "term"), [(TOP, 1), (5, TOP)])
def test_a_log_at_the_maximum_is_refused(last: int, term: int) -> None:
    with pytest.raises(StorageError, match="at its maximum"):
        RaftNode(RaftConfig(1), Far(last, term))


def test_a_log_with_entries_of_a_later_term_than_its_hard_state_is_adopted_in_that_term() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 3], term=2))
    assert node.term == 3
    node._state.check()
    # Whom it voted for in that term is lost: nobody gets the vote.
    assert node.step(Receive(RequestVote(3, 2, 9, 3))) == [Send(2, RequestVoteReply(3, False, 1))]
    assert node.step(Receive(RequestVote(4, 2, 9, 3))) == [Send(2, RequestVoteReply(4, True, 1))]


# The end of all indexes.


def test_a_leader_takes_no_entry_at_the_largest_index() -> None:
    node = RaftNode(paper(1, [2]), Far(TOP - 3))
    elect(node)
    assert node.feed(Propose(b"x")) == TOP - 1
    with pytest.raises(OverloadedError, match="the log is full"):
        node.feed(Propose(b"x"))


def test_who_has_no_room_for_an_entry_does_not_campaign() -> None:
    node = RaftNode(paper(1, [2]), Far(TOP - 1))
    for _ in range(100):
        assert node.step(Tick()) == []
    assert node.role is Role.FOLLOWER


def test_a_follower_takes_no_entry_at_the_largest_index() -> None:
    node = RaftNode(paper(1, [2]), Far(TOP - 2))
    message = AppendEntries(1, 2, TOP - 2, 1, entries_of([1, 1], first=TOP - 1), 0)
    assert node.step(Receive(message)) == []
    assert node.log.last_index() == TOP - 2
    assert node.step(Receive(AppendEntries(1, 2, TOP, 1, (), 0))) == []
    assert len(node.step(Receive(AppendEntries(1, 2, TOP - 2, 1, message.entries[:1], 0)))) == 1
    assert node.log.last_index() == TOP - 1


# The term gate.


@pytest.mark.parametrize(
    "message",
    [
        RequestVote(TOP, 2, 9, 9),
        RequestVoteReply(TOP, False, 2),
        AppendEntries(TOP, 2, 0, 0, (), 0),
        AppendEntriesReply(TOP, False, 2, 0),
        RequestVote(9, 1, 9, 9),
        RequestVoteReply(9, True, 1),
        AppendEntries(9, 1, 0, 0, (), 0),
        AppendEntriesReply(9, True, 1, 0),
    ],
    ids=repr,
)
def test_what_no_correct_peer_sends_is_dropped(message: Message) -> None:
    node = leader()
    before = node.status
    assert receive(node, message) == []
    assert node.status == before


def test_before_the_first_election_there_is_no_candidate_and_no_leader() -> None:
    node = RaftNode(paper(1, [2, 3]))
    assert receive(node, RequestVote(0, 2, 9, 9)) == []
    assert receive(node, AppendEntries(0, 2, 0, 0, (), 0)) == []
    assert node.leader is None


def test_a_request_of_term_0_is_stale_once_there_was_an_election() -> None:
    node = leader()
    assert receive(node, RequestVote(0, 2, 9, 9)) == [Send(2, RequestVoteReply(1, False, 1))]
    assert receive(node, AppendEntries(0, 2, 0, 0, (), 0)) == [Send(2, AppendEntriesReply(1, False, 1, 0))]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    "message",
    [
        RequestVote(9, 2, 0, 0),
        RequestVoteReply(9, False, 2),
        AppendEntries(9, 2, 0, 0, (), 0),
        AppendEntriesReply(9, False, 2, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_later_term_in_any_message_makes_a_follower_of_that_term(role: Role, message: Message) -> None:
    node = RaftNode(paper(1, [2, 3]))
    if role is not Role.FOLLOWER:
        campaign(node)
    if role is Role.LEADER:
        receive(node, RequestVoteReply(1, True, 2))
    assert node.role is role
    receive(node, message)
    assert (node.role, node.term) == (Role.FOLLOWER, 9)
    assert node.log.hard_state().term == 9
    assert node.leader == (2 if isinstance(message, AppendEntries) else None)


def test_the_largest_term_but_one_is_taken_and_nobody_goes_beyond_it() -> None:
    node = RaftNode(paper(1, [2, 3]))
    heartbeat(node, term=TOP - 1)
    assert node.term == TOP - 1
    for _ in range(100):
        assert step(node, Tick()) == []
    assert (node.role, node.term) == (Role.FOLLOWER, TOP - 1)


def test_messages_of_ids_that_are_no_peers_do_no_harm() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 77, 1)
    assert node.commit_index == 0
    assert [follower.id for follower in node.status.followers] == [2, 3]


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
