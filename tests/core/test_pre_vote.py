"""Pre-vote: who would win is asked before anybody is disturbed (thesis, section 9.6)."""

from __future__ import annotations

import pytest
from tests.support import (
    TOP,
    Cluster,
    TracingLog,
    ask,
    default_leader,
    drain,
    elect,
    feed,
    heartbeat,
    log_of,
    receive,
    reply_of,
    sent,
    settle,
    split,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    HardState,
    LogEntry,
    PreVote,
    PreVoteReply,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    Synced,
    Tick,
)

pytestmark = pytest.mark.core


def fixed(peers: tuple[int, ...] = (2, 3), terms: tuple[int, ...] = (), **options: bool) -> RaftNode:
    """A node whose timeout is 10 ticks."""
    config = RaftConfig(1, peers, **options).with_election_timeout(10, 10)  # type: ignore[arg-type]
    return RaftNode(config, log_of(terms))


def quiet(node: RaftNode, count: int) -> None:
    for tick in range(count):
        assert step(node, Tick()) == [], f"at tick {tick + 1}"


# Asking.


def test_who_times_out_asks_every_other_voter_and_changes_nothing() -> None:
    log = TracingLog([1, 2], HardState(3, 2))
    node = RaftNode(RaftConfig(1, [3, 2]).with_election_timeout(10, 10), log)
    quiet(node, 9)
    question = PreVote(4, 1, 2, 2)
    assert step(node, Tick()) == [Send(2, question), Send(3, question)]
    assert (node.role, node.term, node.leader) == (Role.FOLLOWER, 3, None)
    assert (log.calls, log.state) == ([], HardState(3, 2))


def test_who_asks_recognises_its_leader_no_more() -> None:
    node = fixed()
    heartbeat(node, sender=3)
    assert node.leader == 3
    ask(node)
    assert node.leader is None


def test_by_a_quorum_of_grants_it_campaigns() -> None:
    node = fixed((2, 3, 4, 5), (1, 1))
    ask(node)
    assert receive(node, PreVoteReply(2, True, 4)) == []
    assert (node.role, node.term) == (Role.FOLLOWER, 1)
    requests = sent(receive(node, PreVoteReply(2, True, 2)), RequestVote)
    assert requests == [RequestVote(2, 1, 2, 1)] * 4, "a campaign like any other"
    assert (node.role, node.term, node.log.hard_state()) == (Role.CANDIDATE, 2, HardState(2, 1))


def test_grants_are_counted_by_id_and_only_those_of_voters() -> None:
    node = fixed((2, 3, 4, 5))
    ask(node)
    for sender in (2, 2, 2, 6, 7):
        assert receive(node, PreVoteReply(1, True, sender)) == []
    assert node.role is Role.FOLLOWER
    assert node._state.granted == [1, 2], "strangers cost no memory"


@pytest.mark.parametrize("term", [1, 3, 99])
def test_a_grant_for_another_term_does_not_count(term: int) -> None:
    node = fixed(terms=(1,))
    ask(node)
    for sender in (2, 3):
        assert receive(node, PreVoteReply(term, True, sender)) == []
    assert (node.role, node.term) == (Role.FOLLOWER, 1), "nor is its term adopted"


def test_a_refusal_is_no_grant() -> None:
    node = fixed((2, 3, 4, 5))
    ask(node)
    for sender in (2, 3, 4, 5):
        assert receive(node, PreVoteReply(0, False, sender)) == []
    assert node.role is Role.FOLLOWER


def test_a_refusal_of_a_later_term_is_how_a_node_catches_up_with_the_terms() -> None:
    node = fixed()
    ask(node)
    receive(node, PreVoteReply(7, False, 2))
    assert (node.role, node.term, node.log.hard_state()) == (Role.FOLLOWER, 7, HardState(7))
    assert sent(ask(node), PreVote) == [PreVote(8, 1, 0, 0)] * 2
    receive(node, PreVoteReply(1, True, 3))
    receive(node, PreVoteReply(1, True, 2))
    assert node.term == 7, "and the grants for what it asked before are void"


def test_without_an_answer_it_asks_again_after_another_timeout() -> None:
    node = fixed()
    for _ in range(5):
        quiet(node, 9)
        assert sent(step(node, Tick()), PreVote) == [PreVote(1, 1, 0, 0)] * 2
    assert node.term == 0, "however often it asked"


def test_grants_of_an_earlier_question_for_the_same_term_count() -> None:
    """They say the same: the voter would vote in that term."""
    node = fixed((2, 3, 4, 5))
    ask(node)
    receive(node, PreVoteReply(1, True, 2))
    quiet(node, 9)
    step(node, Tick())
    receive(node, PreVoteReply(1, True, 3))
    assert node.term == 0, "what was granted is counted anew"
    receive(node, PreVoteReply(1, True, 2))
    assert (node.role, node.term) == (Role.CANDIDATE, 1)


