"""Section 5 of the Raft paper (extended version), by subsection, and the properties of figure 3."""

from __future__ import annotations

import pytest
from tests.support import (
    NOOP,
    Cluster,
    ack,
    applied,
    campaign,
    elect,
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
    LogEntry,
    Message,
    Propose,
    RaftNode,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Tick,
)

pytestmark = pytest.mark.core


def cluster(*terms: list[int], term: int = 0) -> Cluster:
    """Nodes 1, 2, ... with these logs, all in the same term."""
    newest = max([term, *[log[-1] for log in terms if log]])
    return Cluster({node: log_of(log, newest) for node, log in enumerate(terms, start=1)})


# 5.1 Raft basics.


def test_5_1_each_term_has_at_most_one_leader() -> None:
    nodes = cluster([], [], [])
    leaders: dict[int, set[int]] = {}
    for turn in range(300):
        nodes.cut = {1 + turn // 50 % 3}
        nodes.tick()
        for id_, node in nodes.nodes.items():
            if node.is_leader:
                leaders.setdefault(node.term, set()).add(id_)
    assert len(leaders) >= 3
    assert all(len(ids) == 1 for ids in leaders.values())


def test_5_1_a_request_with_a_stale_term_is_rejected() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([], term=5))
    assert not reply_of(node, RequestVote(4, 2, 9, 9)).vote_granted
    assert not reply_of(node, AppendEntries(4, 2, 0, 0, (), 0)).success


def test_5_1_a_deposed_leader_learns_of_the_new_term_by_the_rejection() -> None:
    old = leader()
    reply = reply_of(RaftNode(paper(2, [1, 3]), log_of([], term=6)), AppendEntries(1, 1, 0, 0, (), 0))
    receive(old, reply)
    assert (old.role, old.term) == (Role.FOLLOWER, 6)


# 5.2 Leader election.


def test_5_2_servers_start_as_followers_and_remain_so_while_they_hear_from_a_leader() -> None:
    nodes = cluster([], [], [])
    assert {node.role for node in nodes.nodes.values()} == {Role.FOLLOWER}
    nodes.elect(2)
    nodes.tick(count=200)
    assert (nodes.nodes[2].is_leader, nodes.nodes[2].term) == (True, nodes.nodes[1].term)
    assert [nodes.nodes[id_].role for id_ in (1, 3)] == [Role.FOLLOWER] * 2


def test_5_2_a_candidate_issues_request_vote_to_each_of_the_other_servers() -> None:
    node = RaftNode(paper(1, [2, 3, 4, 5]))
    actions = campaign(node)
    assert [len(sent_to(actions, peer)) for peer in (1, 2, 3, 4, 5)] == [0, 1, 1, 1, 1]


def test_5_2_each_server_votes_for_at_most_one_candidate_first_come_first_served() -> None:
    node = RaftNode(paper(1, [2, 3]))
    assert [reply_of(node, RequestVote(1, id_, 0, 0)).vote_granted for id_ in (3, 2, 3)] == [
        True,
        False,
        True,
    ]


def test_5_2_a_candidate_recognises_a_leader_of_its_own_or_a_later_term() -> None:
    for term in (1, 4):
        node = RaftNode(paper(1, [2, 3]))
        campaign(node)
        heartbeat(node, term=term, sender=2)
        assert (node.role, node.leader, node.term) == (Role.FOLLOWER, 2, term)


def test_5_2_a_candidate_rejects_a_leader_of_an_earlier_term_and_stays_one() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([], term=4))
    campaign(node)
    reply = reply_of(node, AppendEntries(4, 2, 0, 0, (), 0))
    assert (reply.success, reply.term, node.role) == (False, 5, Role.CANDIDATE)


def test_5_2_a_split_vote_is_followed_by_a_new_election() -> None:
    nodes = Cluster({id_: log_of([]) for id_ in (1, 2, 3, 4)})
    for id_ in (1, 2):
        while nodes.nodes[id_].role is Role.FOLLOWER:
            nodes.step(id_, Tick())
    delivered: list[tuple[int, Message]] = []
    for to, message in nodes.queue:
        if isinstance(message, RequestVote) and (message.candidate, to) in ((1, 3), (2, 4)):
            delivered.append((to, message))
    nodes.queue = delivered
    nodes.settle()
    assert [nodes.nodes[id_].role for id_ in (1, 2)] == [Role.CANDIDATE] * 2
    nodes.tick(count=200)
    assert sum(node.is_leader for node in nodes.nodes.values()) == 1


def test_5_2_election_timeouts_are_chosen_anew_at_each_election() -> None:
    node = RaftNode(paper(1, [2, 3]))
    waits = []
    for term in range(1, 30):
        count = 0
        while node.term < term:
            step(node, Tick())
            count += 1
        waits.append(count)
    assert len(set(waits)) > 3


# 5.3 Log replication.


