"""Ongaro's thesis ("Consensus: bridging theory and practice", 2014), where it goes beyond the paper."""

from __future__ import annotations

import pytest
from tests.support import (
    NOOP,
    Cluster,
    ack,
    ask,
    caught_up_leader,
    default_leader,
    drain,
    elect,
    feed,
    heartbeat,
    leader,
    log_of,
    membership_entry,
    only,
    paper,
    receive,
    reply_of,
    sent,
    sent_to,
    settle,
    split,
    step,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    ChangeMembership,
    LogEntry,
    Membership,
    PreVote,
    PreVoteReply,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadIndex,
    ReadIndexReply,
    ReadIndexRequest,
    ReadReady,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Sync,
    Synced,
    Tick,
    TimeoutNow,
    TransferInProgressError,
    TransferLeadership,
)

pytestmark = pytest.mark.core

SHORTEST, LONGEST = RaftConfig(1).election_timeout


def cluster(*ids: int, **options: object) -> Cluster:
    logs: dict[int, RaftLog] = {id_: log_of([]) for id_ in ids}
    nodes = Cluster(logs, **{"pre_vote": True, "check_quorum": True, **options})
    nodes.elect(ids[0])
    nodes.step(ids[0], Propose(b"x"))
    nodes.settle()
    return nodes


# 3.10 Leadership transfer extension.


def test_3_10_1_the_prior_leader_stops_accepting_new_client_requests() -> None:
    node = caught_up_leader()
    step(node, TransferLeadership(2))
    with pytest.raises(TransferInProgressError):
        node.feed(Propose(b"x"))


def test_3_10_2_it_fully_updates_the_targets_log_to_match_its_own() -> None:
    node = caught_up_leader()
    step(node, Propose(b"x"))
    assert sent(step(node, TransferLeadership(2)), TimeoutNow) == []
    assert sent_to(ack(node, 2, 1), 2)[0] == TimeoutNow(1, 1, 1)


def test_3_10_3_timeout_now_makes_the_target_start_an_election_at_once() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    heartbeat(node, term=4, sender=2)
    assert sent(receive(node, TimeoutNow(4, 2)), RequestVote) == [RequestVote(5, 1, 0, 0, True)] * 2


def test_3_10_if_it_fails_within_an_election_timeout_the_leader_resumes() -> None:
    node = leader()
    step(node, TransferLeadership(2))
    for _ in range(LONGEST):
        step(node, Tick())
    assert node.feed(Propose(b"x")) == 1


# 4.1 Safety, and the bug in it that was found later (raft-dev, 2015).


def test_4_1_single_server_changes_overlap_and_need_no_joint_configuration() -> None:
    node = caught_up_leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    for target in ([1, 2, 3, 4], [1, 2, 4]):
        step(node, ChangeMembership(target))
        assert node.membership == Membership(target)
        for peer in target:
            if peer != 1:
                ack(node, peer, node.log.last_index())


def test_4_1_a_server_adopts_a_configuration_as_it_appends_it_and_falls_back_if_it_is_removed() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    receive(node, AppendEntries(1, 2, 0, 0, [membership_entry(1, 1, Membership([1, 2, 3, 4]))], 0))
    assert node.membership == Membership([1, 2, 3, 4])
    receive(node, AppendEntries(2, 3, 0, 0, [LogEntry(2, 1)], 0))
    assert node.membership == Membership([1, 2, 3])


def test_raft_dev_2015_no_change_before_an_entry_of_the_leaders_own_term_is_committed() -> None:
    node = RaftNode(paper(1, [2, 3, 4]), log_of([1, 1]), applied=2)
    elect(node)
    step(node, ChangeMembership([1, 2, 3]))
    assert node.log.entry(3) == LogEntry(2, 3, b"", NOOP)
    assert node.membership == Membership([1, 2, 3, 4])
    for peer in (2, 3):
        ack(node, peer, 3)
    assert node.membership == Membership([1, 2, 3])


# 4.2.1 Catching up new servers.


def test_4_2_1_a_new_server_is_a_non_voting_member_until_it_has_caught_up() -> None:
    nodes = cluster(1, 2, 3)
    for number in range(50):
        nodes.step(1, Propose(b"%d" % number))
    nodes.settle()
    nodes.join(4)
    nodes.step(1, ChangeMembership([1, 2, 3], [4]))
    nodes.settle()
    nodes.tick(count=12)
    (caught_up,) = [f for f in nodes.nodes[1].status.followers if f.id == 4]
    assert (caught_up.part, caught_up.match_index) == ("learner", nodes.nodes[1].log.last_index())
    nodes.step(1, ChangeMembership([1, 2, 3, 4]))
    nodes.settle()
    assert nodes.nodes[1].commit_index == nodes.nodes[1].log.last_index(), "no gap in availability"


# 4.2.2 Removing the current leader.


def test_4_2_2_a_leader_that_is_removed_steps_down_once_the_entry_is_committed() -> None:
    nodes = cluster(1, 2, 3)
    nodes.step(1, ChangeMembership([2, 3]))
    nodes.settle()
    assert nodes.nodes[1].role is Role.FOLLOWER
    nodes.tick(count=100)
    assert sum(nodes.nodes[id_].is_leader for id_ in (2, 3)) == 1
    assert not nodes.nodes[1].is_leader


