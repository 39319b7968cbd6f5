"""Leadership transfer (thesis, section 3.10), from the leader's side and from the target's."""

from __future__ import annotations

import pytest
from tests.support import (
    TOP,
    Cluster,
    ack,
    ask,
    campaign,
    default_leader,
    drain,
    feed,
    heartbeat,
    log_of,
    membership_entry,
    receive,
    sent,
    sent_to,
    split,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    ChangeMembership,
    LogEntry,
    Membership,
    MembershipChangeInProgressError,
    Message,
    NotLeaderError,
    PreVote,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadIndex,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    Synced,
    Tick,
    TimeoutNow,
    TransferInProgressError,
    TransferLeadership,
)

pytestmark = pytest.mark.core

LONGEST = RaftConfig(1).election_timeout[1]


def ready(peers: tuple[int, ...] = (2, 3)) -> RaftNode:
    """A leader with one committed entry, which every follower has."""
    node = default_leader(peers)
    step(node, Propose(b"x"))
    for peer in peers:
        ack(node, peer, 1)
    return node


def hear(node: RaftNode, match: int | None = None) -> None:
    """Follower 3 keeps the leader in office."""
    ack(node, 3, node.log.last_index() if match is None else match)


# The leader's side.


def test_a_target_that_has_everything_is_told_at_once() -> None:
    node = ready()
    assert sent_to(step(node, TransferLeadership(2)), 2) == [TimeoutNow(1, 1, 1)]
    assert node.status.transfer_target == 2
    assert node.is_leader, "until the target is elected"


def test_a_target_that_lags_is_caught_up_first() -> None:
    node = ready()
    feed(node, *[Propose(b"y")] * 3)
    drain(node)
    assert sent(step(node, TransferLeadership(2)), TimeoutNow) == []
    assert sent(ack(node, 2, 3), TimeoutNow) == []
    assert sent(ack(node, 3, 4), TimeoutNow) == [], "another follower has everything"
    assert sent(ack(node, 2, 4), TimeoutNow) == [TimeoutNow(1, 1, 1)]


def test_meanwhile_proposals_and_changes_are_refused_and_nothing_changes() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    before = node.status
    for event in (Propose(b"y"), ChangeMembership([1, 2])):
        with pytest.raises(TransferInProgressError):
            node.feed(event)
        with pytest.raises(TransferInProgressError):
            node.step(event)
    assert node.status == before and not node.pending


def test_it_is_given_up_after_the_longest_timeout() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    for _ in range(LONGEST - 1):
        hear(node)
        step(node, Tick())
        with pytest.raises(TransferInProgressError):
            node.feed(Propose(b"y"))
    step(node, Tick())
    assert (node.is_leader, node.status.transfer_target) == (True, None)
    assert node.feed(Propose(b"y")) == 2
    assert node.feed(ChangeMembership([1, 2])) == 3


def test_to_itself_nothing_happens() -> None:
    node = ready()
    assert step(node, TransferLeadership(1)) == []
    assert node.status.transfer_target is None
    assert node.feed(Propose(b"y")) == 2


def test_to_itself_while_one_is_under_way_nothing_happens_either() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    assert step(node, TransferLeadership(1)) == []
    assert node.status.transfer_target == 2


def test_a_second_one_replaces_the_first_and_has_all_its_time() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    for _ in range(LONGEST - 1):
        hear(node)
        step(node, Tick())
    assert sent_to(step(node, TransferLeadership(3)), 3) == [TimeoutNow(1, 1, node._state.round)]
    assert node.status.transfer_target == 3
    for _ in range(LONGEST - 1):
        hear(node)
        assert sent_to(step(node, Tick()), 2) == [] or node.status.transfer_target == 3
    assert node.status.transfer_target == 3
    step(node, Tick())
    assert node.status.transfer_target is None


def test_the_first_target_is_told_no_more_once_it_is_replaced() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    step(node, TransferLeadership(3))
    told = [m for _ in range(9) for m in sent_to(step(node, Tick()), 2) if isinstance(m, TimeoutNow)]
    assert told == []


@pytest.mark.parametrize("target", [4, 0, 99, TOP])
def test_only_to_a_voter(target: int) -> None:
    node = ready()
    feed(node, ChangeMembership([1, 2, 3], [4]))
    drain(node)
    before = node.status
    with pytest.raises(ValueError, match=f"node {target} is no voter"):
        node.feed(TransferLeadership(target))
    assert node.status == before and not node.pending