def test_5_3_an_entry_is_committed_once_a_majority_has_it_and_then_applied() -> None:
    node = leader([2, 3, 4, 5])
    step(node, Propose(b"x"))
    assert applied(ack(node, 2, 1)) == []
    assert applied(ack(node, 4, 1)) == [1]


def test_5_3_committing_an_entry_commits_all_that_precede_it() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 2, 2]))
    elect(node)
    assert applied(ack(node, 3, 4)) == [1, 2, 3]


def test_5_3_the_leader_includes_the_highest_committed_index_in_its_messages() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    beats = [m for _ in range(3) for m in sent(step(node, Tick()), AppendEntries)]
    assert {message.leader_commit for message in beats} == {1}


def test_5_3_the_leader_retries_until_all_followers_store_all_entries() -> None:
    nodes = cluster([], [], [])
    nodes.elect(1)
    nodes.cut = {3}
    for _ in range(10):
        nodes.step(1, Propose(b"x"))
        nodes.settle()
    assert nodes.applied[1] and not nodes.applied[3]
    nodes.cut = set()
    nodes.tick(1, count=12)
    assert nodes.applied[3] == nodes.applied[1]


FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("terms", FIGURE_7.values(), ids=FIGURE_7.keys())
def test_5_3_a_leader_forces_the_followers_logs_of_figure_7_to_duplicate_its_own(terms: list[int]) -> None:
    nodes = cluster([1, 1, 1, 4, 4, 5, 5, 6, 6, 6], [1, 1, 1, 4, 4, 5, 5, 6, 6, 6], terms, term=7)
    nodes.elect(1)
    nodes.tick(1, count=9)
    logs = [terms_in(node.log) for node in nodes.nodes.values()]
    assert logs == [[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8]] * 3
    assert nodes.applied[3] == nodes.applied[1]


def test_5_3_a_leader_never_overwrites_or_deletes_entries_in_its_own_log() -> None:
    node = leader(log=log_of([1, 1]))
    before = list(node.log.entries(1, 9))
    for term, prev in ((2, (0, 0)), (1, (1, 1))):
        receive(node, AppendEntries(term, 3, prev[0], prev[1], [LogEntry(term, prev[0] + 1, b"other")], 0))
    receive(node, AppendEntriesReply(2, False, 3, 0, 1, 0))
    assert list(node.log.entries(1, 9)) == before
    assert node.is_leader


def test_5_3_the_hint_lets_the_leader_skip_all_conflicting_entries_of_a_term() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 1] + [2] * 20))
    reply = reply_of(node, AppendEntries(9, 2, 22, 8, (), 0))
    assert (reply.conflict_index, reply.conflict_term) == (3, 2)


# 5.4.1 Election restriction.


@pytest.mark.parametrize(
    ("mine", "theirs", "granted"),
    [
        ([1, 1, 2], [1, 1, 3], True),
        ([1, 1, 3], [1, 1, 2, 2, 2], False),
        ([1, 2], [1, 2, 2], True),
        ([1, 2, 2], [1, 2], False),
        ([1, 2], [1, 2], True),
        ([], [], True),
        ([1], [], False),
    ],
)
def test_5_4_1_the_later_last_term_is_more_up_to_date_then_the_longer_log(
    mine: list[int], theirs: list[int], granted: bool
) -> None:
    voter = RaftNode(paper(1, [2, 3]), log_of(mine, term=3))
    request = RequestVote(4, 2, len(theirs), theirs[-1] if theirs else 0)
    assert reply_of(voter, request).vote_granted is granted


def test_5_4_1_a_candidate_that_lacks_a_committed_entry_cannot_win() -> None:
    nodes = cluster([1, 1], [1, 1], [1])
    nodes.tick(3, count=200)
    assert not nodes.nodes[3].is_leader
    nodes.elect(1)


# 5.4.2 Committing entries from previous terms.


def test_5_4_2_a_leader_does_not_commit_an_earlier_terms_entry_by_counting_replicas() -> None:
    """Figure 8, (c): S1 has replicated the entry of term 2 to a majority, and may not commit it."""
    s1 = RaftNode(paper(1, [2, 3, 4, 5]), log_of([1, 2], term=3), applied=1)
    elect(s1)
    assert s1.log.entry(3) == LogEntry(4, 3, b"", NOOP)
    for peer in (2, 3):
        ack(s1, peer, 2)
    assert s1.commit_index == 1


def test_5_4_2_figure_8_d_the_earlier_terms_entry_may_still_be_overwritten() -> None:
    s2 = RaftNode(paper(2, [1, 3, 4, 5]), log_of([1, 2], term=4), applied=1)
    s5 = RaftNode(paper(5, [1, 2, 3, 4]), log_of([1, 3], term=4), applied=1)
    campaign(s5)
    for peer in (3, 4):
        receive(s5, RequestVoteReply(5, True, peer))
    assert s5.is_leader
    assert reply_of(s2, AppendEntries(5, 5, 1, 1, [LogEntry(3, 2), LogEntry(5, 3)], 1)).success
    assert terms_in(s2.log) == [1, 3, 5]


