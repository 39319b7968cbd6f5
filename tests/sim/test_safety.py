"""Raft's safety and liveness under an adversarial network, adversarial disks and odd configurations."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.sim.cluster import Cluster, Move, Setup
from tests.sim.healing import heal
from tests.sim.member import Mode
from tests.sim.schedules import leased, moves, run, seeded, setups

pytestmark = pytest.mark.core

BLOCKS = 40
RUNS = 25
LENGTH = 300


@pytest.mark.parametrize("block", range(BLOCKS))
def test_seeded_schedules(block: int) -> None:
    """Breadth: every seed is another cluster and another history."""
    committed = reads = changes = snapshots = 0
    for seed in range(block * RUNS, (block + 1) * RUNS):
        setup, schedule = seeded(seed, LENGTH)
        try:
            cluster = run(setup, schedule)
        except Exception as error:
            error.add_note(f"seed {seed}, length {LENGTH}: {setup}")
            raise
        committed += cluster.checker.history.known
        reads += cluster.checker.reads.ready_count
        changes += len(cluster.checker.history.changes)
        snapshots += sum(len(member.snapshots) for member in cluster.members)
    enough = committed > 10 * RUNS and reads > 3 * RUNS and changes > RUNS and snapshots > 3 * RUNS
    assert enough, f"{(committed, reads, changes, snapshots)}: these runs show nothing"


@pytest.mark.parametrize("block", range(8))
def test_leases_while_leaders_are_deposed(block: int) -> None:
    """Depth where leases are weakest: elections as early as they may come, and reads all the while."""
    reads = 0
    for seed in range(block * RUNS, (block + 1) * RUNS):
        setup, schedule = leased(seed, 5)
        try:
            cluster = run(setup, schedule)
        except Exception as error:
            error.add_note(f"leased seed {seed}: {setup}")
            raise
        reads += cluster.checker.reads.ready_count
    assert reads > 10 * RUNS, f"{reads} reads: these runs show nothing"


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(setup=setups(), schedule=moves(240))
def test_schedules_that_hypothesis_shrinks(setup: Setup, schedule: Sequence[Move]) -> None:
    """Depth: fewer histories, but one that fails comes back as small as it can be."""
    run(setup, schedule)


@pytest.mark.parametrize("pre_vote", [True, False])
@pytest.mark.parametrize("size", [3, 5])
def test_ties_are_broken(size: int, pre_vote: bool) -> None:
    """With so few timeouts to draw from, first campaigns often fall on one tick: they must not do so for ever
    (section 5.2). The seeds of nodes differ, as their ids do."""
    for seed in range(60):
        options = (("election_timeout", (10, 12)), ("pre_vote", pre_vote))
        cluster = Cluster(Setup((Mode.STEP,) * size, options, seed=seed))
        heal(cluster)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    modes=st.tuples(*[st.sampled_from(list(Mode))] * 5), seed=st.integers(0, 2**32), voters=st.integers(1, 5)
)
def test_long_histories_of_five(modes: tuple[Mode, ...], seed: int, voters: int) -> None:
    """Long runs: many terms, many repairs."""
    setup, schedule = seeded(seed, 1000)
    run(Setup(modes, setup.options, setup.over_wire, seed, voters), schedule)
