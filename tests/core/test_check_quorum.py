"""Check-quorum (thesis, section 6.2) and stickiness (4.2.3)."""

from __future__ import annotations

import pytest
from tests.support import (
    TOP,
    Cluster,
    ack,
    default_leader,
    drain,
    feed,
    heartbeat,
    leader,
    log_of,
    receive,
    reply_of,
    sent,
    step,
    terms_in,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    ChangeMembership,
    InstallSnapshotReply,
    Message,
    NotLeaderError,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadIndexRequest,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Tick,
)

pytestmark = pytest.mark.core

LONGEST = RaftConfig(1).election_timeout[1]
SHORTEST = RaftConfig(1).election_timeout[0]


def ticks(node: RaftNode, count: int) -> None:
    for _ in range(count):
        step(node, Tick())


# A leader that hears from no quorum.


def test_a_leader_that_hears_nothing_steps_down_after_the_longest_timeout() -> None:
    node = default_leader()
    ticks(node, LONGEST - 1)
    assert node.is_leader, "not a tick earlier"
    step(node, Tick())
    assert (node.role, node.term, node.leader) == (Role.FOLLOWER, 1, None)
    with pytest.raises(NotLeaderError) as caught:
        node.feed(Propose(b"x"))
    assert caught.value.leader is None


def test_without_check_quorum_it_leads_on() -> None:
    node = leader()
    ticks(node, 50 * LONGEST)
    assert node.is_leader


def test_it_leads_on_while_it_hears_from_a_quorum() -> None:
    node = default_leader((2, 3, 4, 5))
    for turn in range(20):
        ticks(node, LONGEST - 1)
        ack(node, 2 + turn % 2, 0)
        ack(node, 4 + turn % 2, 0)
    assert node.is_leader


def test_a_minority_is_not_enough() -> None:
    node = default_leader((2, 3, 4, 5))
    for _ in range(LONGEST):
        ack(node, 2, 0)
        step(node, Tick())
    assert not node.is_leader


def test_the_time_counts_from_when_the_quorum_was_last_heard() -> None:
    node = default_leader((2, 3, 4, 5))
    ticks(node, 5)
    ack(node, 2, 0)
    ticks(node, 5)
    ack(node, 3, 0)
    ticks(node, LONGEST - 6)
    assert node.is_leader, "2 was heard 5 ticks later than the election"
    step(node, Tick())
    assert not node.is_leader


def test_a_leader_alone_hears_itself() -> None:
    node = default_leader(())
    ticks(node, 10 * LONGEST)
    assert node.is_leader


WORD: list[Message] = [
    AppendEntriesReply(1, True, 2, 0),
    AppendEntriesReply(1, False, 2, 0, 1, 0),
    InstallSnapshotReply(1, 2, 9, 0),
]

NO_WORD: list[Message] = [
    AppendEntriesReply(1, True, 9, 0),  # a stranger
    AppendEntriesReply(0, True, 2, 0),  # of an earlier term
    RequestVoteReply(1, True, 2),
    RequestVote(1, 2, 9, 9),
]


@pytest.mark.parametrize("message", WORD, ids=repr)
def test_every_answer_to_the_leader_is_word_from_a_follower(message: Message) -> None:
    node = default_leader()
    for _ in range(5 * LONGEST):
        receive(node, message)
        step(node, Tick())
    assert node.is_leader


@pytest.mark.parametrize("message", NO_WORD, ids=repr)
def test_nothing_else_is(message: Message) -> None:
    node = default_leader()
    for _ in range(LONGEST):
        receive(node, message)
        step(node, Tick())
    assert not node.is_leader


def test_learners_are_not_counted() -> None:
    node = default_leader((2, 3))
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 2, 3], [4, 5]))
    for _ in range(LONGEST):
        ack(node, 4, 0)
        ack(node, 5, 0)
        step(node, Tick())
    assert not node.is_leader


