"""Makes a plan that fails smaller, as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from raft_io.testing.drawing import SECONDS
from raft_io.testing.plan import Fault, Network, Plan
from raft_io.testing.run import Outcome

__all__ = ["shrink"]

MARGIN: Final = 0.001
"""Seconds that a run lasts longer than what failed in it."""


def shrink(
    outcome: Outcome, attempt: Callable[[Plan], Outcome], told: Callable[[Plan], object] = lambda plan: None
) -> Outcome:
    """The smallest schedule that is found to fail as `outcome` did: with the same check. `attempt` runs a
    plan; `told` hears of each that is smaller. Returns how that one fails.

    First the time, then faults in halves, quarters and one by one (Zeller's delta debugging), then
    everything else that a plan has, until nothing more can go.
    """
    assert outcome.failure is not None, "it did not fail"
    best = outcome
    while True:
        before = best.plan
        for step in (_sooner, _fewer_faults, _shorter_faults, _plainer):
            best = _take(best, step, attempt, told)
        if best.plan == before:
            return best


def _take(
    best: Outcome,
    step: Callable[[Outcome], Iterator[Plan]],
    attempt: Callable[[Plan], Outcome],
    told: Callable[[Plan], object],
) -> Outcome:
    """Whatever `step` proposes and still fails, again and again."""
    assert best.failure is not None
    tried: set[str] = set()
    found = True
    while found:
        found = False
        for plan in step(best):
            text = plan.to_json()
            if text in tried:
                continue
            tried.add(text)
            outcome = attempt(plan)
            if outcome.failure is not None and _kind(outcome) == _kind(best):
                best = outcome
                found = True
                told(plan)
                break
    return best


def _kind(outcome: Outcome) -> tuple[str, int]:
    assert outcome.failure is not None
    return outcome.failure.check, outcome.failure.number


def _sooner(best: Outcome) -> Iterator[Plan]:
    """No faults after the failure; and if it came before all was healed, no time either."""
    plan, failure = best.plan, best.failure
    assert failure is not None
    left = tuple(fault for fault in plan.faults if fault.at <= failure.at)
    if len(left) < len(plan.faults):
        yield plan.with_faults(left)
    if failure.at + MARGIN < plan.seconds:
        yield replace(plan, seconds=failure.at + MARGIN, faults=left)
    elif failure.at > plan.seconds and plan.seconds > 1.0:
        for share in (0.25, 0.5, 0.75):
            yield replace(plan, seconds=round(plan.seconds * share, 3))


def _fewer_faults(best: Outcome) -> Iterator[Plan]:
    plan = best.plan
    size = len(plan.faults)
    while size:
        for start in range(0, len(plan.faults), size):
            yield plan.with_faults(plan.faults[:start] + plan.faults[start + size :])
        size //= 2


def _shorter_faults(best: Outcome) -> Iterator[Plan]:
    plan = best.plan
    for place, fault in enumerate(plan.faults):
        for simpler in _simpler(fault):
            yield plan.with_faults((*plan.faults[:place], simpler, *plan.faults[place + 1 :]))


def _simpler(fault: Fault) -> Sequence[Fault]:
    found = []
    if fault.lasts > 0.1:
        found.append(replace(fault, lasts=round(fault.lasts / 2, 3)))
    return found


def _plainer(best: Outcome) -> Iterator[Plan]:
    """The same with less of everything that is not usual."""
    plan = best.plan
    usual = Plan(seed=plan.seed, seconds=SECONDS)
    for name in plan.options:
        yield replace(plan, options={key: value for key, value in plan.options.items() if key != name})
    if plan.network != Network():
        yield replace(plan, network=Network())
    for name in ("slow_disk", "skew", "drift", "spares", "missing"):
        if getattr(plan, name):
            yield replace(plan, **{name: type(getattr(plan, name))(0)})
    for name in ("segment", "tail"):
        if getattr(plan, name) != getattr(usual, name):
            yield replace(plan, **{name: getattr(usual, name)})
    if plan.load.clients > 1:
        yield replace(plan, load=replace(plan.load, clients=plan.load.clients - 1))
    if plan.load.keys > 1:
        yield replace(plan, load=replace(plan.load, keys=1))
    for fewer in range(1, plan.voters):
        yield replace(plan, voters=fewer, spares=0)
