"""The reference of raft-io 0.4, sentence by sentence in its order: up to `RaftNode`."""

from __future__ import annotations

import pytest
from tests.support import (
    Cluster,
    TracingLog,
    ack,
    applied,
    campaign,
    caught_up_leader,
    elect,
    entries_of,
    heartbeat,
    leader,
    log_of,
    paper,
    receive,
    reply_of,
    sent,
    sent_to,
    step,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    Event,
    HardState,
    Index,
    LogEntry,
    MemoryLog,
    MemoryTransport,
    NodeId,
    NotLeaderError,
    Propose,
    RaftConfig,
    RaftNode,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    StorageError,
    Term,
    Tick,
)

pytestmark = pytest.mark.core


# Overview.


def test_you_feed_events_through_step_and_it_returns_the_actions() -> None:
    node = RaftNode(paper(1, [2, 3]))
    actions = [action for _ in range(20) for action in node.step(Tick())]
    assert {type(action) for action in actions} == {Send}


def test_a_run_is_reproducible_from_a_seed_and_a_sequence_of_events() -> None:
    def run(seed: int) -> list[Action]:
        node = RaftNode(paper(1, [2, 3]).with_seed(seed))
        return [action for _ in range(500) for action in node.step(Tick())]

    assert run(7) == run(7)


def test_a_seed_decides_when_a_node_campaigns() -> None:
    def first(seed: int) -> int:
        node = RaftNode(paper(1, [2, 3]).with_seed(seed))
        return next(tick for tick in range(1, 100) if node.step(Tick()))

    assert len({first(seed) for seed in range(30)}) > 5


# Quick start, and the tiers.


def test_quick_start() -> None:
    node = RaftNode(RaftConfig.single(1))
    while not node.is_leader:
        node.step(Tick())
    assert node.step(Propose(b"set x = 1")) == [Apply(1, 1, b"set x = 1")]


def test_tier_1_needs_no_log_to_be_named() -> None:
    assert isinstance(RaftNode(paper(1, [2, 3])).log, MemoryLog)


def test_tier_2_tunes_the_timing() -> None:
    config = paper(1, [2, 3]).with_election_timeout(4, 4).with_heartbeat_interval(2).with_seed(9)
    node = RaftNode(config)
    assert [bool(node.step(Tick())) for _ in range(4)] == [False, False, False, True]


def test_tier_3_plugs_in_a_log() -> None:
    log = TracingLog()
    node = RaftNode.with_log(RaftConfig.single(1), log)
    elect(node)
    step(node, Propose(b"x"))
    assert log.held == [LogEntry(1, 1, b"x")]


# NodeId, Term, Index.


def test_example_aliases() -> None:
    id_: NodeId = 3
    term: Term = 5
    index: Index = 42
    assert (id_, term, index) == (3, 5, 42)


def test_an_id_is_opaque_any_scheme_works() -> None:
    cluster = Cluster({0: log_of([]), 2**63 - 1: log_of([]), 10**12: log_of([])})
    cluster.elect(0)
    cluster.step(0, Propose(b"x"))
    cluster.settle()
    assert all(applied == [(1, b"x")] for applied in cluster.applied.values())


def test_every_message_carries_the_senders_term() -> None:
    node = leader(log=log_of([], term=6))
    messages = sent(step(node, Propose(b"x")), AppendEntries)
    assert {message.term for message in messages} == {7}
    assert reply_of(node, RequestVote(3, 2, 0, 0)).term == 7


@pytest.mark.parametrize("role", list(Role))
def test_a_node_that_sees_a_higher_term_steps_down_and_adopts_it(role: Role) -> None:
    node = RaftNode(paper(1, [2, 3]))
    if role is not Role.FOLLOWER:
        campaign(node)
    if role is Role.LEADER:
        receive(node, RequestVoteReply(1, True, 2))
    assert node.role is role
    receive(node, RequestVoteReply(8, False, 2))
    assert (node.role, node.term) == (Role.FOLLOWER, 8)


def test_term_0_precedes_the_first_election() -> None:
    node = RaftNode(paper(1, [2, 3]))
    assert node.term == 0
    campaign(node)
    assert node.term == 1


def test_terms_only_increase() -> None:
    node = RaftNode(paper(1, [2, 3]))
    seen = []
    for term in (3, 1, 5, 2, 5, 4):
        receive(node, RequestVote(term, 2, 0, 0))
        seen.append(node.term)
    assert seen == [3, 3, 5, 5, 5, 5]


def test_the_first_appended_entry_has_index_1() -> None:
    node = leader()
    step(node, Propose(b"x"))
    assert node.log.entry(1) == LogEntry(1, 1, b"x")


