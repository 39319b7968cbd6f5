"""Reads from followers: what they ask, what a leader answers, and when they give up (thesis, section 6.4)."""

from __future__ import annotations

import pytest
from tests.support import (
    ack,
    applied,
    ask,
    campaign,
    caught_up_leader,
    default_leader,
    drain,
    entries_of,
    feed,
    heartbeat,
    leader,
    log_of,
    only,
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
    Apply,
    NotLeaderError,
    PreVoteReply,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadFailed,
    ReadIndex,
    ReadIndexReply,
    ReadIndexRequest,
    ReadReady,
    Receive,
    RequestVoteReply,
    Role,
    Send,
    Synced,
    Tick,
)
from raft_io.core import reads

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


# From a follower.


def follower(log: RaftLog | None = None, **options: int) -> RaftNode:
    """Follows 2 in term 4."""
    node = RaftNode(RaftConfig(1, [2, 3]).replace(**options), log_of([1, 1, 4]) if log is None else log)
    heartbeat(node, term=4, sender=2, prev=(3, 4))
    return node


def test_a_follower_asks_the_leader() -> None:
    node = follower()
    assert step(node, ReadIndex(b"r")) == [Send(2, ReadIndexRequest(4, 1, b"r"))]


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE])
def test_who_knows_no_leader_cannot_ask(role: Role) -> None:
    node = RaftNode(RaftConfig(1, [2, 3]))
    if role is Role.CANDIDATE:
        campaign(node)
    with pytest.raises(NotLeaderError) as caught:
        node.feed(ReadIndex(b"r"))
    assert caught.value.leader is None
    assert not node.pending


def test_who_asks_for_pre_votes_knows_no_leader() -> None:
    node = follower()
    ask(node)
    with pytest.raises(NotLeaderError):
        node.feed(ReadIndex(b"r"))


def test_the_leaders_answer_is_served_once_all_through_its_index_was_handed_out() -> None:
    node = follower()
    step(node, ReadIndex(b"r"))
    assert receive(node, ReadIndexReply(4, b"r", 2)) == []
    actions = heartbeat(node, term=4, sender=2, prev=(3, 4), commit=1)
    assert (applied(actions), served(actions)) == ([1], [])
    actions = heartbeat(node, term=4, sender=2, prev=(3, 4), commit=3)
    assert (applied(actions), only(actions, ReadReady)) == ([2, 3], [ReadReady(b"r", 2)])


def test_what_was_applied_before_is_served_at_once() -> None:
    node = follower()
    heartbeat(node, term=4, sender=2, prev=(3, 4), commit=3)
    step(node, ReadIndex(b"r"))
    assert receive(node, ReadIndexReply(4, b"r", 2)) == [ReadReady(b"r", 2)]


@pytest.mark.parametrize(
    "message",
    [ReadIndexReply(3, b"r", 0), ReadIndexReply(4, b"other", 0), ReadIndexReply(4, b"", 0)],
    ids=repr,
)
def test_another_answer_serves_nothing(message: ReadIndexReply) -> None:
    node = follower()
    step(node, ReadIndex(b"r"))
    assert receive(node, message) == []
    assert served(receive(node, ReadIndexReply(4, b"r", 0))) == [b"r"]


def test_an_answer_that_comes_twice_serves_once() -> None:
    node = follower()
    step(node, ReadIndex(b"r"))
    assert served(receive(node, ReadIndexReply(4, b"r", 0))) == [b"r"]
    assert receive(node, ReadIndexReply(4, b"r", 0)) == []


def test_an_answer_of_a_later_term_is_no_answer_to_what_was_asked() -> None:
    node = follower()
    step(node, ReadIndex(b"r"))
    assert receive(node, ReadIndexReply(5, b"r", 0)) == [ReadFailed(b"r")]
    assert node.term == 5


def test_without_an_answer_it_fails_after_the_longest_timeout() -> None:
    node = follower()
    step(node, ReadIndex(b"one"))
    heartbeat(node, term=4, sender=2, prev=(3, 4))
    step(node, Tick())
    step(node, ReadIndex(b"two"))
    seen = []
    for _ in range(LONGEST + 2):
        heartbeat(node, term=4, sender=2, prev=(3, 4))
        seen.append(failed(step(node, Tick())))
    assert seen == [[]] * (LONGEST - 1) + [[b"one"], [b"two"], []]
    assert receive(node, ReadIndexReply(4, b"one", 0)) == [], "a reply that comes after that is ignored"


def test_a_change_of_leader_fails_what_the_old_one_was_asked() -> None:
    node = follower()
    step(node, ReadIndex(b"r"))
    assert failed(heartbeat(node, term=5, sender=3, prev=(3, 4))) == [b"r"]