def test_a_campaign_that_fails_is_followed_by_a_question() -> None:
    node = fixed()
    ask(node)
    receive(node, PreVoteReply(1, True, 2))
    assert node.role is Role.CANDIDATE
    quiet(node, 9)
    assert sent(step(node, Tick()), PreVote) == [PreVote(2, 1, 0, 0)] * 2
    assert (node.role, node.term) == (Role.FOLLOWER, 1)
    receive(node, RequestVoteReply(1, True, 3))
    assert not node.is_leader, "the votes of that campaign count no more"


def test_alone_a_node_need_not_ask() -> None:
    node = fixed(())
    quiet(node, 9)
    assert step(node, Tick()) == []
    assert (node.is_leader, node.term) == (True, 1)


def test_word_from_a_leader_ends_the_question() -> None:
    node = fixed()
    ask(node)
    heartbeat(node, term=1, sender=3)
    for sender in (2, 3):
        assert receive(node, PreVoteReply(1, True, sender)) == []
        assert receive(node, PreVoteReply(2, True, sender)) == []
    assert (node.role, node.term, node.leader) == (Role.FOLLOWER, 1, 3)


def test_a_question_that_was_overtaken_is_not_sent() -> None:
    node = fixed()
    feed(node, *[Tick()] * 10, Receive(AppendEntries(1, 2, 0, 0, (), 0)))
    assert sent(drain(node), PreVote) == []


def test_a_node_that_was_suspended_asks_once() -> None:
    node = fixed()
    feed(node, *[Tick()] * 1000)
    assert sent(drain(node), PreVote) == [PreVote(1, 1, 0, 0)] * 2
    quiet(node, 9)
    assert len(sent(step(node, Tick()), PreVote)) == 2


def test_who_does_not_ask_campaigns_at_once() -> None:
    node = fixed(pre_vote=False)
    quiet(node, 9)
    assert sent(step(node, Tick()), RequestVote) == [RequestVote(1, 1, 0, 0)] * 2


@pytest.mark.parametrize("term", [TOP - 1, TOP - 2])
def test_nobody_asks_for_a_term_that_must_not_be(term: int) -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), log_of([], term=term))
    asked = [m for _ in range(60) for m in sent(step(node, Tick()), PreVote)]
    assert (asked == []) is (term == TOP - 1)


def test_timeouts_are_drawn_anew_for_each_question() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]).with_election_timeout(3, 6))
    waits = []
    for _ in range(60):
        count = 1
        while not sent(step(node, Tick()), PreVote):
            count += 1
        waits.append(count)
    assert set(waits) == {3, 4, 5, 6}


# Answering.


def test_a_grant_echoes_the_term_and_changes_nothing() -> None:
    node = fixed(terms=(1, 2))
    quiet(node, 9)
    for candidate in (2, 3, 2):
        assert receive(node, PreVote(9, candidate, 2, 2)) == [Send(candidate, PreVoteReply(9, True, 1))]
    assert (node.term, node.status.voted_for, node.log.hard_state()) == (2, None, HardState(2))
    assert len(sent(step(node, Tick()), PreVote)) == 2, "and its own timeout runs on"


@pytest.mark.parametrize(
    ("index", "term", "granted"),
    [(3, 4, True), (4, 4, True), (1, 5, True), (2, 4, False), (9, 3, False), (0, 0, False)],
)
def test_the_log_must_be_as_up_to_date(index: int, term: int, granted: bool) -> None:
    node = fixed(terms=(1, 4, 4))
    assert reply_of(node, PreVote(9, 2, index, term)) == PreVoteReply(9 if granted else 4, granted, 1)


@pytest.mark.parametrize("term", [1, 4, 5])
def test_a_term_that_is_not_later_is_refused_with_the_responders_own(term: int) -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), log_of([], term=5))
    assert reply_of(node, PreVote(term, 2, 9, 9)) == PreVoteReply(5, False, 1)


@pytest.mark.parametrize("check_quorum", [False, True])
def test_it_is_refused_while_a_leader_is_heard(check_quorum: bool) -> None:
    node = fixed(check_quorum=check_quorum)
    heartbeat(node, sender=3)
    for _ in range(10):
        assert reply_of(node, PreVote(2, 2, 9, 9)) == PreVoteReply(1, False, 1)
        step(node, Tick())
    assert reply_of(node, PreVote(2, 2, 9, 9)) == PreVoteReply(2, True, 1)


