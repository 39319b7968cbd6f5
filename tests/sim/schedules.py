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
    Op.DELAY: 10,
    Op.PROPOSE: 30,
    Op.CUT: 1,
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


ASIDE = [op for op in WEIGHTS if op not in (Op.HEAL, Op.CUT, Op.ISOLATE, Op.SPLIT, Op.CRASH_ALL, Op.TIME_OUT)]
"""What may happen while a leader is deposed."""


def _some(rng: random.Random, op: Op) -> Move:
    return Move(op, rng.randrange(256), rng.randrange(256))


def _cut_off(rng: random.Random) -> list[Move]:
    """The leader hears the others no more: right after a commit of which they do not know, after it has told
    another to take over, or after it was answered so late that its lease is all but over."""
    isolate = Move(Op.ISOLATE, rng.randrange(256), 1 + 4 * rng.randrange(8) + rng.choice((0, 0, 1, 2)))
    some = rng.randrange(1, 5)
    match rng.randrange(4):
        case 0:
            order = Move(Op.TRANSFER, 0, 1 + rng.randrange(7))
            after = [Move(Op.FLOW, 20, 0), _some(rng, Op.PROPOSE), Move(Op.FLOW, 20, 0), _some(rng, Op.READ)]
            return [Move(Op.ROUND, 2, 50), order, *[Move(Op.DELIVER_NEXT, 0, 0)] * some, isolate, *after]
        case 1:
            heartbeats = [Move(Op.TICK_ALL, 0, 2), *[Move(Op.DELIVER_NEXT, 0, 0)] * some]
            held = (
                [Move(Op.DELAY, 0, 0)] * some + [Move(Op.TICK_ALL, 0, 3 + some)] + [Move(Op.DROP, 0, 0)] * 9
            )
            rounds = [Move(Op.ROUND, rng.randrange(2), 60) for _ in range(rng.randrange(2, 5))]
            after = [
                Move(Op.PROPOSE, 1, 1),
                Move(Op.FLOW, 30, 0),
                *[Move(Op.READ, 0, 1), Move(Op.TICK_ALL, 0, 0)] * 3,
            ]
            return [*heartbeats, *held, Move(Op.RELEASE, 3, 0), isolate, *rounds, *after]
        case 2:
            timeouts = [_some(rng, Op.TIME_OUT), Move(Op.FLOW, rng.randrange(30), 0), _some(rng, Op.TIME_OUT)]
            return [_some(rng, Op.PROPOSE), Move(Op.FLOW, rng.randrange(12), 0), isolate, *timeouts]
        case _:
            return [_some(rng, Op.PROPOSE), Move(Op.FLOW, rng.randrange(12), 0), isolate]


def _coup(rng: random.Random, scale: dict[Op, float]) -> list[Move]:
    """A leader is deposed behind its back, and asked for reads all the while."""
    moves = _cut_off(rng)
    weights = [WEIGHTS[op] * scale[op] for op in ASIDE]
    for _ in range(8):
        match rng.randrange(3):
            case 0:
                moves += [Move(Op.ROUND, rng.randrange(3), rng.randrange(40)), _some(rng, Op.PROPOSE)]
            case 1:
                moves += [Move(Op.TICK_ALL, 0, rng.randrange(3)), Move(Op.FLOW, rng.randrange(16), 0)]
            case _:
                ops = (Op.DELIVER_NEXT, Op.DELIVER_NEXT, Op.READ, Op.DELIVER_NEXT)
                moves += [_some(rng, op) for op in ops]
        moves += [_some(rng, op) for op in (Op.READ, *rng.choices(ASIDE, weights, k=rng.randrange(3)))]
    return [*moves, Move(Op.HEAL, 0, 0)]


def _moves(rng: random.Random, length: int) -> list[Move]:
    """Phases of calm, of storm, and of coups."""
    scale = dict.fromkeys(WEIGHTS, 1.0)
    for groups, factors in ((GROUPS, (0.2, 0.5, 1, 2)), (FEATURES, (0, 0.5, 1, 2))):
        for group in groups:
            factor = rng.choice(factors)
            for op in group:
                scale[op] *= factor
    calm = rng.choice((0.2, 0.5, 0.8))
    moves: list[Move] = []
    while len(moves) < length:
        if rng.random() < 0.3:
            moves += _coup(rng, scale)
            continue
        weights = CALM if rng.random() < calm else WEIGHTS
        scaled = [weights[op] * scale[op] for op in WEIGHTS]
        for op in rng.choices(list(WEIGHTS), scaled, k=PHASE):
            moves.append(Move(op, rng.randrange(256), rng.randrange(256)))
    return moves[:length]


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
    return setup, _moves(rng, length)


def leased(seed: int, coups: int) -> tuple[Setup, list[Move]]:
    """As `seeded`, about leases: elections that come as early as they may, and reads where they are worst."""
    rng = random.Random(seed)
    voters = rng.choice((2, 3, 3, 4, 5))
    size = min(voters + rng.choice((0, 1, 2, 3)), MOST)
    shortest = rng.choice((5, 6, 10))
    options = {
        "lease_reads": True,
        "lease_margin": rng.choice((0, 2, 2, 4)),
        "election_timeout": (shortest, shortest + rng.choice((1, 2, 8))),
        "heartbeat_interval": rng.choice((1, 2, 3)),
        "pre_vote": rng.random() < 0.5,
        **rng.choice(SNAPSHOT_RULES),
    }
    modes = tuple(rng.choices(list(Mode), (6, 2, 1, 1), k=size))
    moves = [_some(rng, rng.choice((Op.ROUND, Op.MEMBERS))) for _ in range(20)]
    for _ in range(coups):
        moves += [Move(Op.ROUND, 2, 100)] * 8
        if rng.random() < 0.3:
            moves += [
                _some(rng, Op.MEMBERS),
                Move(Op.ROUND, 0, 100),
                _some(rng, Op.CRASH),
                _some(rng, Op.RESTART),
            ]
        moves += _coup(rng, dict.fromkeys(WEIGHTS, 0.3))
    return Setup(modes, tuple(options.items()), False, seed, voters), moves


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
