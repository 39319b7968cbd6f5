"""From a seed to a plan. Runs differ in kind, not only in detail: each has a few kinds of faults and knows
nothing of the others, has a configuration of its own, much work or little (Groce et al., "Swarm testing")."""

from __future__ import annotations

import random
from typing import Any, Final

from raft_io.testing.faults import KINDS
from raft_io.testing.plan import LEADER, NO_LEASES, Fault, Load, Network, Plan
from raft_io.testing.stories import STORIES, tell
from raft_io.testing.timeline import stream

__all__ = ["draw"]

SECONDS: Final = 60.0
"""Simulated seconds with faults, of every run."""

MANY_KEYS: Final = 100_000
"""More than are used in a run."""

STORIES_TOLD: Final = 0.4
"""Share of the runs that follow a story."""

LEASED_DRIFT: Final = {2: 0.03, 4: 0.1}
"""By how much clocks may differ from the true rate, for each lease margin: within ten ticks, the shortest
election timeout, two of them then differ by less than the margin, less the tick that a clock is coarse by."""


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng, teller = stream(seed, "plan"), stream(seed, "story")
    story = teller.choice(STORIES) if teller.random() < STORIES_TOLD else None
    voters = rng.choices((1, 2, 3, 4, 5, 7), (1, 2, 8, 1, 4, 1))[0]
    spares = rng.choices((0, 1, 2), (4, 3, 3))[0]
    steady = rng.random() < 0.3 if story is None else story.leases
    """Whether clocks are good enough for leases."""
    options = _options(rng, steady)
    clients = rng.choice((3, 5, 5, 10))
    max_keys = rng.choice((MANY_KEYS, MANY_KEYS, 3, 20))
    plan = Plan(
        seed=seed,
        seconds=SECONDS,
        voters=voters,
        spares=spares,
        options=options,
        segment=rng.choice((1024, 4096, 65536)),
        tail=rng.choice((0, 1024, 8192, 65536)),
        network=_network(rng),
        slow_disk=rng.choice((0.0, 0.01, 0.05)),
        skew=rng.choice((0.0, 0.5, 10.0)),
        drift=LEASED_DRIFT[options["lease_margin"]] if steady else rng.choice((0.0, 0.01, 0.1)),
        # Few enough that some are forgotten, not so few that every entry makes another one be forgotten.
        max_sessions=rng.choice((1024, 1024, max(voters - 1, 2), voters + 1)),
        max_keys=max_keys,
        load=Load(
            clients=clients,
            # Enough for some 1200 operations where nothing goes wrong; for more where leases shall be caught.
            think=SECONDS * clients / (1200 if not steady else 2400),
            reads=rng.choice((0.1, 0.3, 0.6)),
            keyed=rng.choice((0.0, 0.5, 1.0)),
            wanders=max_keys == MANY_KEYS,
            keys=rng.choice((1, 3, 8)),
            patience=rng.choice((1.0, 3.0)),
            longer=rng.choice((0, 0, 3000)),
        ),
        faults=_faults(rng, voters + spares, steady),
        missing=rng.random() < 0.5,
    )
    return plan if story is None else tell(teller, story, plan)


def _options(rng: random.Random, steady: bool) -> dict[str, Any]:
    """A configuration: mostly the usual timing, and limits that are often hit."""
    options: dict[str, Any] = {"snapshot_threshold": rng.choice((0, 20, 60, 200))}
    options["election_timeout"] = rng.choice(((10, 20), (10, 20), (8, 9), (8, 12), (20, 40)))
    options["heartbeat_interval"] = rng.choice((1, 3, 3))
    options["snapshot_chunk"] = rng.choice((200, 1000, 65536))
    if rng.random() < 0.3:
        options["max_batch"] = rng.choice((1, 2, 8))
    if rng.random() < 0.3:
        options["max_inflight"] = rng.choice((1, 2, 4))
    if rng.random() < 0.2:
        options["max_batch_bytes"] = rng.choice((100, 1000))
    if rng.random() < 0.2:
        options["max_uncommitted_bytes"] = 2000
    if rng.random() < 0.2:
        options["max_apply_bytes"] = rng.choice((100, 1000))
    # The plain protocol of the paper, or some of what keeps leaders in office.
    options["pre_vote"], options["check_quorum"] = rng.choices(
        ((True, True), (False, True), (True, False), (False, False)), (7, 1, 1, 2)
    )[0]
    if steady:
        options["lease_reads"] = True
        options["pre_vote"] = options["check_quorum"] = True
        options["election_timeout"] = rng.choice(((10, 11), (10, 12), (10, 20)))
        options["lease_margin"] = rng.choice(tuple(LEASED_DRIFT))
    return options


def _network(rng: random.Random) -> Network:
    kind = rng.random()
    if kind < 0.5:
        return Network()
    if kind < 0.8:
        return Network(0.0005, 0.02, lost=0.01, doubled=0.01, late=0.02)
    return Network(0.001, 0.05, lost=0.05, doubled=0.05, late=0.1)