def test_4_2_2_a_server_outside_of_its_own_latest_configuration_may_still_have_to_campaign() -> None:
    log = log_of([1])
    log.append([membership_entry(1, 2, Membership([2]))])
    node = RaftNode(RaftConfig(1, [2]), log)
    ask(node)
    requests = sent(receive(node, PreVoteReply(2, True, 2)), RequestVote)
    assert requests == [RequestVote(2, 1, 2, 1)]
    receive(node, RequestVoteReply(2, True, 2))
    assert node.is_leader, "figure 4.6: by the vote of the server that is left"
    ack(node, 2, 3)
    assert (node.role, node.commit_index) == (Role.FOLLOWER, 3)


# 4.2.3 Disruptive servers.


@pytest.mark.parametrize("pre_vote", [False, True])
def test_4_2_3_a_server_that_was_removed_does_not_disrupt_the_cluster(pre_vote: bool) -> None:
    nodes = cluster(1, 2, 3, pre_vote=pre_vote)
    nodes.cut = {3}
    nodes.step(1, ChangeMembership([1, 2]))
    nodes.settle()
    nodes.cut = set()
    nodes.tick(3, count=15)
    for _ in range(100):
        nodes.tick(1, 2, 3)
    assert (nodes.nodes[1].is_leader, nodes.nodes[1].term) == (True, 1)


def test_4_2_3_a_transfer_passes_that_check() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    heartbeat(node, term=4, sender=2)
    assert receive(node, RequestVote(5, 3, 9, 9)) == []
    assert reply_of(node, RequestVote(5, 3, 9, 9, force=True)).vote_granted


# 4.2.4 Availability argument: no phase of a change stops a cluster whose majority is up.


def test_4_2_4_a_cluster_is_available_all_through_a_change() -> None:
    nodes = cluster(1, 2, 3)
    for id_ in (4, 5):
        nodes.join(id_)
    nodes.step(1, ChangeMembership([1, 4, 5]))
    for number in range(20):
        at = next(id_ for id_, node in nodes.nodes.items() if node.is_leader)
        nodes.step(at, Propose(b"%d" % number))
        nodes.settle()
        nodes.tick()
    nodes.tick(count=10)
    assert [command for _, command in nodes.applied[1]][1:] == [b"%d" % number for number in range(20)]
    assert nodes.nodes[1].membership == Membership([1, 4, 5])


# 6.2 Routing requests to the leader: a leader that is cut off steps down.


def test_6_2_a_leader_steps_down_if_an_election_timeout_passes_without_a_round_to_a_majority() -> None:
    node = default_leader((2, 3, 4, 5))
    for _ in range(LONGEST):
        ack(node, 2, 0)
        step(node, Tick())
    assert (node.role, node.leader) == (Role.FOLLOWER, None)


# 6.4 Processing read-only queries more efficiently.


def test_6_4_1_a_leader_waits_for_an_entry_of_its_term_to_be_committed() -> None:
    node = default_leader(log=log_of([1]))
    step(node, ReadIndex(b"r"))
    assert only(receive(node, AppendEntriesReply(2, True, 2, 1, 0, 0, 1)), ReadReady) == []
    assert only(ack(node, 2, 2), ReadReady) == [ReadReady(b"r", 2)]


def test_6_4_2_it_saves_its_commit_index_as_read_index() -> None:
    node = caught_up_leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    feed(node, ReadIndex(b"r"))
    drain(node)
    step(node, Propose(b"y"))
    receive(node, AppendEntriesReply(1, True, 3, 2, 0, 0, 1))
    assert node.commit_index == 2
    step(node, ReadIndex(b"s"))
    actions = receive(node, AppendEntriesReply(1, True, 3, 2, 0, 0, 2))
    assert only(actions, ReadReady) == [ReadReady(b"s", 2)]


def test_6_4_3_a_round_of_heartbeats_shows_that_nobody_has_superseded_it_by_then() -> None:
    node = default_leader()
    step(node, ReadIndex(b"r"))
    assert only(ack(node, 2, 0), ReadReady) == [], "an answer to anything earlier shows nothing"
    actions = receive(node, AppendEntriesReply(1, True, 2, 0, 0, 0, 1))
    assert only(actions, ReadReady) == [ReadReady(b"r", 0)]


def test_6_4_4_it_waits_for_its_state_machine_to_reach_the_read_index() -> None:
    node = leader(max_apply_bytes=1)
    feed(node, Propose(b"x"), Propose(b"y"))
    drain(node)
    feed(node, Receive(AppendEntriesReply(1, True, 2, 2)), ReadIndex(b"r"))
    drain(node)
    feed(node, Receive(AppendEntriesReply(1, True, 2, 2, 0, 0, 1)))
    assert isinstance(drain(node)[-1], ReadReady)
    assert node.last_applied == 2


