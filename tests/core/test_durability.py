"""Who may say what before the disk has it: tickets, and the order around `Sync` (`deferred_sync`)."""

from __future__ import annotations

import pytest
from tests.support import (
    TracingLog,
    applied,
    drain,
    entries_of,
    feed,
    leader,
    log_of,
    paper,
    sent,
    settle,
    split,
    terms_in,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    Propose,
    RaftConfig,
    RaftNode,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    StorageError,
    Sync,
    Synced,
    SyncFailed,
    Tick,
)

pytestmark = pytest.mark.core


def follower(terms: list[int] | None = None, **options: int) -> RaftNode:
    terms = terms or []
    return RaftNode(paper(1, [2, 3]).replace(**options), log_of(terms), deferred_sync=True)


def deferring_leader(peers: tuple[int, ...] = (2, 3), **options: int) -> RaftNode:
    """Leads term 1, all of it durable, nothing to drain."""
    node = RaftNode(paper(1, peers).replace(**options), deferred_sync=True)
    while node.term == 0:
        node.feed(Tick())
    settle(node, drain(node))
    for peer in peers:
        if not node.is_leader:
            feed(node, Receive(RequestVoteReply(1, True, peer)))
    assert node.is_leader
    settle(node, drain(node))
    return node


def entries(node: RaftNode, prev: int, *terms: int, commit: int = 0) -> None:
    """Node 2, which leads the last of `terms` (or the current term), sends entries behind `prev`."""
    term = terms[-1] if terms else node.term
    prev_term = node.log.term_at(prev)
    assert prev_term is not None
    message = AppendEntries(term, 2, prev, prev_term, entries_of(terms, first=prev + 1), commit)
    feed(node, Receive(message))


def acknowledged(actions: list[Action]) -> list[int]:
    return [reply.match_index for reply in sent(actions, AppendEntriesReply) if reply.success]


# What stands before and after the Sync.


def test_drain_never_syncs() -> None:
    log = TracingLog()
    node = RaftNode(RaftConfig.single(1), log, deferred_sync=True)
    while node.term == 0:
        node.feed(Tick())
    for _ in range(5):
        drain(node)
        node.step(Tick())
    assert "sync" not in log.calls


def test_what_needs_nothing_on_disk_comes_without_a_sync() -> None:
    node = follower()
    feed(node, Tick())
    assert drain(node) == []
    feed(node, Receive(AppendEntries(1, 2, 0, 0, (), 0)))
    settle(node, drain(node))
    feed(node, Receive(AppendEntries(1, 2, 0, 0, (), 0)))
    expected: list[Action] = [Send(2, AppendEntriesReply(1, True, 1, 0))]
    assert drain(node) == expected


def test_a_vote_comes_after_the_sync() -> None:
    node = follower()
    feed(node, Receive(RequestVote(1, 2, 0, 0)))
    expected: list[Action] = [Sync(1), Send(2, RequestVoteReply(1, True, 1))]
    assert drain(node) == expected


def test_a_refusal_that_tells_a_new_term_comes_after_the_sync() -> None:
    node = follower([1, 1])
    feed(node, Receive(RequestVote(5, 2, 0, 0)))
    before, ticket, after = split(drain(node))
    assert (before, ticket) == ([], 1)
    assert sent(after, RequestVoteReply) == [RequestVoteReply(5, False, 1)]


def test_a_request_for_votes_comes_after_the_sync() -> None:
    node = follower()
    while node.role is Role.FOLLOWER:
        node.feed(Tick())
    before, ticket, after = split(drain(node))
    assert (before, ticket, len(sent(after, RequestVote))) == ([], 1, 2)


def test_an_acknowledged_entry_comes_after_the_sync() -> None:
    node = follower([1])
    entries(node, 1, 1, 1)
    expected: list[Action] = [Sync(1), Send(2, AppendEntriesReply(1, True, 1, 3))]
    assert drain(node) == expected


def test_a_leaders_entries_go_out_before_its_own_sync() -> None:
    node = deferring_leader()
    feed(node, Propose(b"x"))
    before, ticket, after = split(drain(node))
    assert len(sent(before, AppendEntries)) == 2
    assert (ticket > 0, after) == (True, [])