def test_not_to_a_voter_on_its_way_out() -> None:
    node = ready()
    step(node, ChangeMembership([1, 4, 5]))
    assert node.membership.outgoing == {1, 2, 3}
    with pytest.raises(ValueError, match="node 2 is no voter"):
        node.feed(TransferLeadership(2))


def test_only_a_leader_hands_over() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    with pytest.raises(NotLeaderError) as caught:
        node.feed(TransferLeadership(2))
    assert caught.value.leader is None
    heartbeat(node, sender=3)
    with pytest.raises(NotLeaderError) as caught:
        node.feed(TransferLeadership(99))
    assert caught.value.leader == 3
    assert not node.pending


def test_the_target_is_told_again_with_every_heartbeat_for_the_word_may_be_lost() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    told = []
    for tick in range(1, LONGEST):
        hear(node)
        if sent(step(node, Tick()), TimeoutNow):
            told.append(tick)
    assert told == [3, 6, 9, 12, 15, 18]


def test_acknowledgements_in_between_do_not_make_a_storm() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    for _ in range(20):
        assert sent(ack(node, 2, 1), TimeoutNow) == []


def test_a_target_that_asks_to_be_repaired_is_told_when_it_is() -> None:
    node = default_leader(log=log_of([1, 1]))
    step(node, TransferLeadership(2))
    assert sent(ack(node, 2, 2), TimeoutNow) == [], "the NOOP is missing"
    assert sent(ack(node, 2, 3), TimeoutNow) == [TimeoutNow(2, 1, 1)]


def test_a_leader_that_steps_down_hands_over_no_more() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    receive(node, AppendEntries(2, 3, 1, 1, (), 1))
    assert node.status.transfer_target is None
    with pytest.raises(NotLeaderError):
        node.feed(Propose(b"y"))


def test_a_leader_that_loses_its_quorum_meanwhile_steps_down() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    for _ in range(LONGEST):
        step(node, Tick())
    assert (node.role, node.status.transfer_target) == (Role.FOLLOWER, None)


def test_what_is_committed_meanwhile_is_applied() -> None:
    node = ready()
    feed(node, Propose(b"y"))
    drain(node)
    step(node, TransferLeadership(2))
    ack(node, 3, 2)
    assert node.last_applied == 2


def test_a_change_that_was_waiting_goes_on_and_may_take_the_target_away() -> None:
    node = default_leader(log=log_of([1]))
    feed(node, ChangeMembership([1, 3]))
    step(node, TransferLeadership(2))
    assert node.status.transfer_target == 2
    ack(node, 3, 2)
    assert node.membership == Membership([1, 3])
    assert node.status.transfer_target is None, "who is no voter any more gets no leadership"
    assert sent(ack(node, 3, 3), TimeoutNow) == []
    node.feed(Propose(b"y"))


def test_a_change_under_way_and_a_transfer_do_not_hold_each_other_up() -> None:
    node = ready()
    step(node, ChangeMembership([1, 2]))
    step(node, TransferLeadership(2))
    assert sent(ack(node, 2, 2), TimeoutNow) == [TimeoutNow(1, 1, 1)]
    with pytest.raises(TransferInProgressError):
        node.feed(ChangeMembership([1]))


def test_after_it_was_given_up_a_change_that_is_not_done_is_still_in_the_way() -> None:
    node = ready()
    step(node, ChangeMembership([1, 2, 3], [4]))
    step(node, TransferLeadership(2))
    for _ in range(LONGEST):
        hear(node, 1)
        step(node, Tick())
    assert node.is_leader and node.commit_index == 1
    with pytest.raises(MembershipChangeInProgressError):
        node.feed(ChangeMembership([1]))


def test_reads_are_answered_meanwhile() -> None:
    node = ready()
    step(node, TransferLeadership(2))
    step(node, ReadIndex(b"r"))
    assert len(node._state.reads) == 1


