"""The leader's side: batches, windows, silence, loss, and the repair of a log that diverged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import (
    TOP,
    TailedLog,
    TracingLog,
    ack,
    campaign,
    caught_up_leader,
    compacted_log,
    drain,
    elect,
    feed,
    leader,
    log_of,
    paper,
    receive,
    sent,
    sent_to,
    step,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    LogEntry,
    Membership,
    Message,
    NotLeaderError,
    OverloadedError,
    Propose,
    RaftNode,
    ReadIndex,
    Role,
    Snapshot,
    Tick,
    TimeoutNow,
    TransferLeadership,
)

pytestmark = pytest.mark.core


def propose(node: RaftNode, count: int, size: int = 1) -> None:
    for _ in range(count):
        node.feed(Propose(bytes(size)))


def appends(node: RaftNode, to: int = 2) -> list[AppendEntries]:
    """What one drain sends to a follower."""
    return [m for m in sent_to(drain(node), to) if isinstance(m, AppendEntries)]


def refuse(node: RaftNode, sender: int, index: int, term: int = 0) -> list[Message]:
    """`sender` refuses with this hint; what it is sent in return."""
    return sent_to(receive(node, AppendEntriesReply(node.term, False, sender, 0, index, term)), sender)


# Proposals.


def test_only_a_leader_takes_proposals() -> None:
    node = RaftNode(paper(1, [2, 3]))
    with pytest.raises(NotLeaderError) as caught:
        node.step(Propose(b"x"))
    assert caught.value.leader is None
    campaign(node)
    with pytest.raises(NotLeaderError):
        node.step(Propose(b"x"))
    assert node.log.last_index() == 0


def test_a_proposal_is_appended_in_the_leaders_term_and_sent_to_all() -> None:
    node = leader()
    actions = step(node, Propose(b"x"))
    assert node.log.entry(1) == LogEntry(1, 1, b"x")
    expected = AppendEntries(1, 1, 0, 0, [LogEntry(1, 1, b"x")], 0)
    assert sent(actions, AppendEntries) == [expected, expected]


# Batches.


def test_a_batch_holds_at_most_max_batch_entries() -> None:
    node = caught_up_leader(max_batch=3)
    propose(node, 8)
    assert [[entry.index for entry in m.entries] for m in appends(node)] == [[1, 2, 3], [4, 5, 6], [7, 8]]


def test_a_batch_tells_what_stands_before_it() -> None:
    node = caught_up_leader(log=log_of([1, 1]), max_batch=2)
    propose(node, 3)
    assert [(m.prev_log_index, m.prev_log_term) for m in appends(node)] == [(3, 2), (5, 2)]


@pytest.mark.parametrize(
    ("sizes", "limit", "batches"),
    [
        ([4, 4, 4, 4], 8, [2, 2]),
        ([4, 4, 4], 9, [2, 1]),
        ([100, 100], 10, [1, 1]),
        ([1, 100, 1], 10, [1, 1, 1]),
        ([1, 1, 100], 10, [2, 1]),
        ([0, 0, 0, 10, 0, 1], 10, [5, 1]),
        ([5, 5, 5, 5], 10, [2, 2]),
        ([10], 10, [1]),
        ([0] * 5, 1, [5]),
    ],
)
def test_a_batch_holds_at_most_max_batch_bytes_or_one_entry(
    sizes: list[int], limit: int, batches: list[int]
) -> None:
    node = caught_up_leader(max_batch_bytes=limit)
    for size in sizes:
        node.feed(Propose(bytes(size)))
    messages = appends(node)
    assert [len(m.entries) for m in messages] == batches
    assert [entry.index for m in messages for entry in m.entries] == list(range(1, len(sizes) + 1))


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 40), st.integers(1, 8))
def test_batches_are_whole_in_order_and_within_their_limits(sizes: list[int], limit: int, count: int) -> None:
    node = caught_up_leader(max_batch_bytes=limit, max_batch=count)
    for size in sizes:
        node.feed(Propose(bytes(size)))
    messages = appends(node)
    assert [entry.index for m in messages for entry in m.entries] == list(range(1, len(sizes) + 1))
    for message in messages:
        assert len(message.entries) <= count
        assert len(message.entries) == 1 or sum(len(e.command) for e in message.entries) <= limit


def test_a_backend_is_asked_for_a_batch_not_for_each_entry() -> None:
    class Counted(TracingLog):
        asked = 0

        def entry(self, index: int) -> LogEntry | None:
            Counted.asked += 1
            return super().entry(index)

    node = caught_up_leader(log=Counted())
    propose(node, 64)
    Counted.asked = 0
    drain(node)
    assert Counted.asked <= 64 + 2, "the default of `entries` asks for each once, for all followers together"


# The window.


def test_one_message_is_under_way_until_the_match_point_is_known() -> None:
    node = leader()
    propose(node, 1)
    assert len(appends(node)) == 1
    for _ in range(5):
        propose(node, 1)
        assert appends(node) == []
    (message,) = sent_to(ack(node, 2, 0), 2)
    assert isinstance(message, AppendEntries)
    assert len(message.entries) == 6


def test_then_a_window_full_of_them_and_no_more() -> None:
    node = caught_up_leader(max_inflight=4)
    for _ in range(4):
        propose(node, 1)
        assert len(appends(node)) == 1
    for _ in range(10):
        propose(node, 1)
        assert appends(node) == []
    messages = sent_to(ack(node, 2, 2), 2)
    assert [len(m.entries) for m in messages if isinstance(m, AppendEntries)] == [10]


def test_each_acknowledgement_frees_its_place_in_the_window() -> None:
    node = caught_up_leader(max_inflight=2, max_batch=1)
    propose(node, 6)
    assert [m.entries[0].index for m in appends(node)] == [1, 2]
    for acknowledged in range(1, 5):
        (message,) = sent_to(ack(node, 2, acknowledged), 2)
        assert isinstance(message, AppendEntries)
        assert message.entries[0].index == acknowledged + 2


def test_an_acknowledgement_of_the_last_covers_those_before_it() -> None:
    node = caught_up_leader(max_inflight=3, max_batch=1)
    propose(node, 3)
    drain(node)
    ack(node, 2, 3)
    assert node.status.followers[0].inflight == 0
    assert node.status.followers[0].match_index == 3


def test_a_refusal_closes_the_window_until_the_next_acknowledgement() -> None:
    node = caught_up_leader(max_inflight=4, max_batch=1)
    propose(node, 4)
    drain(node)
    assert len(refuse(node, 2, 1)) == 1
    assert node.status.followers[0].state == "probe"
    propose(node, 3)
    assert appends(node) == []
    assert len(sent_to(ack(node, 2, 1), 2)) == 4


def test_after_one_refusal_upon_the_other_the_window_opens_step_by_step() -> None:
    """Where messages overtake each other, a whole window after each would have more of them refused."""
    node = caught_up_leader(max_inflight=4, max_batch=1)
    propose(node, 9)
    drain(node)
    refuse(node, 2, 1)
    assert len(sent_to(ack(node, 2, 1), 2)) == 4
    refuse(node, 2, 3)
    assert len(sent_to(ack(node, 2, 2), 2)) == 2
    assert len(sent_to(ack(node, 2, 3), 2)) == 3
    assert len(sent_to(ack(node, 2, 4), 2)) == 1, "four are under way"


# Overload.


def test_above_max_uncommitted_bytes_proposals_are_refused_and_nothing_changes() -> None:
    node = leader(max_uncommitted_bytes=10)
    step(node, Propose(bytes(6)))
    before = node.status
    with pytest.raises(OverloadedError, match="6 bytes are uncommitted"):
        node.feed(Propose(bytes(5)))
    assert node.status == before and not node.pending
    step(node, Propose(bytes(4)))
    with pytest.raises(OverloadedError):
        node.feed(Propose(b""))
    ack(node, 2, 1)
    assert node.feed(Propose(bytes(6))) == 3


def test_a_single_proposal_always_fits_an_empty_pipeline() -> None:
    node = leader(max_uncommitted_bytes=10)
    assert node.feed(Propose(bytes(1000))) == 1
    with pytest.raises(OverloadedError):
        node.feed(Propose(b""))


def test_0_is_no_limit() -> None:
    node = leader(max_uncommitted_bytes=0)
    for _ in range(100):
        node.feed(Propose(bytes(1_000_000)))
    assert node.status.uncommitted_bytes == 100_000_000


def test_empty_commands_do_not_escape_the_limit() -> None:
    node = leader(max_uncommitted_bytes=10)
    for _ in range(10):
        node.feed(Propose(b""))
    with pytest.raises(OverloadedError):
        node.feed(Propose(b""))


# The window in bytes.


def test_what_is_under_way_is_bounded_in_bytes_as_well() -> None:
    node = caught_up_leader(max_batch=1, max_inflight_bytes=25)
    propose(node, 6, size=10)
    assert [m.entries[0].index for m in appends(node)] == [1, 2, 3], "20 bytes leave room for one more"
    assert sent_to(ack(node, 2, 1), 2)[0] == AppendEntries(1, 1, 3, 1, [LogEntry(1, 4, bytes(10))], 1)
    assert sent_to(ack(node, 2, 1), 2) == []


def test_one_message_always_travels_however_large() -> None:
    node = caught_up_leader(max_inflight_bytes=1)
    propose(node, 1, size=1000)
    propose(node, 1, size=1000)
    assert [[entry.index for entry in m.entries] for m in appends(node)] == [[1, 2]]
    propose(node, 1)
    assert appends(node) == []
    assert len(sent_to(ack(node, 2, 2), 2)) == 1


def test_0_bytes_are_no_limit() -> None:
    node = caught_up_leader(max_batch=1, max_inflight_bytes=0)
    propose(node, 20, size=1000)
    assert len(appends(node)) == 20


# Who has had its turn.


def test_a_follower_that_is_far_behind_catches_up_a_page_a_drain() -> None:
    node = caught_up_leader(max_uncommitted_bytes=0)
    propose(node, 10, size=1 << 20)
    pages = [len(appends(node))]
    while node.pending:
        pages.append(len(appends(node)))
    assert pages == [4, 4, 2]


# Behind a snapshot.


def test_a_follower_whose_entries_are_compacted_away_is_sent_the_snapshot_instead() -> None:
    log = compacted_log(Snapshot(5, 1, Membership([1, 2, 3]), b"state"), [1])
    node = leader(log=log)
    assert [type(message) for message in refuse(node, 2, 1)] == [InstallSnapshot]
    beats = [m for _ in range(3) for m in sent_to(step(node, Tick()), 2)]
    assert beats == [AppendEntries(2, 1, 5, 1, (), node.commit_index)]
    assert refuse(node, 2, 1) == []
    (entries,) = sent_to(ack(node, 2, 5), 2)
    assert isinstance(entries, AppendEntries)
    assert [entry.index for entry in entries.entries] == [6, 7]


def test_a_tail_that_the_log_has_kept_spares_a_follower_the_snapshot() -> None:
    node = leader(log=TailedLog([1] * 8))
    (entries,) = refuse(node, 2, 4)
    assert isinstance(entries, AppendEntries)
    assert [entry.index for entry in entries.entries] == [4, 5, 6, 7, 8, 9]


def test_an_answer_to_a_round_is_an_answer_all_the_same() -> None:
    node = caught_up_leader()
    step(node, ReadIndex(b"r"))
    propose(node, 1)
    drain(node)
    receive(node, AppendEntriesReply(1, True, 2, 1, 0, 0, 1))
    assert node.status.followers[0].match_index == 1


def test_while_a_transfer_waits_every_acknowledgement_is_looked_at() -> None:
    node = caught_up_leader()
    propose(node, 1)
    drain(node)
    step(node, TransferLeadership(2))
    assert sent_to(ack(node, 2, 1), 2)[0] == TimeoutNow(1, 1, 1)


# Heartbeats and commit news.


def test_a_heartbeat_goes_to_every_follower_every_interval() -> None:
    node = caught_up_leader(heartbeat_interval=2)
    for _ in range(5):
        assert step(node, Tick()) == []
        assert sent(step(node, Tick()), AppendEntries) == [AppendEntries(1, 1, 0, 0, (), 0)] * 2


def test_entries_stand_for_a_heartbeat() -> None:
    node = caught_up_leader(heartbeat_interval=1)
    feed(node, Propose(b"x"), Tick())
    assert [len(m.entries) for m in appends(node)] == [1]


def test_followers_hear_of_a_commit_at_once_if_they_wait_for_nothing() -> None:
    node = caught_up_leader()
    step(node, Propose(b"x"))
    assert sent_to(ack(node, 2, 1), 2) == [AppendEntries(1, 1, 1, 1, (), 1)]
    assert sent_to(ack(node, 3, 1), 3) == [AppendEntries(1, 1, 1, 1, (), 1)]
    assert ack(node, 3, 1) == [], "once"


def test_commit_news_travels_with_entries() -> None:
    node = caught_up_leader()
    step(node, Propose(b"x"))
    step(node, Propose(b"y"))
    assert sent_to(ack(node, 2, 1), 2) == [], "the answer to y is still to come"
    (message,) = sent_to(step(node, Propose(b"z")), 2)
    assert isinstance(message, AppendEntries)
    assert message.leader_commit == 1


# Stale and senseless replies.


@pytest.mark.parametrize(
    "reply",
    [
        AppendEntriesReply(1, True, 9, 1),
        AppendEntriesReply(1, False, 9, 0, 1, 0),
        AppendEntriesReply(1, True, 2, 2),
        AppendEntriesReply(1, True, 2, TOP),
    ],
    ids=repr,
)
def test_a_stranger_and_what_lies_beyond_the_log_are_ignored(reply: AppendEntriesReply) -> None:
    node = leader()
    step(node, Propose(b"x"))
    before = node.status
    assert receive(node, reply) == []
    assert node.status == before


def test_a_reply_of_an_earlier_term_is_ignored() -> None:
    node = leader(log=log_of([1, 1]))
    before = node.status
    for reply in (AppendEntriesReply(1, True, 2, 3), AppendEntriesReply(1, False, 2, 0, 1, 0)):
        assert receive(node, reply) == []
        assert node.status == before


def test_replies_to_a_node_that_leads_no_more_are_ignored() -> None:
    node = leader()
    step(node, Propose(b"x"))
    receive(node, AppendEntries(2, 3, 0, 0, (), 0))
    assert receive(node, AppendEntriesReply(2, True, 2, 1)) == []
    assert (node.role, node.commit_index) == (Role.FOLLOWER, 0)


def test_a_doubled_refusal_is_answered_once() -> None:
    node = caught_up_leader(log=log_of([1] * 10))
    propose(node, 3)
    drain(node)
    assert len(refuse(node, 2, 4)) == 1
    for _ in range(10):
        assert refuse(node, 2, 4) == []


def test_a_follower_that_refuses_for_ever_does_not_make_a_storm() -> None:
    node = caught_up_leader(log=log_of([1] * 10), heartbeat_interval=1)
    count = 0
    for _ in range(50):
        beats = sent_to(step(node, Tick()), 2)
        count += len(beats)
        for _ in beats:
            count += len(refuse(node, 2, 1))
    assert count <= 51, "a heartbeat each, and one probe"


def test_a_new_leader_elected_by_others_votes_sends_in_its_term_only() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([3], term=7))
    messages = sent(elect(node), AppendEntries)
    assert {(m.term, m.prev_log_term) for m in messages} == {(8, 3)}