def test_index_0_is_the_sentinel_before_the_first_entry_of_term_0() -> None:
    (message, _) = sent(step(leader(), Propose(b"x")), AppendEntries)
    assert (message.prev_log_index, message.prev_log_term) == (0, 0)


# Role.


def test_example_role() -> None:
    assert RaftNode(RaftConfig.single(1)).role is Role.FOLLOWER


def test_it_becomes_a_candidate_when_it_stops_hearing_from_a_leader() -> None:
    node = RaftNode(paper(1, [2, 3]))
    for _ in range(100):
        heartbeat(node)
        step(node, Tick())
    assert node.status.role is Role.FOLLOWER
    for _ in range(20):
        step(node, Tick())
    assert node.role is Role.CANDIDATE


def test_it_becomes_leader_if_it_wins_an_election() -> None:
    node = RaftNode(paper(1, [2, 3]))
    campaign(node)
    receive(node, RequestVoteReply(1, True, 3))
    assert node.role is Role.LEADER


# LogEntry.


def test_example_log_entry() -> None:
    entry = LogEntry(2, 7, b"put k v")
    assert entry.term == 2
    assert entry.index == 7
    assert entry.command == b"put k v"


@pytest.mark.parametrize("command", [b"", b"\0\xff" * 50, "späße".encode()])
def test_a_command_is_opaque_bytes(command: bytes) -> None:
    assert step(leader([]), Propose(command)) == [Apply(1, 1, command)]


# HardState.


def test_example_hard_state() -> None:
    state = HardState(term=4, voted_for=2)
    assert state.term == 4
    assert HardState().voted_for is None
    assert HardState().term == 0


def test_term_and_vote_are_persisted_before_responding() -> None:
    log = TracingLog()
    node = RaftNode(paper(1, [2, 3]), log)
    assert reply_of(node, RequestVote(4, 2, 0, 0)).vote_granted
    assert log.state == HardState(4, 2)
    assert log.calls[-1] == "sync"


def test_a_node_does_not_vote_twice_in_a_term_over_a_crash() -> None:
    node = RaftNode(paper(1, [2, 3]))
    receive(node, RequestVote(4, 2, 0, 0))
    again = RaftNode.with_log(paper(1, [2, 3]), node.log)
    assert not reply_of(again, RequestVote(4, 3, 9, 9)).vote_granted


# RaftConfig.


def test_example_config() -> None:
    assert RaftConfig(1, [2, 3]).peers == (2, 3)
    tuned = (
        RaftConfig(1, [2, 3]).with_election_timeout(150, 300).with_heartbeat_interval(30).with_seed(0xABCD)
    )
    assert tuned.election_timeout == (150, 300)
    assert tuned.heartbeat_interval == 30
    assert tuned.seed == 0xABCD


def test_example_degenerate_input_is_made_safe() -> None:
    assert RaftConfig.single(1).with_election_timeout(30, 10).election_timeout == (30, 30)


def test_a_node_filters_itself_out_of_its_peers() -> None:
    assert RaftConfig(1, [1, 2, 3]).peers == (2, 3)


def test_defaults_of_the_config() -> None:
    config = RaftConfig(7, [2, 3])
    assert (config.id, config.election_timeout, config.heartbeat_interval) == (7, (10, 20), 3)
    assert (config.seed, config.max_batch) == (7, 64)


def test_single_is_a_cluster_of_one_with_a_quorum_of_one() -> None:
    assert RaftConfig.single(1).peers == ()
    node = RaftNode(RaftConfig.single(1))
    elect(node)
    assert applied(step(node, Propose(b"x"))) == [1]


def test_the_spread_of_timeouts_breaks_split_votes() -> None:
    cluster = Cluster({node: log_of([]) for node in (1, 2, 3, 4)})
    for _ in range(400):
        cluster.tick()
    leaders = [node for node, state in cluster.nodes.items() if state.is_leader]
    assert len(leaders) == 1


def test_election_timeouts_are_normalised() -> None:
    assert RaftConfig(1).with_election_timeout(0, 0).election_timeout == (1, 1)


def test_heartbeat_intervals_are_normalised_and_counted_in_ticks() -> None:
    assert RaftConfig(1).with_heartbeat_interval(0).heartbeat_interval == 1
    node = caught_up_leader(heartbeat_interval=4)
    assert [len(step(node, Tick())) for _ in range(8)] == [0, 0, 0, 2, 0, 0, 0, 2]


def test_max_batch_is_normalised_and_bounds_one_append_entries() -> None:
    assert RaftConfig(1).with_max_batch(0).max_batch == 1
    node = leader([2], log_of([1] * 200), max_batch=50)
    messages = sent_to(receive(node, AppendEntriesReply(2, False, 2, 0, 1, 0)), 2)
    messages += sent_to(ack(node, 2, 50), 2)
    sizes = [len(message.entries) for message in messages if isinstance(message, AppendEntries)]
    assert sizes == [50, 50, 50, 50, 1]