def test_deferred_the_word_needs_nothing_but_a_durable_term() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), deferred_sync=True)
    _, first, _ = split(campaign(node))
    feed(node, *[Receive(RequestVoteReply(1, True, peer)) for peer in (2, 3)])
    assert node.is_leader
    feed(node, TransferLeadership(2))
    for peer in (2, 3):
        feed(node, Receive(AppendEntriesReply(1, True, peer, 0)))
    before, _, after = split(drain(node))
    assert sent(before, TimeoutNow) == []
    assert len(sent(after, TimeoutNow)) == 1, "its term may still be lost"
    feed(node, Synced(first), *[Tick()] * 3)
    before, _, after = split(drain(node))
    assert (len(sent(before, TimeoutNow)), after) == (1, [])


# The target's side.


def target(**options: bool) -> RaftNode:
    """Follows 2 in term 4."""
    node = RaftNode(RaftConfig(1, [2, 3], **options), log_of([3]))  # type: ignore[arg-type]
    heartbeat(node, term=4, sender=2, prev=(1, 3))
    return node


def test_it_campaigns_at_once_without_asking_and_says_that_it_was_sent() -> None:
    node = target()
    request = RequestVote(5, 1, 1, 3, force=True)
    expected: list[Action] = [Send(2, request), Send(3, request)]
    assert receive(node, TimeoutNow(4, 2)) == expected
    assert (node.role, node.term, node.leader) == (Role.CANDIDATE, 5, None)


def test_only_that_one_campaign_is_forced() -> None:
    node = target()
    receive(node, TimeoutNow(4, 2))
    assert sent(ask(node), PreVote) == [PreVote(6, 1, 1, 3)] * 2
    assert sent(campaign(node), RequestVote) == [RequestVote(6, 1, 1, 3)] * 2
    bare = target(pre_vote=False)
    receive(bare, TimeoutNow(4, 2))
    assert sent(campaign(bare), RequestVote) == [RequestVote(6, 1, 1, 3)] * 2


def test_who_asks_for_pre_votes_already_campaigns_as_told() -> None:
    node = target()
    ask(node)
    assert sent(receive(node, TimeoutNow(4, 2)), RequestVote) == [RequestVote(5, 1, 1, 3, True)] * 2


def test_the_word_of_a_leader_of_a_later_term_counts() -> None:
    node = target()
    assert sent(receive(node, TimeoutNow(7, 3)), RequestVote) == [RequestVote(8, 1, 1, 3, True)] * 2


@pytest.mark.parametrize(
    "message",
    [
        TimeoutNow(3, 2),  # of an earlier term
        TimeoutNow(0, 2),
        TimeoutNow(4, 3),  # of somebody who does not lead
        TimeoutNow(4, 1),  # in its own name
        TimeoutNow(TOP, 2),
    ],
    ids=repr,
)
def test_the_word_of_nobody_else_counts(message: TimeoutNow) -> None:
    node = target()
    before = node.status
    assert receive(node, message) == []
    assert node.status == before


def test_a_word_that_is_older_than_what_was_heard_since_is_no_order_any_more() -> None:
    node = target()
    receive(node, AppendEntries(4, 2, 1, 3, (), 0, 8))
    for round_ in (1, 7):
        assert receive(node, TimeoutNow(4, 2, round_)) == []
    assert node.role is Role.FOLLOWER
    assert sent(receive(node, TimeoutNow(4, 2, 8)), RequestVote) != []


def test_rounds_of_another_leader_say_nothing_about_this_one() -> None:
    node = target()
    receive(node, AppendEntries(4, 2, 1, 3, (), 0, 8))
    receive(node, AppendEntries(5, 3, 1, 3, (), 0, 2))
    assert sent(receive(node, TimeoutNow(5, 3, 2)), RequestVote) != []


def test_candidates_and_leaders_are_not_told_to_campaign() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    campaign(node)
    assert receive(node, TimeoutNow(1, 2)) == []
    assert (node.role, node.term) == (Role.CANDIDATE, 1)
    receive(node, RequestVoteReply(1, True, 2))
    assert receive(node, TimeoutNow(1, 2)) == []
    assert (node.role, node.term) == (Role.LEADER, 1)


def test_a_learner_never_campaigns() -> None:
    node = RaftNode(RaftConfig.joining(1))
    receive(node, TimeoutNow(4, 2))
    assert (node.role, node.term) == (Role.FOLLOWER, 4), "who does not know the membership"
    entry = membership_entry(4, 1, Membership([2, 3], [1]))
    receive(node, AppendEntries(4, 2, 0, 0, [entry], 1))
    assert receive(node, TimeoutNow(4, 2)) == []
    assert receive(node, TimeoutNow(5, 2)) == []
    assert (node.role, node.term) == (Role.FOLLOWER, 5)