def test_a_later_term_of_the_same_leader_fails_it_as_well() -> None:
    node = follower()
    step(node, ReadIndex(b"r"))
    assert failed(heartbeat(node, term=5, sender=2, prev=(3, 4))) == [b"r"]


def test_losing_the_leader_fails_it() -> None:
    node = follower()
    feed(node, *[Tick()] * 5, ReadIndex(b"r"))
    drain(node)
    actions = ask(node)
    assert failed(actions) == [b"r"]
    node = follower(pre_vote=False)
    step(node, ReadIndex(b"r"))
    assert failed(campaign(node)) == [b"r"]


def test_a_later_term_without_a_leader_fails_it() -> None:
    node = follower()
    step(node, ReadIndex(b"r"))
    assert failed(receive(node, PreVoteReply(9, False, 3))) == [b"r"]


def test_a_confirmed_read_is_served_whoever_leads_by_then() -> None:
    """What was confirmed stays true: it only waits for entries that are committed anyway."""
    node = follower()
    step(node, ReadIndex(b"r"))
    receive(node, ReadIndexReply(4, b"r", 3))
    heartbeat(node, term=6, sender=3, prev=(3, 4))
    assert served(heartbeat(node, term=6, sender=3, prev=(3, 4), commit=3)) == [b"r"]


def test_deferred_it_waits_until_what_it_needs_is_durable_here() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), log_of([1]), deferred_sync=True)
    feed(node, Receive(AppendEntries(1, 2, 1, 1, entries_of([1], first=2), 2)))
    _, ticket, _ = split(drain(node))
    feed(node, ReadIndex(b"r"), Receive(ReadIndexReply(1, b"r", 2)))
    before, again, after = split(drain(node))
    assert sent(before, ReadIndexRequest) != []
    assert (served(before), again, after) == ([], 0, [])
    feed(node, Synced(ticket))
    assert drain(node) == [Apply(2, 1, b"1.2"), ReadReady(b"r", 2)]


# What followers ask of a leader.


def test_a_leader_tells_a_follower_the_index_and_keeps_the_data() -> None:
    node = caught_up_leader()
    step(node, Propose(b"x"))
    ack(node, 2, 1)
    assert rounds(receive(node, ReadIndexRequest(1, 3, b"r"))) == [1, 1]
    actions = answer(node, 2, 1, 1)
    assert sent_to(actions, 3) == [ReadIndexReply(1, b"r", 1)]
    assert served(actions) == []


def test_followers_and_the_leader_share_a_round() -> None:
    node = default_leader()
    feed(node, Receive(ReadIndexRequest(1, 2, b"a")), Receive(ReadIndexRequest(1, 3, b"a")), ReadIndex(b"a"))
    assert rounds(drain(node)) == [1, 1]
    actions = answer(node, 3, 1)
    assert served(actions) == [b"a"], "contexts of different nodes do not mix"
    assert sent_to(actions, 2) == sent_to(actions, 3) == [ReadIndexReply(1, b"a", 0)]


def test_a_learner_may_ask() -> None:
    node = default_leader()
    receive(node, ReadIndexRequest(1, 9, b"r"))
    assert sent_to(answer(node, 2, 1), 9) == [ReadIndexReply(1, b"r", 0)]


@pytest.mark.parametrize("term", [1, 4])
def test_only_a_leader_of_that_term_answers(term: int) -> None:
    node = follower()
    assert receive(node, ReadIndexRequest(term, 3, b"r")) == []
    old = default_leader(log=log_of([1, 1]))
    assert receive(old, ReadIndexRequest(1, 3, b"r")) == []


def test_a_leader_that_steps_down_leaves_followers_reads_to_them() -> None:
    node = default_leader()
    receive(node, ReadIndexRequest(1, 3, b"r"))
    assert receive(node, RequestVoteReply(5, False, 2)) == []


def test_a_followers_read_that_no_quorum_confirms_is_forgotten() -> None:
    node = leader()
    receive(node, ReadIndexRequest(1, 3, b"r"))
    for _ in range(LONGEST + 1):
        assert failed(step(node, Tick())) == []
    assert node._state.reads == []


def test_followers_cannot_fill_a_leaders_memory() -> None:
    node = default_leader()
    for number in range(reads.MAX_FORWARDED + 50):
        node.feed(Receive(ReadIndexRequest(1, 2, b"%d" % number)))
    assert len(node._state.reads) == reads.MAX_FORWARDED
    node.feed(ReadIndex(b"own"))
    drain(node)
    assert served(answer(node, 3, 1)) == [b"own"], "its own are its caller's business"