# RaftNode.


def test_new_starts_as_a_follower_in_term_0() -> None:
    node = RaftNode(paper(1, [2, 3]))
    assert (node.role, node.term, node.log.last_index()) == (Role.FOLLOWER, 0, 0)


def test_with_log_resumes_in_the_last_term_and_vote() -> None:
    node = RaftNode.with_log(paper(1, [2, 3]), log_of([1, 2], term=6, voted_for=3))
    assert node.term == 6
    assert reply_of(node, RequestVote(6, 3, 9, 9)).vote_granted
    assert not reply_of(node, RequestVote(6, 2, 9, 9)).vote_granted


def test_accessors() -> None:
    log = MemoryLog()
    node = RaftNode.with_log(paper(5, [2, 3]), log)
    heartbeat(node, term=4, sender=3)
    receive(node, AppendEntries(4, 3, 0, 0, entries_of([4, 4]), 1))
    assert (node.id, node.role, node.is_leader, node.term) == (5, Role.FOLLOWER, False, 4)
    assert (node.leader, node.commit_index, node.last_applied) == (3, 1, 1)
    assert node.log is log


def test_everything_the_protocol_depends_on_is_persisted_before_a_send() -> None:
    log = TracingLog()
    node = RaftNode.with_log(paper(1, [2, 3]), log)
    events: list[Event] = [
        *[Tick()] * 20,
        Receive(RequestVoteReply(1, True, 2)),
        Propose(b"x"),
        Receive(RequestVote(5, 3, 9, 9)),
        Receive(AppendEntries(6, 2, 0, 0, entries_of([6, 6]), 1)),
    ]
    for event in events:
        actions = step(node, event)
        if any(isinstance(action, Send) for action in actions):
            assert not log.calls or log.calls[-1] == "sync", event


def test_the_same_state_and_event_always_give_the_same_actions() -> None:
    def node() -> RaftNode:
        return RaftNode.with_log(paper(1, [2, 3]), log_of([1, 2, 2], term=2))

    events: list[Event] = [
        Tick(),
        Receive(RequestVote(3, 2, 3, 2)),
        Receive(AppendEntries(2, 3, 1, 1, (), 1)),
    ]
    for event in events:
        assert step(node(), event) == step(node(), event)


def test_a_proposal_to_a_non_leader_is_refused_with_the_known_leader() -> None:
    node = RaftNode(paper(2, [1, 3]))
    with pytest.raises(NotLeaderError) as caught:
        node.step(Propose(b"x"))
    assert caught.value.leader is None
    heartbeat(node, sender=3)
    with pytest.raises(NotLeaderError) as caught:
        node.step(Propose(b"x"))
    assert caught.value.leader == 3


def test_a_log_that_fails_is_a_storage_error_and_fatal_to_the_node() -> None:
    log = TracingLog()
    node = leader(log=log)
    log.fail_on = "sync"
    with pytest.raises(StorageError) as caught:
        node.step(Propose(b"x"))
    assert caught.value.is_fatal
    log.fail_on = ""
    with pytest.raises(StorageError):
        node.step(Tick())


def test_example_single_node_election_and_commit() -> None:
    node = RaftNode(RaftConfig.single(1))
    while not node.is_leader:
        node.step(Tick())
    actions = node.step(Propose(b"x"))
    assert any(isinstance(action, Apply) and action.command == b"x" for action in actions)


def test_example_a_proposal_to_a_follower_is_redirected() -> None:
    node = RaftNode(paper(2, [1, 3]))
    try:
        node.step(Propose(b"x"))
    except NotLeaderError as error:
        redirect = error.leader
    assert redirect is None


def test_example_driving_a_cluster() -> None:
    nodes = {node: RaftNode(paper(node, [1, 2, 3])) for node in (1, 2, 3)}
    transport = MemoryTransport()
    machines: dict[int, list[bytes]] = {node: [] for node in nodes}

    def drive(at: int, event: Event) -> None:
        for action in nodes[at].step(event):
            match action:
                case Send(to, message):
                    transport.send(to, message)
                case Apply(command=command):
                    machines[at].append(command)
                case _:
                    pass

    proposed = False
    for _ in range(100):
        for node in nodes:
            drive(node, Tick())
        for to, message in transport.take():
            drive(to, Receive(message))
        leaders = [node for node, state in nodes.items() if state.is_leader]
        if leaders and not proposed:
            proposed = True
            drive(leaders[0], Propose(b"x"))
    assert machines == {1: [b"x"], 2: [b"x"], 3: [b"x"]}