def test_nobody_campaigns_beyond_the_last_term() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), log_of([], term=TOP - 1))
    assert receive(node, TimeoutNow(TOP - 1, 2)) == []
    assert node.role is Role.FOLLOWER


def test_nobody_campaigns_while_its_disk_hangs() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), deferred_sync=True)
    feed(node, Receive(AppendEntries(1, 2, 0, 0, [LogEntry(1, 1)], 0)))
    drain(node)
    for _ in range(LONGEST + 1):
        feed(node, Tick(), Receive(AppendEntries(1, 2, 0, 0, (), 0)))
    feed(node, Receive(TimeoutNow(1, 2)))
    assert (node.role, node.term) == (Role.FOLLOWER, 1)


def test_who_may_stand_alone_leads_at_once() -> None:
    node = RaftNode(RaftConfig.single(1))
    receive(node, TimeoutNow(3, 2))
    assert (node.is_leader, node.term) == (True, 4)


# In a cluster.


def cluster(size: int = 3, **options: object) -> Cluster:
    logs: dict[int, RaftLog] = {node: log_of([]) for node in range(1, size + 1)}
    nodes = Cluster(logs, **{"pre_vote": True, "check_quorum": True, **options})
    nodes.elect(1)
    return nodes


def test_leadership_moves_within_three_rounds_of_messages() -> None:
    nodes = cluster()
    nodes.step(1, Propose(b"x"))
    nodes.settle()
    nodes.step(1, TransferLeadership(3))
    for _ in range(3):
        batch, nodes.queue = nodes.queue, []
        for to, message in batch:
            nodes.step(to, Receive(message))
    assert (nodes.nodes[3].is_leader, nodes.nodes[1].is_leader) == (True, False)
    nodes.settle()
    assert [node.leader for node in nodes.nodes.values()] == [3, 3, 3]
    nodes.step(3, Propose(b"y"))
    nodes.settle()
    nodes.tick(count=6)
    assert nodes.applied[1] == nodes.applied[3] == [(1, b"x"), (2, b"y")]


def test_a_target_that_is_down_costs_one_timeout() -> None:
    nodes = cluster()
    nodes.cut = {3}
    nodes.step(1, TransferLeadership(3))
    nodes.tick(count=LONGEST)
    assert (nodes.nodes[1].is_leader, nodes.nodes[1].term) == (True, 1)
    nodes.step(1, Propose(b"x"))
    nodes.settle()
    assert nodes.applied[1] == [(1, b"x")]


def test_a_word_that_arrives_after_it_was_given_up_does_no_harm() -> None:
    nodes = cluster()
    nodes.step(1, TransferLeadership(3))
    late: list[tuple[int, Message]] = [(to, m) for to, m in nodes.queue if isinstance(m, TimeoutNow)]
    for _ in range(LONGEST):
        nodes.queue = [(to, m) for to, m in nodes.queue if not isinstance(m, TimeoutNow)]
        nodes.settle()
        for id_ in (1, 2, 3):
            nodes.step(id_, Tick())
            late += [(to, m) for to, m in nodes.queue if isinstance(m, TimeoutNow)]
            nodes.queue = [(to, m) for to, m in nodes.queue if not isinstance(m, TimeoutNow)]
    nodes.settle()
    assert nodes.nodes[1].status.transfer_target is None
    assert len(late) > 3
    nodes.queue = late
    nodes.settle()
    nodes.tick(count=100)
    assert [(node.leader, node.term) for node in nodes.nodes.values()] == [(1, 1)] * 3


def test_it_works_while_everybody_is_busy() -> None:
    nodes = cluster(5, max_batch=2, max_inflight=2)
    for _ in range(30):
        nodes.step(1, Propose(b"x"))
    nodes.step(1, TransferLeadership(4))
    nodes.settle()
    assert nodes.nodes[4].is_leader
    nodes.tick(4, count=6)
    assert nodes.nodes[4].last_applied == 31, "and the NOOP"
    assert len(nodes.applied[4]) == 30