def test_while_joint_both_majorities_must_be_heard() -> None:
    for heard, leads in (((2, 4), True), ((2, 3), False), ((4, 5), False)):
        node = default_leader((2, 3))
        step(node, Propose(b"x"))
        ack(node, 2, 1)
        step(node, ChangeMembership([1, 4, 5]))
        assert node.membership.outgoing == {1, 2, 3}
        ticks(node, 1)
        for _ in range(LONGEST):
            for member in heard:
                ack(node, member, 0)
            step(node, Tick())
        # 1 counts in both halves: 2 makes the old majority, 4 or 5 the new.
        assert node.is_leader is leads, heard


def test_a_leader_that_is_no_voter_is_not_counted() -> None:
    node = default_leader((2, 3))
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([2, 3]))
    assert node.is_leader, "until its removal is committed"
    for _ in range(LONGEST):
        ack(node, 2, 1)
        step(node, Tick())
    assert not node.is_leader, "1 of 2 is no quorum"


def test_many_ticks_at_once_count_as_they_come() -> None:
    node = default_leader()
    feed(node, *[Tick()] * (LONGEST - 1))
    assert node.is_leader
    feed(node, Tick())
    assert not node.is_leader
    assert sent(drain(node), AppendEntries) == []


def test_what_was_proposed_and_not_committed_stays_in_the_log() -> None:
    node = default_leader()
    step(node, Propose(b"x"))
    ticks(node, LONGEST)
    assert not node.is_leader
    assert (terms_in(node.log), node.status.uncommitted_bytes) == ([1], 0)


# Who hears a leader ignores candidates.


def follower(**options: bool) -> RaftNode:
    node = RaftNode(RaftConfig(1, [2, 3], **options))  # type: ignore[arg-type]
    heartbeat(node, term=4, sender=3)
    return node


def test_who_hears_a_leader_does_not_even_answer_a_candidate() -> None:
    node = follower()
    before = node.status
    for _ in range(SHORTEST - 1):
        assert receive(node, RequestVote(9, 2, 99, 9)) == []
        assert node.status == before, "nor is its term adopted"
        step(node, Tick())


def test_after_the_shortest_timeout_it_does() -> None:
    node = follower()
    feed(node, *[Tick()] * (SHORTEST - 1))
    assert receive(node, RequestVote(9, 2, 99, 9)) == []
    step(node, Tick())
    assert reply_of(node, RequestVote(9, 2, 99, 9)) == RequestVoteReply(9, True, 1)


def test_each_word_of_the_leader_starts_that_over() -> None:
    node = follower()
    for _ in range(5):
        ticks(node, SHORTEST - 1)
        heartbeat(node, term=4, sender=3)
        assert receive(node, RequestVote(9, 2, 99, 9)) == []


def test_without_check_quorum_a_later_term_is_adopted_at_once() -> None:
    node = follower(check_quorum=False)
    assert reply_of(node, RequestVote(9, 2, 99, 9)) == RequestVoteReply(9, True, 1)


def test_a_candidate_of_this_term_or_an_earlier_one_is_refused_in_words() -> None:
    node = follower()
    for term in (3, 4):
        assert reply_of(node, RequestVote(term, 2, 99, 4)).vote_granted is (term == 4)


def test_a_candidate_that_a_leader_has_sent_is_heard() -> None:
    node = follower()
    assert reply_of(node, RequestVote(5, 2, 99, 9, force=True)) == RequestVoteReply(5, True, 1)


def test_who_knows_no_leader_hears_every_candidate() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    assert reply_of(node, RequestVote(1, 2, 0, 0)).vote_granted
    assert reply_of(node, RequestVote(2, 3, 0, 0)).vote_granted


def test_a_leader_ignores_candidates_for_as_long_as_it_leads() -> None:
    node = default_leader()
    for _ in range(LONGEST - 1):
        assert receive(node, RequestVote(9, 2, 99, 9)) == []
        step(node, Tick())
    assert (node.is_leader, node.term) == (True, 1)
    step(node, Tick())
    assert reply_of(node, RequestVote(9, 2, 99, 9)) == RequestVoteReply(9, True, 1)


