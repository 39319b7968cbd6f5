"""Runs that lead again and again to where bugs of one class show, as faults drawn one by one hardly do: they
know in what order things must happen, and to whom. All else about them is drawn as ever."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from raft_io.testing.plan import Fault, Plan

__all__ = ["STORIES", "Story", "tell"]

Range = tuple[float, float]


@dataclass(frozen=True)
class Step:
    """`wait` seconds after the step before something happens to somebody. Nodes have letters, others each
    time; for a partition `who` are those of one side."""

    wait: Range
    kind: str
    who: str = ""
    whom: str = ""
    lasts: Range = (0.0, 0.0)
    amount: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class Story:
    """Steps that are taken again and again. `leases`: whether they are about lease reads. `needs`: what the
    plan must be, of which values; options, and what clients do, have their section before a dot."""

    name: str
    steps: tuple[Step, ...]
    needs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    leases: bool = False


NOW: Final = (0.0, 0.0)
LATER: Final = (0.7, 1.0)
"""A leader is in office by then, and has an entry of its own committed."""

EAGER: Final = {"load.clients": (10,), "load.patience": (0.3,)}
"""Clients that no dead end holds for long."""

SMALL_LOG: Final = {
    "segment": (1024,),
    "tail": (0,),
    "load.longer": (3000,),
    "options.snapshot_threshold": (20, 60),
}
"""A log of which little is kept behind a snapshot."""

PLAIN: Final = {"options.pre_vote": (False,), "options.check_quorum": (False,)}


def _late_answers(name: str, *, leases: bool, needs: Mapping[str, tuple[Any, ...]]) -> Story:
    return Story(
        name,
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "slow-way", "b", "a", (2.5, 2.5), (0.15, 0.3, 0.4)),
            Step(NOW, "slow-way", "c", "a", (2.5, 2.5), (0.15, 0.3, 0.4)),
            Step((0.3, 0.6), "cut-link", "a", "c", (1.5, 1.5)),
            Step((0.0, 0.4), "mute", "a", "", (1.0, 1.5)),
            Step((0.1, 0.3), "rush", lasts=(1.0, 1.0)),
        ),
        {"voters": (3,), "load.reads": (0.6, 0.8), **EAGER, **needs},
        leases,
    )


STORIES: Final = (
    # The leader hears from before it lost its office.
    _late_answers("late answers", leases=False, needs=PLAIN),
    _late_answers("late answers and a lease", leases=True, needs={}),
    Story(
        "a lease that ends",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "isolate", "a", "", (0.6, 1.0)),
            Step((0.1, 0.1), "rush", lasts=(0.6, 0.6)),
        ),
        {
            "voters": (3,),
            "load.reads": (0.6,),
            "options.election_timeout": ((10, 11),),
            "options.lease_margin": (4,),
            "drift": (0.1,),
            "slow_disk": (0.0,),
            **EAGER,
        },
        leases=True,
    ),
    Story(
        "a later term under a lease",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "slow-way", "c", "b", (1.0, 1.0), (0.05, 0.1, 0.15)),
            Step(NOW, "slow-way", "c", "d", (1.0, 1.0), (0.05, 0.1)),
            Step((0.0, 0.1), "partition", "ae", "", (0.24, 0.4)),
            Step((0.27, 0.45), "isolate", "a", "", (0.6, 0.6)),
            Step((0.1, 0.1), "rush", lasts=(0.6, 0.6)),
        ),
        {
            "voters": (5,),
            "load.reads": (0.8, 0.9),
            "options.election_timeout": ((10, 11), (10, 12), (10, 15)),
            **EAGER,
        },
        leases=True,
    ),
    Story(
        "a restart under a lease",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "cut-link", "a", "c", (2.0, 2.0)),
            Step((0.25, 0.9), "isolate", "a", "", (1.0, 1.0)),
            Step(NOW, "kill", "b", "", (0.01, 0.03)),
            Step(NOW, "rush", lasts=(0.8, 0.8)),
        ),
        {"voters": (3,), "load.reads": (0.8, 0.95), **EAGER, "load.clients": (5,)},
        leases=True,
    ),
    Story(
        "a transfer under a lease",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "rush", lasts=(0.8, 0.8)),
            Step((0.0, 0.1), "transfer", whom="b"),
            Step((0.0, 0.02), "deaf", "a", "", (0.5, 0.8)),
        ),
        {"voters": (3,), "load.reads": (0.6, 0.8), **EAGER},
        leases=True,
    ),
    # Orders to campaign.
    Story(
        "an order of an earlier term",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "slow-way", "a", "b", (2.0, 2.0), (0.9,)),
            Step((0.0, 0.005), "transfer", whom="b"),
            Step((0.3, 0.5), "transfer", whom="c"),
            Step((0.35, 0.45), "isolate", "c", "", (0.6, 0.6)),
            Step(NOW, "rush", lasts=(0.6, 0.6)),
        ),
        {
            "voters": (5,),
            "load.reads": (0.6, 0.8),
            "options.election_timeout": ((10, 11), (10, 12)),
            **EAGER,
        },
        leases=True,
    ),
    Story(
        "an order that was given up",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "slow-way", "a", "b", (3.0, 3.0), (0.15, 0.25, 0.35, 0.45, 0.7)),
            Step((0.4, 0.6), "transfer", whom="b"),
            Step((0.2, 0.8), "mute", "b", "", (0.3, 1.0)),
        ),
        {"voters": (3, 5)},
    ),
    Story(
        "a target that is lost",
        (
            Step((0.5, 1.0), "transfer", whom="b"),
            Step((0.0, 0.01), "mute", "b", "", (1.0, 3.0)),
            Step((0.0, 0.1), "crash", "b", "", (1.0, 3.0)),
        ),
        {"voters": (3, 5), "load.patience": (1.0, 10.0)},
    ),
    # Logs that differ.
    Story(
        "acknowledgements of an earlier term",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step((0.5, 0.7), "echo", "b", "", (5.0, 5.0), (1.0, 3.0)),
            Step(NOW, "rush", lasts=(1.2, 1.2)),
            Step((0.1, 0.3), "partition", "ab", "", (0.6, 1.2)),
            Step((0.7, 1.3), "transfer", whom="a"),
            Step((0.2, 0.2), "transfer", whom="a"),
        ),
        {"voters": (5,), "load.reads": (0.1,), **EAGER},
    ),
    Story(
        "a tail behind a snapshot",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step((0.5, 0.7), "rush", lasts=(0.5, 0.5)),
            Step((0.0, 0.1), "partition", "a", "", (0.8, 1.2)),
            *[Step((0.15, 0.25), "snapshot", kind) for kind in ("b", "c", "b", "c", "b", "c")],
        ),
        {"voters": (3,), "load.reads": (0.1,), **EAGER, **SMALL_LOG, **PLAIN},
    ),
    Story(
        "a leader that takes itself out",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "mute", "a", "", (0.1, 0.3)),
            Step((0.0, 0.02), "remove", "a"),
            Step((0.01, 0.08), "kill", "a", "", (0.1, 0.3)),
            Step((1.5, 2.0), "join", "a"),
        ),
        {"voters": (2,)},
    ),
    # Disks.
    Story(
        "torn, and written over",
        (
            Step((0.3, 0.3), "transfer", whom="a"),
            Step(LATER, "rush", lasts=(0.3, 0.3)),
            Step((0.05, 0.2), "crash-between", "a", amount=tuple(range(8))),
            Step((0.1, 0.2), "isolate", "a", "", (2.0, 2.0)),
            Step((0.8, 1.2), "kill", "a", "", (0.02, 0.1)),
            Step((0.3, 0.6), "kill", "a", "", (0.02, 0.1)),
        ),
        {"voters": (3,), "load.longer": (3000,), "segment": (65536,), "load.reads": (0.1,), **PLAIN},
    ),
    Story(
        "killed, and torn",
        (Step((0.3, 1.0), "kill-between", "a", amount=tuple(range(64))),),
        {"load.reads": (0.1,)},
    ),
    # Sessions.
    Story(
        "a session that is evicted",
        (
            Step((0.5, 1.0), "rush", lasts=(2.0, 2.0)),
            Step((0.1, 0.5), "deaf", "a", "", (1.5, 2.5)),
            Step((0.2, 0.4), "kill", "b", "", (0.02, 0.05)),
            Step((0.4, 0.6), "kill", "c", "", (0.02, 0.05)),
            Step((0.4, 0.6), "snapshot", "b"),
            Step(NOW, "snapshot", "c"),
        ),
        {
            "voters": (3,),
            "max_sessions": (2, 3),
            "load.patience": (10.0,),
            "load.reads": (0.1,),
            "load.clients": (10,),
            **SMALL_LOG,
        },
    ),
)
"""All stories."""


def tell(rng: random.Random, story: Story, plan: Plan) -> Plan:
    """`plan`, with `story` all through it, and fewer of the faults that it had."""
    for name, values in story.needs.items():
        section, _, key = name.rpartition(".")
        value = rng.choice(values)
        if section == "options":
            plan = replace(plan, options={**plan.options, key: value})
        elif section:
            plan = replace(plan, **{section: replace(getattr(plan, section), **{key: value})})
        else:
            plan = replace(plan, **{key: value})
    if "max_sessions" not in story.needs:
        plan = replace(plan, max_sessions=max(plan.max_sessions, plan.voters - 1))
    share = rng.choice((0.0, 0.0, 0.1, 0.4))
    faults = [fault for fault in plan.faults if rng.random() < share]
    now = 1.0
    while now < plan.seconds - 2.0:
        names = dict(zip("abcde", rng.sample(range(1, plan.voters + 1), plan.voters), strict=False))
        for step in story.steps:
            now += rng.uniform(*step.wait)
            amount = float(rng.choice(step.amount))
            if step.kind == "partition":
                amount = float(sum(1 << names[name] for name in step.who))
            who, whom = names.get(step.who, 0), names.get(step.whom, 0)
            faults.append(
                Fault(round(now, 4), step.kind, who, whom, round(rng.uniform(*step.lasts), 4), amount)
            )
        now += rng.uniform(1.0, 2.5)
    faults = [fault for fault in faults if fault.at < plan.seconds]
    return plan.with_faults(tuple(sorted(faults, key=lambda fault: fault.at)))
