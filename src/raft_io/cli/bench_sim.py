"""`raft-io bench sim`: how fast the simulator is, with faults and all checks, on one core."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count, islice
from time import process_time

from raft_io.testing import Plan, draw, run

__all__ = ["SimResult", "measure_sim"]


@dataclass(frozen=True)
class SimResult:
    """One row: runs of one kind. In a second of processor time: how many simulated `seconds`, how many
    `messages` delivered, how many `operations` of clients."""

    what: str
    runs: int
    seconds: float
    messages: float
    operations: float


def measure_sim(runs: int, say: Callable[[str], None]) -> list[SimResult]:
    """Run the first so many seeds of three nodes, and the first of any size."""
    plans = map(draw, count(1))
    three = islice((plan for plan in plans if plan.voters == 3 and not plan.spares), runs)
    say(f"{runs} runs of three nodes")
    result = _measure("three", three)
    say(f"{runs} runs of one to nine nodes")
    return [result, _measure("one to nine", map(draw, range(1, runs + 1)))]


def _measure(what: str, plans: Iterable[Plan]) -> SimResult:
    began = process_time()
    outcomes = [run(plan) for plan in plans]
    took = process_time() - began
    seconds = sum(outcome.seconds for outcome in outcomes) / took
    messages = sum(outcome.messages for outcome in outcomes) / took
    operations = sum(outcome.operations for outcome in outcomes) / took
    return SimResult(what, len(outcomes), seconds, messages, operations)