def test_a_leader_hears_a_candidate_that_it_has_sent() -> None:
    node = default_leader()
    assert sent(receive(node, RequestVote(2, 2, 0, 0, True)), RequestVoteReply) == [
        RequestVoteReply(2, True, 1)
    ]
    assert not node.is_leader


def test_a_leader_still_learns_of_later_terms_by_everything_else() -> None:
    node = default_leader()
    receive(node, RequestVoteReply(9, False, 2))
    assert (node.role, node.term) == (Role.FOLLOWER, 9)


@pytest.mark.parametrize(
    "message",
    [AppendEntriesReply(9, False, 2, 0), ReadIndexRequest(9, 2, b"r"), InstallSnapshotReply(9, 2, 1, 0)],
)
def test_who_loses_its_leader_by_a_later_term_hears_candidates_at_once(message: Message) -> None:
    node = follower()
    receive(node, message)
    assert (node.term, node.leader) == (9, None)
    assert reply_of(node, RequestVote(10, 2, 99, 9)).vote_granted


def test_the_largest_term_is_dropped_not_ignored() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    assert receive(node, RequestVote(TOP, 2, 9, 9)) == []
    assert node.term == 0


# In a cluster.


def cluster(size: int = 3, **options: object) -> Cluster:
    logs: dict[int, RaftLog] = {node: log_of([]) for node in range(1, size + 1)}
    return Cluster(logs, **{"pre_vote": True, "check_quorum": True, **options})


def test_a_leader_that_is_cut_off_steps_down_before_or_soon_after_the_next_is_elected() -> None:
    nodes = cluster(5)
    nodes.elect(1)
    nodes.cut = {1}
    nodes.tick(count=LONGEST)
    assert not nodes.nodes[1].is_leader
    nodes.tick(count=100)
    assert sum(node.is_leader for node in nodes.nodes.values()) == 1


def test_a_removed_node_that_goes_on_campaigning_does_not_disturb() -> None:
    """Even without pre-vote: who hears a leader does not listen to it (thesis, section 4.2.3)."""
    nodes = cluster(3, pre_vote=False)
    nodes.elect(1)
    nodes.step(1, Propose(b"x"))
    nodes.settle()
    nodes.cut = {3}
    nodes.step(1, ChangeMembership([1, 2]))
    nodes.settle()
    nodes.cut = set()
    for _ in range(300):
        nodes.step(3, Tick())
        nodes.settle()
        nodes.step(1, Tick())
        nodes.step(2, Tick())
        nodes.settle()
    assert nodes.nodes[3].term > 5, "it campaigns and campaigns"
    assert (nodes.nodes[1].is_leader, nodes.nodes[1].term) == (True, 1)


def test_a_leader_that_hears_half_of_a_partition_heals_into_one_leader() -> None:
    """Cockroach #104042: 3 hears nobody, the leader hears 2; then the cuts change places."""
    nodes = cluster(3)
    nodes.elect(1)
    for cut in (3, 1, 2, 1, 3):
        nodes.cut = {cut}
        nodes.tick(count=3 * LONGEST)
        others = [id_ for id_ in (1, 2, 3) if id_ != cut]
        assert sum(nodes.nodes[id_].is_leader for id_ in others) == 1
        assert not nodes.nodes[cut].is_leader
    nodes.cut = set()
    nodes.tick(count=3 * LONGEST)
    term = max(node.term for node in nodes.nodes.values())
    nodes.tick(count=300)
    assert {node.term for node in nodes.nodes.values()} == {term}


def test_events_of_the_followers_keep_a_busy_leader() -> None:
    node = default_leader()
    for index in range(1, 5 * LONGEST):
        feed(node, Propose(b"x"), Receive(AppendEntriesReply(1, True, 2, index - 1)), Tick())
        drain(node)
    assert node.is_leader