def test_a_leaders_entries_wait_for_its_term() -> None:
    node = RaftNode(paper(1, [2, 3, 4, 5]), deferred_sync=True)
    while node.term == 0:
        node.feed(Tick())
    _, first, _ = split(drain(node))
    feed(node, *[Receive(RequestVoteReply(1, True, peer)) for peer in (2, 3, 4)], Propose(b"x"))
    assert node.is_leader, "by the votes of three others, its own not being durable"
    before, second, after = split(drain(node))
    assert before == []
    assert len(sent(after, AppendEntries)) == 4
    feed(node, Synced(first), Propose(b"y"), Receive(AppendEntriesReply(1, True, 2, 1)))
    before, third, after = split(drain(node))
    assert len(sent(before, AppendEntries)) == 1 and after == []
    assert first < second < third


def test_at_most_one_sync_a_drain() -> None:
    node = follower()
    feed(node, Receive(RequestVote(1, 2, 0, 0)), Receive(RequestVote(2, 3, 0, 0)))
    entries(node, 0, 2, 2)
    actions = drain(node)
    assert [type(action) for action in actions].count(Sync) == 1
    assert acknowledged(split(actions)[2]) == [2]


def test_a_batch_that_writes_asks_for_a_sync_even_if_nothing_waits_for_it() -> None:
    node = follower()
    feed(node, Receive(RequestVoteReply(7, False, 2)))
    assert drain(node) == [Sync(1)]


# Duplicates and what an earlier batch wrote.


def test_a_duplicate_request_is_not_acknowledged_early() -> None:
    node = follower([1])
    entries(node, 1, 1)
    _, first, _ = split(drain(node))
    entries(node, 1, 1)
    before, second, after = split(drain(node))
    assert (before, acknowledged(after)) == ([], [2])
    assert second > first
    feed(node, Synced(first))
    drain(node)
    entries(node, 1, 1)
    before, third, after = split(drain(node))
    assert (acknowledged(before), third, after) == ([2], 0, [])


def test_a_heartbeat_that_would_acknowledge_an_unsynced_entry_waits() -> None:
    node = follower([1])
    entries(node, 1, 1, 1)
    drain(node)
    entries(node, 3)
    before, ticket, after = split(drain(node))
    assert (before, ticket > 0, acknowledged(after)) == ([], True, [3])
    entries(node, 1)
    assert acknowledged(drain(node)) == [1], "and one that acknowledges what is durable does not"


def test_a_vote_asked_for_again_is_not_repeated_early() -> None:
    node = follower()
    feed(node, Receive(RequestVote(1, 2, 0, 0)))
    _, first, _ = split(drain(node))
    feed(node, Receive(RequestVote(1, 2, 0, 0)))
    before, second, after = split(drain(node))
    assert (before, len(after)) == ([], 1)
    assert second > first


def test_nothing_at_all_is_said_in_a_term_that_is_not_durable() -> None:
    node = follower([1])
    feed(node, Receive(RequestVote(2, 3, 0, 0)))
    drain(node)
    feed(node, Receive(AppendEntries(1, 2, 0, 0, (), 0)), Receive(AppendEntries(2, 3, 9, 2, (), 0)))
    before, ticket, after = split(drain(node))
    assert (before, ticket > 0) == ([], True)
    assert [reply.success for reply in sent(after, AppendEntriesReply)] == [False, False]


def test_a_refusal_in_a_durable_term_need_not_wait_for_entries() -> None:
    node = follower([1])
    entries(node, 1, 1)
    drain(node)
    feed(node, Receive(AppendEntries(1, 2, 9, 1, (), 0)))
    before, ticket, after = split(drain(node))
    assert sent(before, AppendEntriesReply) == [AppendEntriesReply(1, False, 1, 0, 3, 0)]
    assert (ticket, after) == (0, [])


# Tickets.


def test_tickets_increase() -> None:
    node = follower()
    seen = []
    for term in range(1, 10):
        feed(node, Receive(RequestVote(term, 2, 0, 0)))
        seen.append(split(drain(node))[1])
    assert seen == list(range(1, 10))


def test_a_ticket_covers_everything_before_its_drain_hence_every_earlier_one() -> None:
    node = follower([1])
    for prev in (1, 2, 3):
        entries(node, prev, 1)
        _, ticket, _ = split(drain(node))
    assert node.status.stable_index == 1
    feed(node, Synced(ticket))
    assert node.status.stable_index == 4
    assert node._state.tickets == []


