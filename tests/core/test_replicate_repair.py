"""The leader's side when something is wrong: silence, loss, and the repair of a log that diverged."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import (
    TOP,
    Cluster,
    ack,
    caught_up_leader,
    leader,
    log_of,
    paper,
    receive,
    sent_to,
    step,
    terms_in,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    Message,
    Propose,
    RaftConfig,
    RaftNode,
    Receive,
    Send,
    Tick,
)

pytestmark = pytest.mark.core


def refuse(node: RaftNode, sender: int, index: int, term: int = 0) -> list[Message]:
    """`sender` refuses with this hint; what it is sent in return."""
    return sent_to(receive(node, AppendEntriesReply(node.term, False, sender, 0, index, term)), sender)


# Silence.


def ticks(node: RaftNode, count: int) -> list[Message]:
    """What so many ticks send to follower 3."""
    return [message for _ in range(count) for message in sent_to(step(node, Tick()), 3)]


@pytest.mark.parametrize("known", [False, True])
def test_a_silent_follower_costs_a_window_of_messages_and_heartbeats(known: bool) -> None:
    node = (caught_up_leader if known else leader)(max_inflight=5)
    with_entries = 0
    for index in range(1, 200):
        actions = step(node, Propose(b"x")) + ack(node, 2, index)
        with_entries += sum(len(m.entries) > 0 for m in sent_to(actions, 3) if isinstance(m, AppendEntries))
    assert node.commit_index == 199
    assert with_entries == (5 if known else 1)
    beats = ticks(node, 300)
    assert len(beats) == 100
    assert all(isinstance(m, AppendEntries) and not m.entries for m in beats)


def test_a_silent_follower_costs_no_growing_memory() -> None:
    node = caught_up_leader(max_inflight=5)
    index = 0

    def round_() -> None:
        nonlocal index
        index += 1
        step(node, Propose(b"x"))
        ack(node, 2, index)
        step(node, Tick())

    for _ in range(100):
        round_()
    log = node.log
    kept = len(log.entries(1, index))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(500):
            round_()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(log.entries(1, index)) == kept + 500
    assert grown < 500 * 400, "the log's own entries and little else"
    assert node.status.followers[1].inflight == 5


# Loss, and recovery by heartbeats alone.


def three(**options: int) -> Cluster:
    cluster = Cluster({1: log_of([]), 2: log_of([]), 3: log_of([])}, **options)
    cluster.elect(1)
    return cluster


def converge(cluster: Cluster, heartbeats: int = 6) -> None:
    """Within so many heartbeats all have the leader's log and have applied it."""
    cluster.tick(1, count=heartbeats * RaftConfig(1).heartbeat_interval)
    logs = [terms_in(node.log) for node in cluster.nodes.values()]
    assert logs[0] == logs[1] == logs[2]
    assert cluster.applied[1] == cluster.applied[2] == cluster.applied[3]
    assert cluster.nodes[1].last_applied == cluster.nodes[1].log.last_index()


@pytest.mark.parametrize("lost", ["entries", "acknowledgements", "both"])
@pytest.mark.parametrize("window", [1, 4, 256])
def test_it_recovers_when_messages_were_lost(lost: str, window: int) -> None:
    cluster = three(max_inflight=window, max_batch=2)
    for index in range(40):
        cluster.step(1, Propose(b"%d" % index))
        kept = []
        for to, message in cluster.queue:
            is_entries = isinstance(message, AppendEntries) and to == 3
            is_ack = isinstance(message, AppendEntriesReply) and message.sender == 3
            if not ((is_entries and lost != "acknowledgements") or (is_ack and lost != "entries")):
                kept.append((to, message))
        cluster.queue = kept
        if lost == "acknowledgements":
            while cluster.queue:
                batch = [
                    (to, m)
                    for to, m in cluster.queue
                    if not (isinstance(m, AppendEntriesReply) and m.sender == 3)
                ]
                cluster.queue = []
                for to, message in batch:
                    cluster.step(to, Receive(message))
        else:
            cluster.cut = {3}
            cluster.settle()
            cluster.cut = set()
    assert cluster.nodes[1].commit_index == 40
    converge(cluster)


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 3, 256]))
def test_it_recovers_from_loss_doubling_and_reordering(random: Random, window: int) -> None:
    cluster = three(max_inflight=window, max_batch=3)
    for index in range(25):
        cluster.step(1, Propose(b"%d" % index))
        for _ in range(3):
            batch, cluster.queue = cluster.queue, []
            random.shuffle(batch)
            for to, message in batch:
                for _ in range(random.choice([0, 1, 1, 2])):
                    cluster.step(to, Receive(message))
        if random.random() < 0.3:
            cluster.step(1, Tick())
    cluster.settle()
    assert cluster.nodes[1].is_leader
    converge(cluster)


