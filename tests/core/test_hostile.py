"""Whatever peers say and callers ask for, in whatever order: no invariant breaks, nothing but what is
promised is raised, and what a state machine is told always goes forward."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support import TOP, Contents, compacted_log, entries_of, membership_entry

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    ChangeMembership,
    EntryKind,
    Event,
    InstallSnapshot,
    InstallSnapshotReply,
    LogEntry,
    Membership,
    MembershipCommitted,
    MemoryLog,
    Message,
    NotLeaderError,
    OverloadedError,
    PreVote,
    PreVoteReply,
    Propose,
    RaftConfig,
    RaftNode,
    ReadFailed,
    ReadIndex,
    ReadIndexReply,
    ReadIndexRequest,
    ReadReady,
    Receive,
    RequestVote,
    RequestVoteReply,
    RestoreSnapshot,
    Snapshot,
    SnapshotTaken,
    Sync,
    Synced,
    TakeSnapshot,
    Tick,
    TimeoutNow,
    TransferLeadership,
    encode_membership,
)
from raft_io.errors import MembershipChangeInProgressError, TransferInProgressError

pytestmark = pytest.mark.core

REFUSALS = (
    NotLeaderError,
    OverloadedError,
    TransferInProgressError,
    MembershipChangeInProgressError,
    ValueError,
)

ids = st.integers(1, 4)
terms = st.one_of(st.integers(0, 6), st.sampled_from([TOP, TOP - 1]))
indexes = st.one_of(st.integers(0, 9), st.sampled_from([TOP, TOP - 1, TOP - 2]))
rounds = st.one_of(st.integers(0, 4), st.just(TOP))
groups = st.frozensets(ids, max_size=3)
memberships = st.builds(Membership, groups, groups, groups)
commands = st.one_of(st.binary(max_size=2), memberships.map(encode_membership))


@st.composite
def batches(draw: st.DrawFn) -> AppendEntries:
    """An `AppendEntries` whose entries mostly follow each other."""
    term = draw(terms)
    prev, prev_term = draw(indexes), draw(st.integers(0, 4))
    entries = []
    if draw(st.booleans()):
        at, entry_term = prev, prev_term
        for _ in range(draw(st.integers(1, 4))):
            at, entry_term = at + 1, entry_term + draw(st.integers(0, 1))
            membership = draw(st.booleans())
            if at <= TOP:
                kind = EntryKind.MEMBERSHIP if membership else draw(st.sampled_from(list(EntryKind)))
                entries.append(LogEntry(entry_term, at, draw(commands), kind))
    return AppendEntries(term, draw(ids), prev, prev_term, entries, draw(indexes), draw(rounds))


pieces = st.builds(
    InstallSnapshot,
    *(terms, ids, indexes, st.integers(0, 4), memberships),
    *(st.integers(0, 4), st.binary(max_size=4), st.booleans(), st.integers(0, 6), st.integers(0, 1)),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(PreVote, terms, ids, indexes, terms),
    st.builds(PreVoteReply, terms, st.booleans(), ids),
    st.builds(RequestVote, terms, ids, indexes, terms, st.booleans()),
    st.builds(RequestVoteReply, terms, st.booleans(), ids),
    batches(),
    st.builds(AppendEntriesReply, terms, st.booleans(), ids, indexes, indexes, terms, rounds),
    pieces,
    st.builds(InstallSnapshotReply, terms, ids, indexes, st.integers(0, 6)),
    st.builds(TimeoutNow, terms, ids, rounds),
    st.builds(ReadIndexRequest, terms, ids, st.binary(max_size=1)),
    st.builds(ReadIndexReply, terms, st.binary(max_size=1), indexes),
)


events: st.SearchStrategy[Event | str] = st.one_of(
    st.just(Tick()),
    messages.map(Receive),
    st.builds(Propose, st.binary(max_size=2)),
    st.builds(ReadIndex, st.binary(max_size=1)),
    st.builds(ChangeMembership, groups, groups),
    st.builds(TransferLeadership, ids),
    st.builds(SnapshotTaken, st.integers(0, 9), st.binary(max_size=6)),
    st.builds(Synced, st.integers(0, 9)),
    st.sampled_from(["ticks", "grant", "ack", "ack", "synced", "drain"]),
)


class Machine:
    """A node, the state machine that it tells what to do, and peers that help it on when asked to."""

    def __init__(self, config: RaftConfig, log: MemoryLog, deferred: bool) -> None:
        self.node = RaftNode(config, log, deferred_sync=deferred)
        self.at = self.node.last_applied
        self.ticket = 0
        self.committed: dict[int, LogEntry] = {}
        self.term, self.commit = self.node.term, self.node.commit_index

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Apply):
                assert action.index > self.at
                self.at = action.index
            elif isinstance(action, RestoreSnapshot):
                assert action.snapshot.index > self.at
                self.at = action.snapshot.index
            elif isinstance(action, (TakeSnapshot, MembershipCommitted)):
                assert action.index >= self.at
            elif isinstance(action, ReadReady):
                assert action.index <= self.node.last_applied
            elif isinstance(action, Sync):
                assert action.ticket > self.ticket
                self.ticket = action.ticket
            else:
                assert isinstance(action, ReadFailed) or type(action).__name__ in (
                    "Send",
                    "MembershipChanged",
                )

    def feed(self, event: Event) -> None:
        before = self.node.status
        try:
            self.node.feed(event)
        except REFUSALS:
            assert not isinstance(event, (Receive, Tick, SnapshotTaken, Synced))
            assert self.node.status == before
        self.node._state.check()

    def move(self, name: str) -> None:
        node = self.node
        if name == "ticks":
            for _ in range(25):
                self.feed(Tick())
        elif name == "grant":
            term = node.term
            for peer in range(1, 5):
                self.feed(Receive(PreVoteReply(min(term + 1, TOP), True, peer)))
                self.feed(Receive(RequestVoteReply(min(term + 1, TOP), True, peer)))
        elif name == "ack":
            for peer in range(1, 5):
                match, round_ = node.log.last_index(), int(node._state.round)
                self.feed(Receive(AppendEntriesReply(node.term, True, peer, match, 0, 0, round_)))
        elif name == "synced":
            self.feed(Synced(self.ticket))
        self.carry_out(node.drain())
        node._state.check()

    def watch(self) -> None:
        """Terms and commits never go back, and what is committed stays as it is."""
        node = self.node
        assert node.term >= self.term and node.commit_index >= self.commit
        self.term, self.commit = node.term, node.commit_index
        for index in range(max(node.commit_index - 12, 0), node.commit_index + 1):
            entry = node.log.entry(index)
            if entry is not None:
                assert self.committed.setdefault(index, entry) == entry


def run(machine: Machine, moves: list[Event | str]) -> None:
    for move in moves:
        if isinstance(move, str):
            machine.move(move)
        else:
            machine.feed(move)
        machine.watch()
    machine.move("drain")


def start() -> MemoryLog:
    log = compacted_log(Snapshot(2, 1, Membership([1, 2, 3]), b"state"), [1, 2])
    log.append([membership_entry(2, 5, Membership([1, 2, 3], [4]))])
    return log


OPTIONS: list[dict[str, Any]] = [
    {},
    {"pre_vote": False, "check_quorum": False, "snapshot_threshold": 2, "snapshot_chunk": 1},
    {"lease_reads": True, "max_apply_bytes": 1, "max_inflight": 1, "max_uncommitted_bytes": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["default", "bare", "leases"])
@pytest.mark.parametrize("deferred", [False, True])
@given(moves=st.lists(events, max_size=30))
@example(moves=["ticks", "grant", "ack", ChangeMembership([2, 3]), "ack", "ack", "ticks"])
def test_a_node_with_a_past(options: dict[str, Any], deferred: bool, moves: list[Event | str]) -> None:
    run(Machine(RaftConfig(1, [2, 3], **options), start(), deferred), moves)


@pytest.mark.parametrize("joins", [False, True])
@given(moves=st.lists(events, max_size=30))
def test_a_fresh_node(joins: bool, moves: list[Event | str]) -> None:
    config = RaftConfig.joining(1) if joins else RaftConfig(1, [2, 3])
    run(Machine(config.replace(snapshot_threshold=1), MemoryLog(), True), moves)


@given(moves=st.lists(events, max_size=30), size=st.integers(0, 6))
def test_a_leader_that_sends_a_snapshot(moves: list[Event | str], size: int) -> None:
    contents: Any = Contents(bytes(size))
    log = compacted_log(Snapshot(4, 1, Membership([1, 2, 3]), contents), [1])
    log.append(entries_of([1], first=6))
    machine = Machine(RaftConfig(1, [2, 3], snapshot_chunk=2), log, False)
    run(machine, ["ticks", "grant", *moves])
