"""Schedules: what a run starts from and what happens in it, from a seed or from hypothesis."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import strategies as st
from tests.sim.cluster import Cluster, Move, Op, Setup
from tests.sim.healing import heal
from tests.sim.member import Mode

SIZES = (1, 2, 3, 3, 3, 3, 4, 5, 5)
"""How many voters there are at the beginning."""

MOST = 7
"""No more nodes than this, with those that may join."""

PROFILES: tuple[dict[str, object], ...] = (
    {},
    {},
    {},
    {},
    {},
    {"max_inflight": 1},
    {"max_inflight_bytes": 6},
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

ELECTION_RULES: tuple[dict[str, object], ...] = (
    {},
    {},
    {"lease_reads": True},
    {"lease_reads": True, "lease_margin": 4, "pre_vote": False},
    {"pre_vote": False},
    {"check_quorum": False},
    {"pre_vote": False, "check_quorum": False},
)

SNAPSHOT_RULES: tuple[dict[str, object], ...] = (
    {},
    {"snapshot_threshold": 1, "snapshot_chunk": 7},
    {"snapshot_threshold": 3, "snapshot_chunk": 3},
    {"snapshot_threshold": 8, "snapshot_chunk": 1},
    {"snapshot_chunk": 5},
)

WEIGHTS: dict[Op, int] = {
    Op.ROUND: 10,
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
    Op.READ: 10,
    Op.MEMBERS: 8,
    Op.TRANSFER: 4,
    Op.SNAPSHOT: 4,
    Op.ANSWER: 6,
}
"""How often each operation comes in a storm."""

CALM: dict[Op, int] = {
    **WEIGHTS,
    Op.ROUND: 40,
    Op.TICK: 2,
    Op.TICK_ALL: 2,
    Op.TIME_OUT: 1,
    Op.SNAPSHOT: 10,
    Op.ANSWER: 10,
    Op.DELIVER: 8,
    Op.DELIVER_NEXT: 8,
    Op.DROP: 1,
    Op.PROPOSE: 30,
    Op.CUT: 0,
    Op.ISOLATE: 2,
    Op.SPLIT: 1,
    Op.HEAL: 3,
    Op.CRASH: 1,
    Op.BREAK_DISK: 0,
    Op.CRASH_ALL: 0,
}
"""How often where most goes well: much needs calm to come about."""

GROUPS: tuple[tuple[Op, ...], ...] = (
    (Op.CUT, Op.ISOLATE, Op.SPLIT),
    (Op.DROP, Op.DUPLICATE, Op.CRASH, Op.BREAK_DISK, Op.CRASH_ALL),
    (Op.TICK, Op.TICK_ALL, Op.TIME_OUT),
    (Op.FLOW,),
    (Op.SYNC, Op.DRAIN),
    (Op.PROPOSE,),
)
"""What comes more often in one run than in another."""

FEATURES: tuple[tuple[Op, ...], ...] = ((Op.READ,), (Op.MEMBERS,), (Op.TRANSFER,), (Op.SNAPSHOT, Op.ANSWER))
"""What a run may be without."""

PHASE = 40
"""Moves after which the weather may change."""


def _ops(rng: random.Random, length: int) -> list[Op]:
    """Operations in phases of calm and of storm."""
    scale = dict.fromkeys(WEIGHTS, 1.0)
    for groups, factors in ((GROUPS, (0.2, 0.5, 1, 2)), (FEATURES, (0, 0.5, 1, 2))):
        for group in groups:
            factor = rng.choice(factors)
            for op in group:
                scale[op] *= factor
    calm = rng.choice((0.2, 0.5, 0.8))
    ops: list[Op] = []
    while len(ops) < length:
        weights = CALM if rng.random() < calm else WEIGHTS
        scaled = [weights[op] * scale[op] for op in WEIGHTS]
        ops += rng.choices(list(WEIGHTS), scaled, k=min(PHASE, length - len(ops)))
    return ops


def _options(rng: random.Random) -> dict[str, object]:
    return {**rng.choice(PROFILES), **rng.choice(ELECTION_RULES), **rng.choice(SNAPSHOT_RULES)}


def seeded(seed: int, length: int) -> tuple[Setup, list[Move]]:
    """The setup and the moves that `seed` stands for."""
    rng = random.Random(seed)
    voters = rng.choice(SIZES)
    size = min(voters + rng.choice((0, 0, 1, 2, 3)), MOST)
    if rng.random() < 0.5:
        modes = (rng.choice(list(Mode)),) * size
    else:
        modes = tuple(rng.choices(list(Mode), k=size))
    options = _options(rng)
    mixed = rng.random() < 0.1 and not options.get("lease_reads")
    damage = rng.choice((0, 0, 3))
    setup = Setup(modes, tuple(options.items()), seed % 4 == 0, seed, voters, mixed, damage)
    return setup, [Move(op, rng.randrange(256), rng.randrange(256)) for op in _ops(rng, length)]


def run(setup: Setup, moves: Sequence[Move]) -> Cluster:
    """Do it all, then heal."""
    cluster = Cluster(setup)
    cluster.run(moves)
    heal(cluster)
    return cluster


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    """Clusters of 1 to 5, with up to 7 nodes."""
    voters = draw(st.sampled_from(sorted(SIZES)))
    size = min(voters + draw(st.integers(0, 2)), MOST)
    modes = draw(st.tuples(*[st.sampled_from(list(Mode)) for _ in range(size)]))
    options = {
        **draw(st.sampled_from(PROFILES)),
        **draw(st.sampled_from(ELECTION_RULES)),
        **draw(st.sampled_from(SNAPSHOT_RULES)),
    }
    return Setup(modes, tuple(options.items()), draw(st.booleans()), draw(st.integers(0, 1000)), voters)


def moves(most: int) -> st.SearchStrategy[list[Move]]:
    """Between half of `most` moves and all. A move shrinks to a rest: hypothesis makes most lists as short as
    it may, and short histories show little."""
    byte = st.integers(0, 255)
    weighted = [Op.REST, *[op for op in WEIGHTS for _ in range(WEIGHTS[op] + CALM[op])]]
    return st.lists(st.builds(Move, st.sampled_from(weighted), byte, byte), min_size=most // 2, max_size=most)