RATES: Final[dict[str, float]] = {
    **dict.fromkeys(("partition", "one-way", "isolate", "deaf", "mute", "bridge", "cut-link", "flap"), 4.0),
    **dict.fromkeys(("slow-link", "lossy"), 3.0),
    "echo": 6.0,
    "reconnect": 20.0,
    "crash": 8.0,
    "kill": 8.0,
    "crash-between": 12.0,
    "kill-between": 8.0,
    "crash-all": 1.0,
    "rolling": 1.0,
    "reconfigure": 1.0,
    "pause": 8.0,
    "wipe": 1.5,
    **dict.fromkeys(("drift", "wall-jump"), 3.0),
    **dict.fromkeys(("io-error", "full-disk", "slow-disk", "hung-disk"), 3.0),
    "rot": 2.0,
    "change": 10.0,
    "join": 3.0,
    "transfer": 12.0,
    "snapshot": 10.0,
    "slow-way": 3.0,
    "remove": 1.0,
    "rush": 2.0,
}
"""How often each kind happens in a minute, in a run that has it."""

AMOUNTS: Final = {
    "lossy": (0.05, 0.2, 0.5),
    "slow-link": (0.02, 0.1, 0.4),
    "slow-way": (0.1, 0.3, 1.0),
    "echo": (0.3, 1.0, 3.0, 10.0),
    "slow-disk": (0.01, 0.1, 0.5),
    "drift": (0.2, 0.5, 2.0, 5.0),
}
"""How much of it, for kinds of which there is more or less."""

OFTEN: Final = frozenset({"change", "transfer", "crash", "crash-between"})
"""Kinds that most runs have."""


def _faults(rng: random.Random, nodes: int, steady: bool) -> tuple[Fault, ...]:
    share = rng.choice((0.15, 0.3, 0.6))
    pace = rng.choice((0.3, 1.0, 2.0))
    chained = rng.choice((0.0, 0.0, 0.3))
    faults: list[Fault] = []
    for kind, rate in RATES.items():
        wanted = rng.random() < (max(share, 0.5) if kind in OFTEN else share)
        if not wanted or (steady and kind in NO_LEASES):
            continue
        when = 1.0
        while True:
            when += rng.expovariate(pace * rate / 60.0)
            if when >= SECONDS - 1.0:
                break
            faults += _fault(rng, kind, when, nodes)
            if rng.random() < chained:
                faults.append(_next(rng, faults[-1]))
    return tuple(sorted([fault for fault in faults if fault.at < SECONDS], key=lambda fault: fault.at))


def _next(rng: random.Random, fault: Fault) -> Fault:
    """Another trouble of the same node, while it still has the first."""
    kind = rng.choice(("isolate", "isolate", "deaf", "mute", "pause", "kill", "crash"))
    lasts = rng.choice((0.05, 0.3, 1.0, 3.0)) * rng.uniform(0.5, 1.5)
    when = fault.at + rng.uniform(0.0, max(fault.lasts, 0.3))
    return Fault(round(when, 4), kind, fault.who, fault.whom, round(lasts, 4))


def _fault(rng: random.Random, kind: str, when: float, nodes: int) -> list[Fault]:
    who = LEADER if rng.random() < 0.5 else rng.randint(1, nodes)
    whom = rng.randint(1, nodes)
    # Short troubles and long ones find different bugs.
    lasts = rng.choice((0.05, 0.3, 1.0, 3.0)) * rng.uniform(0.5, 1.5)
    amount = 0.0
    if kind in ("partition", "one-way"):
        amount = float(rng.randrange(1, 2 ** (nodes + 1)))
    elif kind == "crash-between":
        amount = float(rng.randrange(12))
    elif kind == "kill-between":
        amount = float(rng.randrange(64))
    elif kind == "reconfigure":
        amount = float(rng.randrange(2))
    elif kind in AMOUNTS:
        amount = rng.choice(AMOUNTS[kind])
    elif kind == "wall-jump":
        amount = rng.uniform(-30.0, 30.0)
    elif kind in ("change", "join"):
        who = rng.randint(1, nodes)
        amount = float(rng.randrange(1000))
    assert kind in KINDS
    fault = Fault(round(when, 4), kind, who, whom, round(lasts, 4), amount)
    if kind == "kill" and rng.random() < 0.3:
        # What the killed process left in the system's memory must not be taken for durable.
        node = whom
        again = when + lasts + rng.uniform(0.05, 1.0)
        killed = Fault(fault.at, kind, node, whom, fault.lasts)
        return [killed, Fault(round(again, 4), "crash", node, whom, 0.3)]
    if kind == "slow-link" and rng.random() < 0.5:
        # What is slow to come back outlives whoever waits for it: others have elected a leader meanwhile.
        slow = Fault(fault.at, kind, who, whom, round(max(lasts, 1.0), 4), rng.choice((0.2, 0.4, 0.8)))
        cut = round(when + rng.uniform(0.3, slow.lasts), 4)
        return [slow, Fault(cut, "isolate", who, whom, round(rng.uniform(0.5, 3.0), 4))]
    if kind == "snapshot" and rng.random() < 0.4:
        soon = round(when + rng.uniform(0.0, 0.1), 4)
        return [fault, Fault(soon, "crash-between", who, whom, 0.0, float(rng.randrange(12)))]
    return [fault]
