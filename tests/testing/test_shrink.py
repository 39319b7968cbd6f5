"""Smaller failures."""

from __future__ import annotations

from raft_io.testing import Fault, Outcome, Plan, ViolationError, draw, shrink


def outcome_of(plan: Plan, failure: ViolationError | None) -> Outcome:
    return Outcome(plan, failure, plan.seconds, 0, 0, len(plan.faults), "")


def attempt(plan: Plan) -> Outcome:
    """Fails 1 s after a pause that follows a crash."""
    if plan.voters < 3:
        return outcome_of(plan, ViolationError("another", 0, "too small", 0.0))
    crashed = False
    for fault in plan.faults:
        crashed = crashed or fault.kind == "crash"
        if crashed and fault.kind == "pause" and fault.at + 1.0 < plan.seconds:
            return outcome_of(plan, ViolationError("it", 0, "two faults", fault.at + 1.0))
    return outcome_of(plan, None)


def test_only_what_is_needed_is_left() -> None:
    others = [Fault(float(n), kind, 1, lasts=2.0) for n, kind in enumerate(("kill", "flap", "lossy") * 6, 1)]
    needed = [Fault(3.5, "crash", 1, lasts=3.0), Fault(9.5, "pause", 2, lasts=1.0)]
    faults = tuple(sorted([*others, *needed], key=lambda fault: fault.at))
    plan = draw(2).with_faults(faults)
    told: list[Plan] = []
    found = shrink(attempt(plan), attempt, told.append)
    assert [(fault.at, fault.kind) for fault in found.plan.faults] == [(3.5, "crash"), (9.5, "pause")]
    assert all(fault.lasts <= 0.1 for fault in found.plan.faults)
    assert found.plan.seconds < 10.6
    assert found.plan.options == {}
    assert (found.plan.voters, found.plan.spares, found.plan.load.clients) == (3, 0, 1)
    assert found.failure is not None and found.failure.check == "it"
    assert told[-1] == found.plan


def test_another_failure_is_not_taken_for_the_same() -> None:
    plan = Plan(1, faults=(Fault(1.0, "crash", 1), Fault(2.0, "pause", 1)))
    found = shrink(attempt(plan), attempt)
    assert found.plan.voters == 3
