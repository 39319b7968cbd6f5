"""Schedules: what a run starts from and what happens in it, from a seed or from hypothesis."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import strategies as st
from tests.sim.cluster import Cluster, Move, Op, Setup
from tests.sim.member import Mode

SIZES = (1, 3, 3, 3, 5, 5)

PROFILES: tuple[dict[str, object], ...] = (
    {},
    {"max_inflight": 1},
    {"max_batch": 1},
    {"max_batch_bytes": 3},
    {"max_uncommitted_bytes": 12},
    {"max_apply_bytes": 4},
    {"max_inflight": 2, "max_batch": 2, "max_uncommitted_bytes": 40, "max_apply_bytes": 8},
    {"max_inflight": 1, "max_batch": 1, "max_batch_bytes": 1, "max_apply_bytes": 1},
    {"election_timeout": (1, 1)},
    {"election_timeout": (1, 3), "heartbeat_interval": 50, "max_batch": 2},
    {"election_timeout": (5, 5), "heartbeat_interval": 4},
)
"""Options of a cluster: what is common, what is tight, and what no sane person would choose."""

WEIGHTS: dict[Op, int] = {
    Op.TICK: 8,
    Op.TICK_ALL: 6,
    Op.TIME_OUT: 6,
    Op.DELIVER: 30,
    Op.DELIVER_NEXT: 20,
    Op.DROP: 5,
    Op.DUPLICATE: 5,
    Op.FLOW: 16,
    Op.PROPOSE: 18,
    Op.DRAIN: 12,
    Op.SYNC: 14,
    Op.STALE_SYNC: 1,
    Op.CUT: 3,
    Op.ISOLATE: 1,
    Op.SPLIT: 2,
    Op.DELAY: 6,
    Op.RELEASE: 4,
    Op.HEAL: 3,
    Op.CRASH: 4,
    Op.RESTART: 8,
    Op.BREAK_DISK: 1,
    Op.CRASH_ALL: 1,
}

PARTITIONS = (Op.CUT, Op.ISOLATE, Op.SPLIT)
FAULTS = (Op.DROP, Op.DUPLICATE, Op.CRASH, Op.BREAK_DISK, Op.CRASH_ALL)
ELECTIONS = (Op.TICK, Op.TICK_ALL, Op.TIME_OUT)


def _weights(rng: random.Random) -> list[float]:
    """How often each operation comes: some runs are stormy, some calm, for much needs calm to come about."""
    weights: dict[Op, float] = dict(WEIGHTS)
    for group in (PARTITIONS, FAULTS, ELECTIONS, (Op.FLOW,), (Op.SYNC, Op.DRAIN), (Op.PROPOSE,)):
        factor = rng.choice((0.2, 0.5, 1, 2))
        for op in group:
            weights[op] *= factor
    return list(weights.values())


def seeded(seed: int, length: int) -> tuple[Setup, list[Move]]:
    """The setup and the moves that `seed` stands for."""
    rng = random.Random(seed)
    size = rng.choice(SIZES)
    if rng.random() < 0.5:
        modes = (rng.choice(list(Mode)),) * size
    else:
        modes = tuple(rng.choices(list(Mode), k=size))
    setup = Setup(modes, tuple(rng.choice(PROFILES).items()), over_wire=seed % 4 == 0, seed=seed)
    ops = rng.choices(list(WEIGHTS), _weights(rng), k=length)
    return setup, [Move(op, rng.randrange(256), rng.randrange(256)) for op in ops]


def run(setup: Setup, moves: Sequence[Move]) -> Cluster:
    """Do it all, then heal."""
    cluster = Cluster(setup)
    cluster.run(moves)
    cluster.heal()
    return cluster


def setups() -> st.SearchStrategy[Setup]:
    """Clusters of 1, 3 and 5."""
    modes = st.sampled_from(SIZES).flatmap(
        lambda size: st.tuples(*[st.sampled_from(list(Mode)) for _ in range(size)])
    )
    options = st.sampled_from(PROFILES).map(lambda profile: tuple(profile.items()))
    return st.builds(Setup, modes, options, st.booleans(), st.integers(0, 1000))


def moves(most: int) -> st.SearchStrategy[list[Move]]:
    """Between half of `most` moves and all. A move shrinks to a rest: hypothesis makes most lists as short as
    it may, and short histories show little."""
    byte = st.integers(0, 255)
    weighted = [Op.REST, *[op for op, weight in WEIGHTS.items() for _ in range(weight)]]
    return st.lists(st.builds(Move, st.sampled_from(weighted), byte, byte), min_size=most // 2, max_size=most)
