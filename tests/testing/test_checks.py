"""Each check fails where it must; and those that work step by step agree with brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    EntryKind,
    HardState,
    LogEntry,
    Membership,
    RequestVoteReply,
    Snapshot,
    TimeoutNow,
    encode_membership,
)
from raft_io.kv.batch import encode_batch
from raft_io.kv.store import KeyValueStore
from raft_io.testing import Plan, ViolationError, draw
from raft_io.testing.checks import ALL, INVARIANTS
from raft_io.testing.checks.reference import Reference
from raft_io.testing.plan import Load
from raft_io.testing.process import Process
from raft_io.testing.quorums import is_quorum
from raft_io.testing.workload import Operation, StoreWorkload
from raft_io.testing.world import World

pytestmark = pytest.mark.core


def world_of(plan: Plan, seconds: float) -> World:
    world = World(plan, KeyValueStore, StoreWorkload(plan.load.keys, plan.load.reads), ALL)
    world.run(seconds)
    return world


@pytest.fixture(name="world")
def calm() -> World:
    """Three nodes that have elected and served for a while."""
    return world_of(Plan(seed=1, load=Load(think=0.05)), 5.0)


def leader_of(world: World) -> Process:
    leader = world.leader
    assert leader is not None
    return leader


def follower_of(world: World) -> Process:
    return next(process for process in world.running if process is not leader_of(world))


def call_all(world: World, hook: str, *arguments: Any) -> None:
    for each in getattr(world.hooks, hook):
        getattr(each, hook)(*arguments)


def rest(world: World) -> None:
    world.heal()
    world.clients.working = False
    world.run(3.0)


def two_votes(world: World) -> None:
    follower = follower_of(world)
    term = follower.driver.node.term
    follower.log.disk.state = HardState(term, 1)
    call_all(world, "sending", follower, 1, RequestVoteReply(term, True, follower.id))
    follower.log.disk.state = HardState(term, 2)
    call_all(world, "sending", follower, 2, RequestVoteReply(term, True, follower.id))


def another_entry(world: World) -> None:
    follower = follower_of(world)
    last = follower.log.now
    follower.log.now.truncate(last.last)
    entry = LogEntry(leader_of(world).log.now.terms[last.last], last.last + 1, b"another")
    call_all(world, "appending", follower, [entry])


def a_leader_cuts_its_log(world: World) -> None:
    call_all(world, "truncating", leader_of(world), leader_of(world).log.now.last)


def committed_entries_cut(world: World) -> None:
    call_all(world, "truncating", follower_of(world), 1)


def an_acknowledgement_too_early(world: World) -> None:
    follower = follower_of(world)
    node = follower.driver.node
    follower.log.disk.truncate(follower.log.disk.last)
    reply = AppendEntriesReply(node.term, True, follower.id, follower.log.now.last, 0, 0)
    call_all(world, "sending", follower, leader_of(world).id, reply)


def a_vote_too_early(world: World) -> None:
    follower = follower_of(world)
    term = follower.driver.node.term
    candidate = follower.log.disk.state.voted_for
    assert candidate is not None
    follower.log.disk.state = HardState(term, None)
    call_all(world, "sending", follower, candidate, RequestVoteReply(term, True, follower.id))


def a_commit_that_nobody_has(world: World) -> None:
    leader = leader_of(world)
    del world.history.terms[-1]
    for process in world.processes.values():
        if process is not leader:
            process.log.disk.truncate(process.log.disk.last)
            process.log.disk.truncate(process.log.disk.last)
    for check in world.checks:
        if hasattr(check, "commit"):
            check.commit[leader.id] -= 1
    call_all(world, "turned", leader)


def a_change_before_its_time(world: World) -> None:
    leader = leader_of(world)
    now = leader.log.now
    change = encode_membership(Membership([1, 2]))
    first = LogEntry(leader.driver.node.term, now.last + 1, change, EntryKind.MEMBERSHIP)
    call_all(world, "appending", leader, [first])
    now.append(first)
    second = LogEntry(first.term, first.index + 1, change, EntryKind.MEMBERSHIP)
    call_all(world, "appending", leader, [second])


def two_voters_in_one_step(world: World) -> None:
    leader = leader_of(world)
    change = encode_membership(Membership([1]))
    entry = LogEntry(leader.driver.node.term, leader.log.now.last + 1, change, EntryKind.MEMBERSHIP)
    call_all(world, "appending", leader, [entry])


def a_snapshot_of_another_membership(world: World) -> None:
    index = world.history.known
    wrong = Snapshot(index, world.history.terms[-1], Membership([1, 2, 7]), b"")
    call_all(world, "saving", follower_of(world), wrong)


def a_snapshot_of_what_is_not_committed(world: World) -> None:
    call_all(world, "saving", follower_of(world), Snapshot(10_000, 99, world.initial, b""))


def a_command_applied_twice(world: World) -> None:
    machine = leader_of(world).machine
    machine.place += 1
    world.ledger.apply(1, machine.place, world.ledger.history[0].tag, b"", b"")


def a_command_left_out(world: World) -> None:
    world.ledger.apply(1, len(world.ledger.history) + 2, b"new", b"", b"")


def another_result(world: World) -> None:
    world.ledger.apply(1, 1, world.ledger.history[0].tag, b"another", b"")


def a_stale_read(world: World) -> None:
    call = next(call for call in world.clients.calls if call.is_read and call.place > 3)
    call.place, call.floor = 1, 3
    call_all(world, "acknowledged", call)


def an_acknowledgement_of_nothing(world: World) -> None:
    call = next(call for call in world.clients.calls if not call.is_read)
    call.tag = b"never"
    call_all(world, "acknowledged", call)


def a_value_that_nobody_wrote(world: World) -> None:
    rest(world)
    call = next(call for call in world.clients.calls if call.is_read and call.outcome == "acknowledged")
    call.result = b"$3\r\n???\r\n"
    call_all(world, "ended")


def time_that_goes_back(world: World) -> None:
    machine = leader_of(world).machine
    machine.advance(machine.time)


def a_term_that_goes_back(world: World) -> None:
    for check in world.checks:
        if hasattr(check, "seen"):
            before = check.seen[1]
            check.seen[1] = (before[0] + 1, *before[1:])
    call_all(world, "turned", world.processes[1])


def vote_after_an_answer(world: World, *, later: float, force: bool = False) -> None:
    """A follower answers its leader, and votes for another so many seconds later."""
    leader, follower = leader_of(world), follower_of(world)
    other = next(node for node in world.processes if node not in (leader.id, follower.id))
    term = leader.driver.node.term
    call_all(world, "arriving", follower, AppendEntries(term, leader.id, 0, 0, (), 0, 7))
    reply = AppendEntriesReply(term, True, follower.id, 0, 0, 0, 7)
    call_all(world, "sending", follower, leader.id, reply)
    for process in world.processes.values():
        process.pause(paused=True)
    world.run(later)
    if force:
        call_all(world, "sending", leader, other, TimeoutNow(term, leader.id))
    follower.log.disk.state = HardState(term + 1, other)
    call_all(world, "sending", follower, other, RequestVoteReply(term + 1, True, follower.id))


def a_vote_under_a_lease(world: World) -> None:
    vote_after_an_answer(world, later=0.2)


def a_removal_that_never_was(world: World) -> None:
    call_all(world, "retired", follower_of(world), 1)


def a_command_answered_alike_by_all_but_the_reference(world: World) -> None:
    rest(world)
    reference = next(check for check in world.checks if isinstance(check, Reference))
    reference.machine, reference.place, reference.time = None, 0, 0
    world.ledger.history[0].answer = b"what all have lost"
    call_all(world, "ended")


def a_query_answered_otherwise_by_the_reference(world: World) -> None:
    rest(world)
    machine = leader_of(world).machine
    machine.inner.apply(encode_batch([[b"SET", b"other", b"1"]], 2))
    machine.query(Operation("GET other", query=lambda store: store.query([[b"GET", b"other"]], 2)))


def a_state_that_the_reference_does_not_come_to(world: World) -> None:
    rest(world)
    for process in world.running:
        process.machine.inner.apply(encode_batch([[b"SET", b"other", b"1"]], 2))
    call_all(world, "ended")


BROKEN: dict[Callable[[World], None], str] = {
    two_votes: "it has voted for",
    another_entry: "log matching",
    a_leader_cuts_its_log: "log matching",
    committed_entries_cut: "which is committed",
    an_acknowledgement_too_early: "durability",
    a_vote_too_early: "durability",
    a_commit_that_nobody_has: "hold it",
    a_change_before_its_time: "before",
    two_voters_in_one_step: "without a joint membership",
    a_snapshot_of_another_membership: "membership",
    a_snapshot_of_what_is_not_committed: "not committed",
    a_command_applied_twice: "and it was",
    a_command_left_out: "but nobody",
    another_result: "another result",
    a_stale_read: "a stale read",
    an_acknowledgement_of_nothing: "applied nowhere",
    a_value_that_nobody_wrote: "linearizability",
    time_that_goes_back: "is told",
    a_term_that_goes_back: "monotone",
    a_removal_that_never_was: "but it was not",
    a_vote_under_a_lease: "the lease is good for",
    a_command_answered_alike_by_all_but_the_reference: "command 1 with b'what all have lost' instead of b",
    a_query_answered_otherwise_by_the_reference: "answers the query 'GET other' with .* instead of b",
    a_state_that_the_reference_does_not_come_to: "replicas are in the state .* instead of",
}


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_check_fails_where_it_must(world: World, breaks: Callable[[World], None]) -> None:
    with pytest.raises(ViolationError, match=BROKEN[breaks]):
        breaks(world)


@pytest.mark.parametrize(("later", "force"), [(0.26, False), (0.0, True)])
def test_after_a_lease_or_for_who_was_sent_a_node_may_vote(world: World, later: float, force: bool) -> None:
    vote_after_an_answer(world, later=later, force=force)


def test_the_documentation_lists_every_invariant_by_its_number() -> None:
    assert list(INVARIANTS) == list(range(1, len(INVARIANTS) + 1))
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert rows == [f"| {n} | {check} | {rule.rstrip('.')} |" for n, (check, rule) in INVARIANTS.items()]


def test_a_run_in_which_nothing_is_wrong_ends_well(world: World) -> None:
    rest(world)
    world.ended()


@pytest.mark.parametrize("seed", range(1, 9))
def test_step_by_step_is_as_good_as_brute_force(seed: int) -> None:
    """Every few seconds of a run with all its faults, everything is looked at anew."""
    plan = replace(draw(seed), seconds=30.0)
    world = World(plan, KeyValueStore, StoreWorkload(plan.load.keys, plan.load.reads), ALL)
    looked = 0
    while world.now < plan.seconds:
        world.run(3.0)
        logs = {process.id: process.log for process in world.running}
        for one, other in combinations(logs.values(), 2):
            looked += match(one.log, other.log)
        committed(world)
    assert looked > 0 or plan.voters == 1


def match(one: Any, other: Any) -> int:
    """Log matching by its words: same index and term, same entry, and so all before it. Returns how many
    entries both hold."""
    both = 0
    agree = False
    for index in range(min(one.last_index(), other.last_index()), 0, -1):
        mine, theirs = one.entry(index), other.entry(index)
        if mine is None or theirs is None:
            break
        agree = agree or mine.term == theirs.term
        if agree:
            assert mine == theirs
            both += 1
    return both


def committed(world: World) -> None:
    """What is known to be committed is on the disks of a quorum of some membership that was in force, whoever
    is down; and no node that could win an election lacks it."""
    history = world.history
    if not history.known:
        return
    index, term = history.known, history.terms[-1]
    have = world.holders(index, term)
    memberships = {world.initial, *[membership for _, membership in history.changes]}
    memberships |= {world.membership_of(process) for process in world.processes.values() if process.up}
    assert any(is_quorum(membership, have) for membership in memberships)
    for process in world.running:
        image = process.log.disk
        if image.last >= index and image.holds(index, term):
            continue
        membership = world.membership_of(process)
        votes = {other.id for other in world.running if image.end >= other.log.disk.end}
        assert not is_quorum(membership, votes), f"node {process.id} lacks {index} and could win"