def test_a_ticket_covers_nothing_after_its_drain() -> None:
    node = follower([1])
    entries(node, 1, 1)
    _, ticket, _ = split(drain(node))
    entries(node, 2, 1, 1)
    feed(node, Synced(ticket))
    assert node.status.stable_index == 2
    assert acknowledged(split(drain(node))[2]) == [4]


def test_old_and_unknown_tickets_are_ignored() -> None:
    node = follower([1])
    entries(node, 1, 1)
    _, first, _ = split(drain(node))
    entries(node, 2, 1)
    _, second, _ = split(drain(node))
    before = node.status
    for unknown in (0, second + 1, 999, 2**63 - 1):
        feed(node, Synced(unknown))
        assert node.status == before
    feed(node, Synced(second))
    assert node.status.stable_index == 3
    entries(node, 3, 1)
    drain(node)
    for old in (first, second, first):
        feed(node, Synced(old))
        assert node.status.stable_index == 3


def test_tickets_mean_nothing_where_the_node_syncs_itself() -> None:
    node = leader()
    for ticket in (0, 1, 5):
        feed(node, Synced(ticket))
    assert drain(node) == []


def test_a_ticket_never_vouches_for_an_entry_that_replaced_one() -> None:
    node = follower([1, 1])
    entries(node, 2, 1, 1, 1)
    _, first, _ = split(drain(node))
    entries(node, 3, 4, 4)
    _, second, _ = split(drain(node))
    assert terms_in(node.log) == [1, 1, 1, 4, 4]
    feed(node, Synced(first))
    assert node.status.stable_index == 3, "indexes 4 and 5 hold other entries now"
    feed(node, Synced(second))
    assert node.status.stable_index == 5


def test_a_truncation_takes_back_what_was_durable() -> None:
    node = follower([1, 1, 1])
    entries(node, 1, 4)
    assert node.status.stable_index == 1
    _, ticket, after = split(drain(node))
    assert acknowledged(after) == [2]
    feed(node, Synced(ticket))
    assert node.status.stable_index == 2


def test_an_index_truncated_twice_while_syncs_are_out() -> None:
    node = follower([1])
    entries(node, 1, 1, 1)
    _, first, _ = split(drain(node))
    entries(node, 1, 2, 2, 2)
    _, second, _ = split(drain(node))
    entries(node, 2, 3)
    _, third, _ = split(drain(node))
    feed(node, Synced(first))
    assert node.status.stable_index == 1
    feed(node, Synced(second))
    assert node.status.stable_index == 2
    feed(node, Synced(third))
    assert node.status.stable_index == 3


def test_asking_again_and_again_while_a_disk_hangs_costs_no_memory() -> None:
    node = follower([1])
    entries(node, 1, 1)
    _, ticket, _ = split(drain(node))
    for _ in range(100):
        entries(node, 2)
        _, again, after = split(drain(node))
        assert again == ticket + 1, "a ticket of its own each time"
        ticket = again
        assert len(after) == 1
    assert len(node._state.tickets) == 1
    feed(node, Synced(ticket - 50))
    assert node.status.stable_index == 2
    assert node._state.tickets == []


def test_a_ticket_without_writes_does_not_cover_what_is_written_later() -> None:
    node = follower([1])
    entries(node, 1, 1)
    _, first, _ = split(drain(node))
    entries(node, 2)
    _, second, _ = split(drain(node))
    entries(node, 2, 1)
    _, third, _ = split(drain(node))
    assert first < second < third
    feed(node, Synced(second))
    assert node.status.stable_index == 2
    feed(node, Synced(third))
    assert node.status.stable_index == 3


# Counting oneself, and applying.


def test_a_leader_counts_itself_towards_a_commit_only_when_synced() -> None:
    node = deferring_leader()
    feed(node, Propose(b"x"))
    _, ticket, _ = split(drain(node))
    feed(node, Receive(AppendEntriesReply(1, True, 2, 1)))
    assert node.commit_index == 0
    feed(node, Synced(ticket))
    assert node.commit_index == 1
    assert drain(node)[-1] == Apply(1, 1, b"x")