# Repair: a whole term a round trip (section 5.3, end).


def repair(leaders: list[int], followers: list[int]) -> int:
    """How many refusals it takes until the follower's log is the leader's."""
    cluster = Cluster({1: log_of(leaders, term=99), 2: log_of(followers, term=99)})
    node = cluster.nodes[1]
    for _ in range(100):
        cluster.tick(1)
        if node.is_leader:
            break
    assert node.is_leader
    cluster.tick(1, count=6)
    assert terms_in(cluster.nodes[2].log) == terms_in(node.log)
    assert cluster.nodes[2].commit_index == node.log.last_index()
    return sum(isinstance(m, AppendEntriesReply) and not m.success for _, m in cluster.delivered)


@pytest.mark.parametrize(
    ("leaders", "followers", "refusals"),
    [
        ([], [], 0),
        ([1, 1, 1], [1, 1, 1], 0),
        ([1] * 500, [], 1),
        ([1] * 500, [1] * 100, 1),
        ([1] * 10 + [5] * 500, [1] * 10 + [3] * 500, 1),
        ([1] * 10 + [5] * 500, [1] * 10 + [2] * 100 + [3] * 100 + [4] * 100, 4),
        ([1] * 10 + [2] * 10 + [9] * 300, [1] * 10 + [2] * 300, 2),
        ([9] * 50, [1] * 20, 2),
    ],
)
def test_a_divergent_log_is_repaired_a_term_a_round_trip(
    leaders: list[int], followers: list[int], refusals: int
) -> None:
    assert repair(leaders, followers) == refusals


@given(st.data())
def test_repair_takes_no_more_refusals_than_the_logs_have_terms(data: st.DataObject) -> None:
    common = sorted(data.draw(st.lists(st.integers(1, 5), max_size=30)))
    mine = sorted(data.draw(st.lists(st.sampled_from([7, 9, 11, 13]), max_size=40)))
    theirs = sorted(data.draw(st.lists(st.sampled_from([6, 8, 10, 12]), max_size=40)))
    if (theirs or [0])[-1] > (mine or [0])[-1]:
        mine.append(14)
    refusals = repair(common + mine, common + theirs)
    # One for a log that is too short, then each skips a term of the follower.
    assert refusals <= 1 + len(set(theirs)) + 1


def test_a_hint_of_a_term_the_leader_has_is_followed_to_its_own_last_entry_of_it() -> None:
    node = leader([2], log_of([1, 2, 2, 4, 4]))
    (probe,) = refuse(node, 2, 3, 2)
    assert isinstance(probe, AppendEntries)
    assert (probe.prev_log_index, probe.prev_log_term) == (3, 2)


def test_a_hint_of_a_term_the_leader_does_not_have_is_followed_to_its_first_index() -> None:
    node = leader([2], log_of([1, 2, 2, 4, 4]))
    (probe,) = refuse(node, 2, 3, 3)
    assert isinstance(probe, AppendEntries)
    assert (probe.prev_log_index, probe.prev_log_term) == (2, 2)


@pytest.mark.parametrize(
    ("index", "term"), [(0, 0), (TOP, 0), (TOP, TOP), (0, TOP), (0, 1), (TOP, 1), (1, 2), (99, 4)]
)
def test_a_senseless_hint_does_no_harm(index: int, term: int) -> None:
    node = leader([2, 3], log_of([1, 2, 2, 4, 4]))
    for _ in range(3):
        refuse(node, 2, index, term)
    assert node.is_leader
    ack(node, 2, 6)
    assert node.commit_index == 6


def test_logs_that_no_cluster_could_have_still_come_together() -> None:
    """The leader has the conflicting term behind where it probes: the follower's own index is what helps."""
    first = RaftNode(paper(1, [2]), log_of([1, 1, 1, 3, 3]))
    follower = RaftNode(paper(2, [1]).with_election_timeout(1000, 1000), log_of([1, 3, 3]))
    for _ in range(100):
        waiting = first.step(Tick())
        while waiting:
            action = waiting.pop(0)
            if isinstance(action, Send):
                receiver = {1: first, 2: follower}[action.to]
                waiting += receiver.step(Receive(action.message))
    assert first.is_leader
    assert terms_in(follower.log) == terms_in(first.log)