@pytest.mark.parametrize("check_quorum", [False, True])
def test_a_leader_refuses(check_quorum: bool) -> None:
    node = default_leader(check_quorum=check_quorum)
    for _ in range(15):
        assert sent(receive(node, PreVote(9, 2, 99, 9)), PreVoteReply) == [PreVoteReply(1, False, 1)]
        step(node, Tick())
    assert node.is_leader


def test_who_asks_itself_grants_others() -> None:
    node = fixed()
    ask(node)
    assert reply_of(node, PreVote(1, 2, 0, 0)) == PreVoteReply(1, True, 1)


def test_a_candidate_grants_later_terms_only() -> None:
    node = fixed()
    ask(node)
    receive(node, PreVoteReply(1, True, 2))
    assert node.role is Role.CANDIDATE
    assert reply_of(node, PreVote(1, 3, 0, 0)) == PreVoteReply(1, False, 1)
    assert reply_of(node, PreVote(2, 3, 0, 0)) == PreVoteReply(2, True, 1)


def test_who_does_not_ask_answers_all_the_same() -> None:
    node = fixed(pre_vote=False)
    assert reply_of(node, PreVote(1, 2, 0, 0)) == PreVoteReply(1, True, 1)


def test_who_voted_in_this_term_would_vote_in_the_next() -> None:
    node = fixed()
    receive(node, RequestVote(1, 3, 0, 0))
    assert reply_of(node, PreVote(1, 2, 0, 0)) == PreVoteReply(1, False, 1)
    assert reply_of(node, PreVote(2, 2, 0, 0)) == PreVoteReply(2, True, 1)


@pytest.mark.parametrize(
    "message",
    [PreVote(TOP, 2, 9, 9), PreVote(1, 1, 0, 0), PreVoteReply(TOP, False, 2), PreVoteReply(9, False, 1)],
)
def test_what_no_correct_peer_sends_is_dropped(message: PreVote | PreVoteReply) -> None:
    node = fixed()
    ask(node)
    before = node.status
    assert receive(node, message) == []
    assert node.status == before


def test_grants_that_come_to_who_did_not_ask_are_dropped() -> None:
    for node in (fixed(), default_leader()):
        before = node.status
        for sender in (2, 3):
            assert receive(node, PreVoteReply(node.term + 1, True, sender)) == []
        assert node.status == before


# Durability.


def test_a_question_needs_nothing_on_disk() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]).with_election_timeout(10, 10), deferred_sync=True)
    feed(node, *[Tick()] * 10)
    expected: list[Action] = [Send(2, PreVote(1, 1, 0, 0)), Send(3, PreVote(1, 1, 0, 0))]
    assert drain(node) == expected


def test_in_a_term_that_is_not_durable_neither_question_nor_answer_goes_out_early() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]).with_election_timeout(10, 10), deferred_sync=True)
    feed(node, Receive(PreVoteReply(5, False, 2)))
    drain(node)
    feed(node, *[Tick()] * 10, Receive(PreVote(6, 3, 0, 0)))
    before, ticket, after = split(drain(node))
    assert (before, ticket > 0) == ([], True)
    assert sent(after, PreVote) == [PreVote(6, 1, 0, 0)] * 2
    assert sent(after, PreVoteReply) == [PreVoteReply(6, True, 1)]


def test_a_campaign_by_pre_votes_waits_for_its_own_vote_as_any() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]).with_election_timeout(10, 10), deferred_sync=True)
    feed(node, *[Tick()] * 10, Receive(PreVoteReply(1, True, 2)))
    before, ticket, after = split(drain(node))
    assert (before, len(sent(after, RequestVote))) == ([], 2)
    feed(node, Receive(RequestVoteReply(1, True, 2)))
    assert node.role is Role.CANDIDATE
    feed(node, Synced(ticket))
    assert node.is_leader


def hanging() -> RaftNode:
    """A follower with a sync that never ends."""
    node = RaftNode(RaftConfig(1, [2, 3]).with_election_timeout(10, 20), deferred_sync=True)
    feed(node, Receive(AppendEntries(1, 2, 0, 0, [LogEntry(1, 1)], 0)))
    drain(node)
    return node


def test_nobody_asks_while_the_disk_hangs() -> None:
    node = hanging()
    for _ in range(21):
        heartbeat(node)
        feed(node, Tick())
    drain(node)
    for _ in range(100):
        feed(node, Tick())
        assert drain(node) == []


def test_pre_votes_that_come_once_the_disk_hangs_start_no_campaign() -> None:
    node = hanging()
    while not node._state.prevoting:
        feed(node, Tick())
    feed(node, *[Tick()] * 30)
    drain(node)
    feed(node, *[Tick()] * 5, Receive(PreVoteReply(2, True, 2)), Receive(PreVoteReply(2, True, 3)))
    assert (node.role, node.term) == (Role.FOLLOWER, 1)