def test_others_may_commit_what_the_leader_has_not_synced_but_it_does_not_apply_it() -> None:
    node = deferring_leader()
    feed(node, Propose(b"x"))
    _, ticket, _ = split(drain(node))
    feed(node, *[Receive(AppendEntriesReply(1, True, peer, 1)) for peer in (2, 3)])
    assert node.commit_index == 1
    assert applied(drain(node)) == []
    assert not node.pending
    feed(node, Synced(ticket))
    assert node.pending
    assert applied(drain(node)) == [1]


def test_a_single_node_commits_by_its_sync() -> None:
    node = deferring_leader(())
    feed(node, Propose(b"x"), Propose(b"y"))
    _, ticket, _ = split(drain(node))
    assert node.commit_index == 0
    feed(node, Synced(ticket))
    assert applied(drain(node)) == [1, 2]


def test_a_follower_applies_only_what_is_synced() -> None:
    node = follower([1, 1])
    entries(node, 2, 1, commit=3)
    before, ticket, after = split(drain(node))
    assert applied(before) == [1, 2]
    assert acknowledged(after) == [3]
    feed(node, Synced(ticket))
    assert applied(drain(node)) == [3]


def test_events_may_be_fed_while_a_sync_is_under_way() -> None:
    node = deferring_leader()
    tickets = []
    for place in range(1, 5):
        feed(node, Propose(b"x"))
        _, ticket, _ = split(drain(node))
        tickets.append(ticket)
        feed(node, Receive(AppendEntriesReply(1, True, 2, place)))
    feed(node, Synced(tickets[1]))
    assert applied(drain(node)) == [1, 2]
    feed(node, Synced(tickets[3]))
    assert applied(drain(node)) == [3, 4]


# Disks that fail, disks that hang.


def test_a_sync_that_failed_kills_the_node() -> None:
    node = deferring_leader()
    feed(node, Propose(b"x"))
    _, ticket, _ = split(drain(node))
    assert node.feed(SyncFailed(ticket, "Input/output error")) == 0
    for call in (node.drain, lambda: node.feed(Tick()), lambda: node.step(Tick())):
        with pytest.raises(StorageError, match="log storage error while syncing the log: Input/output error"):
            call()


def test_a_leader_whose_disk_hangs_steps_down() -> None:
    node = deferring_leader(heartbeat_interval=3)
    feed(node, Propose(b"x"))
    _, ticket, _ = split(drain(node))
    longest = RaftConfig(1).election_timeout[1]
    for _ in range(longest):
        feed(node, Tick())
        drain(node)
    assert node.is_leader, "not before the longest election timeout is over"
    feed(node, Tick())
    assert (node.role, node.term, node.leader) == (Role.FOLLOWER, 1, None)
    assert sent(drain(node), AppendEntries) == []
    for _ in range(5 * longest):
        feed(node, Tick())
        assert drain(node) == [], "and it does not campaign while the disk hangs"
    feed(node, Synced(ticket))
    drain(node)
    feed(node, *[Tick()] * longest)
    assert node.role is Role.CANDIDATE


def test_the_oldest_ticket_decides() -> None:
    node = deferring_leader()
    feed(node, Propose(b"x"))
    _, first, _ = split(drain(node))
    for _ in range(15):
        feed(node, Tick())
    feed(node, Propose(b"y"))
    drain(node)
    feed(node, Synced(first))
    for _ in range(20):
        feed(node, Tick())
        assert node.is_leader, "the one that is out is younger than that"
    feed(node, Tick())
    assert not node.is_leader


def test_a_follower_whose_disk_hangs_still_follows_and_does_not_campaign() -> None:
    node = follower([1])
    entries(node, 1, 1)
    drain(node)
    for _ in range(21):
        feed(node, Tick())
        entries(node, 1)
    drain(node)
    for _ in range(100):
        feed(node, Tick())
    assert (node.role, node.term) == (Role.FOLLOWER, 1), "it does not campaign while a ticket is that old"
    entries(node, 1)
    assert acknowledged(drain(node)) == [1]


# The node that syncs itself.


def test_writes_come_before_the_sync_and_the_sync_before_what_is_sent() -> None:
    log = TracingLog([1], None)
    node = RaftNode(paper(1, [2, 3]), log)
    feed(node, Receive(AppendEntries(2, 2, 0, 0, entries_of([2, 2]), 0)))
    assert log.calls == ["set_hard_state", "truncate", "append"]
    assert acknowledged(drain(node)) == [2]
    assert log.calls[3:] == ["sync"]
