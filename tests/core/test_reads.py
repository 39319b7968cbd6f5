"""Linearizable reads by a round of heartbeats (thesis, section 6.4), at the leader and in a cluster."""

from __future__ import annotations

import pytest
from tests.support import (
    Cluster,
    ack,
    applied,
    caught_up_leader,
    default_leader,
    drain,
    elect,
    feed,
    leader,
    log_of,
    only,
    receive,
    sent,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    ChangeMembership,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadFailed,
    ReadIndex,
    ReadReady,
    Receive,
    RequestVoteReply,
    Tick,
)

pytestmark = pytest.mark.core

LONGEST = RaftConfig(1).election_timeout[1]


def answer(node: RaftNode, sender: int, round_: int, match: int = 0, success: bool = True) -> list[Action]:
    return receive(node, AppendEntriesReply(node.term, success, sender, match, 0, 0, round_))


def rounds(actions: list[Action]) -> list[int]:
    return [message.round for message in sent(actions, AppendEntries)]


def served(actions: list[Action]) -> list[bytes]:
    return [action.context for action in only(actions, ReadReady)]


def failed(actions: list[Action]) -> list[bytes]:
    return [action.context for action in only(actions, ReadFailed)]


# At the leader.


def test_a_read_begins_a_round_and_is_served_once_a_quorum_has_answered_it() -> None:
    node = default_leader((2, 3, 4, 5))
    actions = step(node, ReadIndex(b"r"))
    assert rounds(actions) == [1, 1, 1, 1]
    assert served(actions) == []
    assert served(answer(node, 4, 1)) == []
    assert only(answer(node, 2, 1), ReadReady) == [ReadReady(b"r", 0)]
    assert served(answer(node, 3, 1)) == [], "once"


def test_a_leader_alone_serves_it_at_once() -> None:
    node = default_leader(())
    step(node, Propose(b"x"))
    assert step(node, ReadIndex(b"r")) == [ReadReady(b"r", 1)]


def test_no_entry_is_written_for_a_read() -> None:
    node = default_leader()
    step(node, ReadIndex(b"r"))
    answer(node, 2, 1)
    assert node.log.last_index() == 0


def test_reads_that_come_together_share_a_round() -> None:
    node = default_leader()
    feed(node, *[ReadIndex(b"%d" % number) for number in range(100)])
    assert rounds(drain(node)) == [1, 1]
    assert len(served(answer(node, 2, 1))) == 100


def test_a_round_that_began_before_the_request_does_not_confirm_it() -> None:
    node = default_leader()
    step(node, ReadIndex(b"one"))
    assert rounds(step(node, ReadIndex(b"two"))) == [2, 2]
    assert served(answer(node, 2, 1)) == [b"one"]
    assert served(answer(node, 3, 1)) == []
    assert served(answer(node, 3, 2)) == [b"two"]


def test_an_answer_to_a_later_round_confirms_the_earlier_ones_too() -> None:
    node = default_leader()
    for context in (b"one", b"two", b"three"):
        step(node, ReadIndex(context))
    assert served(answer(node, 2, 2)) == [b"one", b"two"]
    assert served(answer(node, 2, 3)) == [b"three"]


def test_a_reply_without_a_round_confirms_nothing() -> None:
    node = default_leader()
    step(node, ReadIndex(b"r"))
    for _ in range(5):
        assert served(ack(node, 2, 0) + ack(node, 3, 0)) == []


def test_a_round_that_never_began_confirms_nothing() -> None:
    node = default_leader()
    step(node, ReadIndex(b"r"))
    for round_ in (2, 2**63 - 1):
        assert served(answer(node, 2, round_)) == []
    assert served(answer(node, 2, 1)) == [b"r"]


def test_a_refusal_in_this_term_confirms_as_well_as_a_success() -> None:
    """Whoever refuses for its log's sake still follows this leader."""
    node = default_leader()
    step(node, ReadIndex(b"r"))
    assert served(answer(node, 2, 1, success=False)) == [b"r"]


def test_who_is_no_voter_confirms_nothing() -> None:
    node = default_leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 2, 3], [4]))
    step(node, ReadIndex(b"r"))
    for stranger in (4, 9):
        assert served(answer(node, stranger, 1)) == []
    assert served(answer(node, 3, 1)) == [b"r"]


def test_an_answer_of_another_term_confirms_nothing() -> None:
    node = default_leader(log=log_of([1, 1]))
    ack(node, 2, 3)
    step(node, ReadIndex(b"r"))
    assert served(receive(node, AppendEntriesReply(1, True, 2, 3, 0, 0, 1))) == []
    assert served(answer(node, 2, 1, 3)) == [b"r"]


def test_while_joint_both_majorities_must_confirm() -> None:
    node = default_leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 4, 5]))
    step(node, ReadIndex(b"r"))
    assert served(answer(node, 4, 1)) == []
    assert served(answer(node, 5, 1)) == []
    assert served(answer(node, 2, 1)) == [b"r"]


def test_a_leader_on_its_way_out_does_not_count_itself() -> None:
    node = default_leader((2, 3, 4))
    step(node, Propose(b"x"))
    for peer in (2, 3):
        ack(node, peer, 1)
    step(node, ChangeMembership([2, 3, 4]))
    step(node, ReadIndex(b"r"))
    assert served(answer(node, 2, 1, 1)) == []
    assert served(answer(node, 3, 1, 1)) == [b"r"]


def test_the_index_is_what_was_committed_when_it_was_asked_for() -> None:
    node = caught_up_leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    step(node, Propose(b"y"))
    step(node, ReadIndex(b"r"))
    assert only(answer(node, 3, 1, 1), ReadReady) == [ReadReady(b"r", 1)], "y was acknowledged to nobody yet"