# In a cluster: nobody stalls it, nobody disturbs it.


def cluster(*terms: list[int], **options: object) -> Cluster:
    newest = max(log[-1] if log else 0 for log in terms)
    logs: dict[int, RaftLog] = {id_: log_of(log, newest) for id_, log in enumerate(terms, start=1)}
    return Cluster(logs, **{"pre_vote": True, "check_quorum": True, **options})


def leaders(nodes: Cluster) -> list[int]:
    return [id_ for id_, node in nodes.nodes.items() if node.is_leader]


def test_a_node_that_was_cut_off_does_not_disturb_when_it_comes_back() -> None:
    nodes = cluster([], [], [])
    nodes.elect(1)
    nodes.cut = {3}
    nodes.tick(count=300)
    assert nodes.nodes[3].term == nodes.nodes[1].term, "it never entered another term"
    nodes.cut = set()
    nodes.tick(count=60)
    assert leaders(nodes) == [1]
    assert {node.term for node in nodes.nodes.values()} == {1}


def test_a_deaf_node_does_not_disturb() -> None:
    nodes = cluster([], [], [])
    nodes.elect(1)
    for _ in range(200):
        for id_ in (1, 2, 3):
            nodes.step(id_, Tick())
        while nodes.queue:
            batch, nodes.queue = nodes.queue, []
            for to, message in batch:
                if to != 3:
                    nodes.step(to, Receive(message))
    assert leaders(nodes) == [1]
    assert nodes.nodes[1].term == 1


@pytest.mark.parametrize("check_quorum", [False, True])
def test_a_node_of_a_later_term_with_a_shorter_log_stalls_nobody(check_quorum: bool) -> None:
    """etcd #8501: it must neither win nor be stuck in its term for ever."""
    nodes = cluster([1, 1], [1, 1], [1], check_quorum=check_quorum)
    nodes.nodes[3] = RaftNode(
        RaftConfig(3, [1, 2], check_quorum=check_quorum), log_of([1], term=40), applied=0
    )
    nodes.elect(1)
    nodes.tick(count=200)
    (leader,) = leaders(nodes)
    assert leader in (1, 2)
    assert {node.term for node in nodes.nodes.values()} == {nodes.nodes[leader].term}
    nodes.step(leader, Propose(b"x"))
    nodes.settle()
    nodes.tick(count=6)
    assert nodes.applied[3] == nodes.applied[leader]


def test_a_node_whose_term_is_behind_with_the_longest_log_is_elected() -> None:
    """etcd #8243: of the two that are up one has a later term, and only the other can win."""
    nodes = cluster([3, 3], [3], [3])
    nodes.nodes[2] = RaftNode(RaftConfig(2, [1, 3]), log_of([3], term=9))
    nodes.cut = {3}
    nodes.tick(count=200)
    assert leaders(nodes) == [1]
    assert nodes.nodes[1].term == nodes.nodes[2].term > 9


def test_a_cluster_with_and_without_pre_vote_elects() -> None:
    nodes = cluster([], [], [])
    nodes.nodes[2] = RaftNode(RaftConfig(2, [1, 3], pre_vote=False), log_of([]))
    nodes.tick(count=200)
    assert len(leaders(nodes)) == 1


def test_a_cluster_that_lost_its_leader_has_a_new_one() -> None:
    nodes = cluster([], [], [])
    nodes.elect(1)
    nodes.cut = {1}
    nodes.tick(2, 3, count=100)
    assert [id_ for id_ in leaders(nodes) if id_ != 1] != []
    nodes.cut = set()
    nodes.tick(count=100)
    assert len(leaders(nodes)) == 1


def test_a_deposed_leader_learns_the_later_term_by_the_answer_to_its_own_message() -> None:
    old = default_leader()
    voter = RaftNode(RaftConfig(2, [1, 3]), log_of([], term=6))
    answer = reply_of(voter, AppendEntries(1, 1, 0, 0, (), 0))
    assert answer == AppendEntriesReply(6, False, 2, 0)
    receive(old, answer)
    assert (old.role, old.term) == (Role.FOLLOWER, 6)


def test_elections_go_on_working_over_a_restart_while_asking() -> None:
    node = fixed(terms=(1,))
    ask(node)
    again = RaftNode(RaftConfig(1, [2, 3]), node.log)
    assert (again.role, again.term, again._state.prevoting) == (Role.FOLLOWER, 1, False)
    elect(again)
    assert settle(again, []) == []