def test_5_4_2_figure_8_e_an_entry_of_the_current_term_commits_the_earlier_one_with_it() -> None:
    s1 = RaftNode(paper(1, [2, 3, 4, 5]), log_of([1, 2], term=3), applied=1)
    elect(s1)
    ack(s1, 2, 3)
    assert s1.commit_index == 1
    assert applied(ack(s1, 3, 3)) == [2]
    assert s1.commit_index == 3
    s5 = RequestVote(5, 5, 2, 3)
    assert not reply_of(RaftNode(paper(2, [1]), log_of([1, 2, 4])), s5).vote_granted


# 5.4.3 and figure 3: the properties, over a run with changes of leader.


def test_figure_3_log_matching_leader_completeness_and_state_machine_safety() -> None:
    nodes = cluster([], [], [], [], [])
    committed: dict[int, LogEntry] = {}
    proposed = 0
    for turn in range(400):
        nodes.cut = {1 + turn // 60 % 5, 1 + (turn // 60 + 2) % 5}
        for id_, node in nodes.nodes.items():
            if node.is_leader and turn % 4 == 0:
                proposed += 1
                nodes.step(id_, Propose(b"%d" % proposed))
        nodes.tick()
        for node in nodes.nodes.values():
            for index in range(1, node.commit_index + 1):
                entry = node.log.entry(index)
                assert entry is not None
                assert committed.setdefault(index, entry) == entry
        newest = max(nodes.nodes.values(), key=lambda node: (node.is_leader, node.term))
        if newest.is_leader:
            assert all(newest.log.entry(index) == entry for index, entry in committed.items())
    assert len(committed) > 50
    one, *others = (list(node.log.entries(1, 10_000)) for node in nodes.nodes.values())
    for other in others:
        same = [mine.term == theirs.term for mine, theirs in zip(one, other, strict=False)]
        last = max((place for place, equal in enumerate(same) if equal), default=-1)
        assert one[: last + 1] == other[: last + 1]


# 5.5 Follower and candidate crashes.


def test_5_5_append_entries_is_idempotent() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1]))
    message = AppendEntries(2, 2, 1, 1, [LogEntry(2, 2, b"x")], 2)
    assert applied(receive(node, message)) == [1, 2]
    again = receive(node, message)
    assert sent(again, AppendEntriesReply) == [AppendEntriesReply(2, True, 1, 2)]
    assert (applied(again), node.log.last_index()) == ([], 2)


def test_5_5_request_vote_is_idempotent() -> None:
    node = RaftNode(paper(1, [2, 3]))
    replies = [reply_of(node, RequestVote(1, 2, 0, 0)) for _ in range(3)]
    assert replies == [RequestVoteReply(1, True, 1)] * 3


def test_5_5_a_restarted_follower_takes_up_where_it_was() -> None:
    nodes = cluster([], [], [])
    nodes.elect(1)
    nodes.step(1, Propose(b"a"))
    nodes.settle()
    nodes.nodes[3] = RaftNode(paper(3, [1, 2]), nodes.nodes[3].log)
    nodes.applied[3] = []
    nodes.step(1, Propose(b"b"))
    nodes.settle()
    nodes.tick(1, count=6)
    assert nodes.applied[3] == [(1, b"a"), (2, b"b")]


# 5.6 Timing and availability.


def test_5_6_a_leader_keeps_its_place_while_heartbeats_beat_the_election_timeout() -> None:
    nodes = cluster([], [], [])
    nodes.elect(1)
    term = nodes.nodes[1].term
    nodes.tick(count=500)
    assert [(node.term, node.leader) for node in nodes.nodes.values()] == [(term, 1)] * 3


def test_5_6_a_cluster_without_its_leader_has_a_new_one_within_a_few_timeouts() -> None:
    nodes = cluster([], [], [])
    nodes.elect(1)
    nodes.cut = {1}
    nodes.tick(2, 3, count=100)
    assert nodes.nodes[2].is_leader or nodes.nodes[3].is_leader


# 8 Client interaction.


def test_8_a_leader_commits_a_no_op_of_its_term_to_learn_which_entries_are_committed() -> None:
    nodes = cluster([1, 1], [1, 1], [1])
    nodes.elect(1)
    nodes.tick(1, count=6)
    assert [node.commit_index for node in nodes.nodes.values()] == [3, 3, 3]
    assert nodes.nodes[3].log.entry(3) == LogEntry(2, 3, b"", NOOP)
    assert [index for index, _ in nodes.applied[3]] == [1, 2], "the no-op itself is not applied"


def test_delivery_in_any_order_does_no_harm() -> None:
    node = RaftNode(paper(1, [2, 3]))
    messages = [AppendEntries(1, 2, index, min(index, 1), [LogEntry(1, index + 1)], 0) for index in range(4)]
    for message in (*reversed(messages), *messages, messages[1], messages[0]):
        step(node, Receive(message))
    assert terms_in(node.log) == [1, 1, 1, 1]