def test_it_is_served_after_all_of_that_was_handed_out() -> None:
    node = RaftNode(RaftConfig(1, [2, 3], max_apply_bytes=1, check_quorum=False))
    elect(node)
    feed(node, *[Propose(b"x")] * 3)
    drain(node)
    feed(node, Receive(AppendEntriesReply(1, True, 2, 3)), ReadIndex(b"r"))
    assert applied(drain(node)) == [1]
    feed(node, Receive(AppendEntriesReply(1, True, 3, 3, 0, 0, 1)))
    actions = drain(node)
    assert (applied(actions), served(actions)) == ([2], [])
    assert node.pending
    actions = drain(node)
    assert actions[-2:] == [Apply(3, 1, b"x"), ReadReady(b"r", 3)]
    assert not node.pending


def test_before_what_it_was_elected_with_is_committed_a_leader_answers_no_read() -> None:
    node = default_leader(log=log_of([1, 1]))
    step(node, ReadIndex(b"r"))
    assert served(answer(node, 2, 1, 2)) == [], "the NOOP is missing"
    assert only(answer(node, 2, 1, 3), ReadReady) == [ReadReady(b"r", 3)]


def test_a_leader_that_knows_all_of_it_to_be_committed_needs_no_entry_of_its_own() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), log_of([1, 1]), applied=2)
    elect(node)
    step(node, ReadIndex(b"r"))
    assert only(answer(node, 2, 1, 2), ReadReady) == [ReadReady(b"r", 2)]
    assert node.log.last_index() == 2


def test_a_read_travels_with_entries() -> None:
    node = caught_up_leader()
    feed(node, Propose(b"x"), ReadIndex(b"r"))
    messages = sent(drain(node), AppendEntries)
    assert [(len(message.entries), message.round) for message in messages] == [(1, 1), (1, 1)]


def test_heartbeats_tell_no_round_where_nobody_waits_for_one() -> None:
    node = leader()
    assert [rounds(step(node, Tick())) for _ in range(3)] == [[], [], [0, 0]]
    step(node, ReadIndex(b"r"))
    assert [rounds(step(node, Tick())) for _ in range(3)] == [[], [], [1, 1]], "a lost round is repeated"
    answer(node, 2, 1)
    assert [rounds(step(node, Tick())) for _ in range(3)] == [[], [], [0, 0]]


# A read that fails.


def test_a_leader_that_steps_down_fails_its_reads() -> None:
    node = default_leader()
    for context in (b"one", b"two"):
        step(node, ReadIndex(context))
    actions = receive(node, RequestVoteReply(5, False, 2))
    assert actions == [ReadFailed(b"one"), ReadFailed(b"two")]
    assert served(receive(node, AppendEntriesReply(1, True, 2, 0, 0, 0, 2))) == []


def test_a_leader_that_hears_from_no_quorum_fails_its_reads() -> None:
    node = default_leader()
    step(node, ReadIndex(b"r"))
    actions = [action for _ in range(LONGEST) for action in step(node, Tick())]
    assert failed(actions) == [b"r"]
    assert not node.is_leader


def test_a_read_that_no_quorum_confirms_fails_after_the_longest_timeout() -> None:
    node = leader()
    step(node, ReadIndex(b"one"))
    step(node, Tick())
    step(node, ReadIndex(b"two"))
    seen = [failed(step(node, Tick())) for _ in range(LONGEST + 2)]
    assert seen == [[]] * (LONGEST - 1) + [[b"one"], [b"two"], []]
    assert node.is_leader
    assert served(answer(node, 2, 2)) == [], "the answer comes too late"


def test_every_read_comes_back_just_once() -> None:
    node = leader()
    feed(node, ReadIndex(b"a"), ReadIndex(b"b"))
    drain(node)
    back = served(answer(node, 2, 1))
    step(node, ReadIndex(b"c"))
    for _ in range(3 * LONGEST):
        back += failed(step(node, Tick()))
    back += served(answer(node, 3, 2))
    assert back == [b"a", b"b", b"c"]


# In a cluster.


def cluster(size: int = 3) -> Cluster:
    logs: dict[int, RaftLog] = {node: log_of([]) for node in range(1, size + 1)}
    nodes = Cluster(logs, pre_vote=True, check_quorum=True)
    nodes.elect(1)
    return nodes


def test_any_node_reads_what_was_acknowledged_before() -> None:
    nodes = cluster()
    for number in range(3):
        nodes.step(1, Propose(b"x"))
        nodes.settle()
        assert len(nodes.applied[1]) == number + 1, "acknowledged"
        for at in (3, 2, 1):
            nodes.step(at, ReadIndex(b"%d" % number))
            nodes.settle()
            assert nodes.reads[at][-1] == (b"%d" % number, number + 1)
            assert len(nodes.applied[at]) == number + 1


def test_a_leader_that_was_replaced_and_does_not_know_it_serves_no_read() -> None:
    nodes = cluster()
    nodes.step(1, Propose(b"old"))
    nodes.settle()
    nodes.cut = {1}
    nodes.tick(2, 3, count=4 * LONGEST)
    (new,) = [id_ for id_ in (2, 3) if nodes.nodes[id_].is_leader]
    nodes.step(new, Propose(b"new"))
    nodes.settle()
    assert nodes.applied[new] == [(1, b"old"), (2, b"new")]
    assert nodes.nodes[1].is_leader, "it has not noticed"
    nodes.step(1, ReadIndex(b"stale"))
    nodes.settle()
    nodes.cut = set()
    nodes.tick(count=LONGEST)
    assert nodes.reads[1] == []
    assert nodes.failed_reads[1] == [b"stale"]
