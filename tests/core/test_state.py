"""The invariants: they hold in a sound node, and each is noticed when it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support import ask, campaign, leader, log_of, paper, step

from raft_io import (
    HardState,
    LogEntry,
    Membership,
    Propose,
    RaftConfig,
    RaftNode,
    Role,
    Snapshot,
    SnapshotMeta,
)
from raft_io.core.state import Adopted, Asked, Read, Ready, Staging, State, Ticket

pytestmark = pytest.mark.core


def follower() -> State:
    return RaftNode(paper(1, [2, 3]), log_of([1, 1, 2]), applied=1)._state


def candidate() -> State:
    node = RaftNode(paper(1, [2, 3]))
    campaign(node)
    return node._state


def asking() -> State:
    node = RaftNode(RaftConfig(1, [2, 3]))
    ask(node)
    return node._state


def leading() -> State:
    node = leader()
    step(node, Propose(b"x"))
    return node._state


def set_(name: str, value: object) -> Callable[[State], None]:
    return lambda st: setattr(st, name, value)


@pytest.mark.parametrize("make", [follower, asking, candidate, leading])
def test_a_sound_node_passes(make: Callable[[], State]) -> None:
    make().check()


BROKEN: list[tuple[str, Callable[[], State], Callable[[State], object]]] = [
    ("1", follower, set_("commit_index", 0)),
    ("1", follower, set_("commit_index", 4)),
    ("1", follower, set_("stable_index", 4)),
    ("2", follower, set_("stable_index", 0)),
    ("3", leading, set_("leader", 2)),
    ("3", leading, set_("voted_for", 2)),
    ("3", leading, lambda st: st.followers.pop()),
    ("3", leading, set_("uncommitted_bytes", 7)),
    ("Progress", leading, lambda st: setattr(st.followers[0], "match", 5)),
    ("4", candidate, set_("voted_for", 2)),
    ("4", candidate, set_("leader", 2)),
    ("5", follower, lambda st: st.log.set_hard_state(HardState(9))),
    ("5", follower, lambda st: st.log.set_hard_state(HardState(2, 3))),
    ("5", follower, lambda st: st.log.append([LogEntry(2, 4)])),
    ("5", follower, set_("last_term", 1)),
    ("7", follower, set_("tickets", [Ticket(2, 1, 1, 1), Ticket(1, 1, 1, 1)])),
    ("7", follower, set_("tickets", [Ticket(1, 9, 1, 1)])),
    ("4", asking, set_("leader", 2)),
    ("4", candidate, set_("prevoting", True)),
    ("8", follower, set_("membership", Membership([1]))),
    ("8", follower, lambda st: st.history.append(Adopted(0, st.membership))),
    ("8", follower, lambda st: st.history.append(Adopted(9, st.membership))),
    ("8", follower, set_("history", [Adopted(1, Membership([1, 2, 3]))])),
    ("9", follower, set_("reads", [Read(b"r", 1, 0)])),
    ("9", follower, set_("pending_change", Membership([1]))),
    ("9", follower, set_("transfer_target", 2)),
    ("9", follower, set_("asked", [Asked(b"r", 0)])),
    ("9", leading, set_("asked", [Asked(b"r", 0)])),
    ("10", follower, set_("snapshot_index", 3)),
    ("10", follower, set_("restoring", Snapshot(1, 1, Membership([1]), b""))),
    ("10", follower, set_("restoring", Snapshot(3, 1, Membership([1]), b""))),
]


@pytest.mark.parametrize(("number", "make", "spoil"), BROKEN)
def test_a_broken_invariant_is_noticed(
    number: str, make: Callable[[], State], spoil: Callable[[State], object]
) -> None:
    state = make()
    spoil(state)
    with pytest.raises(AssertionError, match=number):
        state.check()


def test_entries_of_a_later_term_than_the_nodes_are_noticed() -> None:
    state = follower()
    state.term = 1
    state.log.set_hard_state(HardState(1))
    with pytest.raises(AssertionError, match="6"):
        state.check()


def test_a_ticket_holds_what_it_stands_for() -> None:
    ticket = Ticket(3, 7, 2, 50)
    assert (ticket.number, ticket.index, ticket.writes, ticket.tick) == (3, 7, 2, 50)


def test_what_waits_holds_what_it_stands_for() -> None:
    read, asked, ready = Read(b"r", 2, 7), Asked(b"r", 7), Ready(b"r", 9)
    assert (read.context, read.origin, read.since, read.index, read.round) == (b"r", 2, 7, -1, 0)
    assert (asked.context, asked.since) == (b"r", 7)
    assert (ready.context, ready.index) == (b"r", 9)


def test_what_arrives_holds_what_is_there_of_it() -> None:
    meta = SnapshotMeta(9, 2, Membership([1]), 100, 77)
    staging = Staging(meta, 3)
    assert (staging.meta, staging.term, staging.offset) == (meta, 3, 0)


def test_a_fresh_state_adopts_config_and_log() -> None:
    config = RaftConfig(2, [3, 1], (5, 6), 2, 8, 9, 10, 11, 12, 13, False, False, False, 1, 14, 15)
    state = RaftNode(config, log_of([1, 1, 2], term=4, voted_for=0), applied=2)._state
    assert (state.id, state.voters) == (2, [1, 2, 3])
    assert (state.election_min, state.election_max, state.heartbeat_interval) == (5, 6, 2)
    assert (state.max_batch, state.max_batch_bytes, state.max_inflight) == (8, 9, 10)
    assert (state.max_uncommitted_bytes, state.max_apply_bytes) == (11, 12)
    assert (state.term, state.voted_for, state.role, state.leader) == (4, 0, Role.FOLLOWER, -1)
    assert (state.last_index, state.last_term, state.stable_index) == (3, 2, 3)
    assert (state.commit_index, state.last_applied) == (2, 2)
    assert (state.pre_vote, state.check_quorum, state.lease_reads) == (False, False, False)
    assert (state.lease_length, state.snapshot_threshold, state.snapshot_chunk) == (4, 14, 15)
    assert (state.max_inflight_bytes, state.snapshot_index, state.snapshot_term) == (64 * 2**20, 0, 0)