def test_6_4_5_one_round_serves_any_number_of_reads() -> None:
    node = default_leader()
    feed(node, *[ReadIndex(b"%d" % number) for number in range(1000)])
    assert len(sent(drain(node), AppendEntries)) == 2
    actions = receive(node, AppendEntriesReply(1, True, 2, 0, 0, 0, 1))
    assert len(only(actions, ReadReady)) == 1000


def test_6_4_a_follower_asks_the_leader_for_a_read_index_and_serves_the_data_itself() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    heartbeat(node, sender=2)
    assert sent(step(node, ReadIndex(b"r")), ReadIndexRequest) == [ReadIndexRequest(1, 1, b"r")]
    assert receive(node, ReadIndexReply(1, b"r", 0)) == [ReadReady(b"r", 0)]


def test_6_4_1_clocks_a_lease_ends_before_the_earliest_next_election() -> None:
    node = default_leader(lease_reads=True)
    for _ in range(3):
        step(node, Tick())
    receive(node, AppendEntriesReply(1, True, 2, 0, 0, 0, 1))
    served = 0
    for _ in range(2 * SHORTEST):
        served += len(only(step(node, ReadIndex(b"r")), ReadReady))
        step(node, Tick())
    assert served == SHORTEST - RaftConfig(1).lease_margin


# 9.6 Preventing disruptions when a server rejoins the cluster.


def test_9_6_a_candidate_increments_its_term_only_if_a_majority_would_vote_for_it() -> None:
    node = RaftNode(RaftConfig(1, [2, 3, 4, 5]))
    for _ in range(20):
        ask(node)
        step(node, Tick())
    assert node.term == 0
    ask(node)
    for peer in (2, 3):
        receive(node, PreVoteReply(1, True, peer))
    assert (node.role, node.term) == (Role.CANDIDATE, 1)


def test_9_6_a_server_grants_it_only_if_it_has_not_heard_from_a_valid_leader_for_an_election_timeout() -> (
    None
):
    node = RaftNode(RaftConfig(1, [2, 3], check_quorum=False))
    heartbeat(node, sender=2)
    assert not reply_of(node, PreVote(2, 3, 9, 9)).vote_granted
    for _ in range(SHORTEST):
        step(node, Tick())
    assert reply_of(node, PreVote(2, 3, 9, 9)).vote_granted


def test_9_6_and_only_if_the_candidates_log_is_up_to_date() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), log_of([3, 3]))
    assert not reply_of(node, PreVote(4, 3, 1, 3)).vote_granted


def test_9_6_a_server_that_rejoins_does_not_disrupt() -> None:
    nodes = cluster(1, 2, 3, check_quorum=False)
    nodes.cut = {3}
    nodes.tick(count=500)
    nodes.cut = set()
    nodes.tick(count=50)
    assert [(node.leader, node.term) for node in nodes.nodes.values()] == [(1, 1)] * 3


# 10.2.1 Writing to the leader's disk in parallel; 10.2.2 batching and pipelining.


def deferring_leader() -> RaftNode:
    node = RaftNode(paper(1, [2, 3]), deferred_sync=True)
    while node.term == 0:
        node.feed(Tick())
    settle(node, drain(node))
    feed(node, *[Receive(RequestVoteReply(1, True, peer)) for peer in (2, 3)])
    settle(node, drain(node))
    return node


def test_10_2_1_a_leader_replicates_before_its_own_disk_has_the_entry() -> None:
    node = deferring_leader()
    feed(node, Propose(b"x"))
    before, ticket, after = split(drain(node))
    assert (len(sent(before, AppendEntries)), ticket > 0, after) == (2, True, [])


def test_10_2_1_it_counts_its_own_copy_only_once_that_is_durable() -> None:
    node = deferring_leader()
    feed(node, Propose(b"x"))
    _, ticket, _ = split(drain(node))
    feed(node, Receive(AppendEntriesReply(1, True, 2, 1)))
    assert node.commit_index == 0
    feed(node, Synced(ticket))
    assert node.commit_index == 1


def test_10_2_1_an_entry_may_even_be_committed_by_the_others_before() -> None:
    node = deferring_leader()
    feed(node, Propose(b"x"))
    drain(node)
    feed(node, *[Receive(AppendEntriesReply(1, True, peer, 1)) for peer in (2, 3)])
    assert node.commit_index == 1


def test_10_2_2_entries_that_come_together_travel_together_and_cost_one_sync() -> None:
    node = deferring_leader()
    feed(node, *[Receive(AppendEntriesReply(1, True, peer, 0)) for peer in (2, 3)])
    feed(node, *[Propose(b"x")] * 50)
    actions = drain(node)
    assert [len(message.entries) for message in sent(actions, AppendEntries)] == [50, 50]
    assert len(only(actions, Sync)) == 1


def test_10_2_2_the_next_batch_does_not_wait_for_the_answer_to_the_last() -> None:
    node = caught_up_leader()
    for index in range(1, 6):
        (message,) = sent_to(step(node, Propose(b"x")), 2)
        assert isinstance(message, AppendEntries)
        assert message.prev_log_index == index - 1
    assert node.status.followers[0].inflight == 5
