"""Many runs, on as many processors and machines as there are."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

from raft_io.kv.store import KeyValueStore
from raft_io.server import StateMachine
from raft_io.testing.plan import Plan
from raft_io.testing.run import CRASH, LIVENESS, Outcome, run
from raft_io.testing.workload import Workload

__all__ = ["Summary", "kind_of", "summary", "sweep"]

BATCH: Final = 4
"""Seeds that a worker is given at a time."""


@final
@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a run. `kind`: `""` if it went well, else `"safety"`, `"liveness"` or `"crash"`;
    `took` is in real seconds, `seconds` in simulated ones; `place`: of the plan among all, from 1 on."""

    seed: int
    kind: str
    check: str
    failure: str
    seconds: float
    operations: int
    messages: int
    faults: int
    digest: str
    took: float
    place: int = 1


def kind_of(outcome: Outcome) -> str:
    """What kind of failure it is."""
    if outcome.failure is None:
        return ""
    check = outcome.failure.check
    return "crash" if check == CRASH else "liveness" if check in LIVENESS else "safety"


def summary(outcome: Outcome, took: float, place: int = 1) -> Summary:
    """The outcome in a few words."""
    failure = outcome.failure
    return Summary(
        outcome.plan.seed,
        kind_of(outcome),
        "" if failure is None else failure.check,
        "" if failure is None else str(failure),
        outcome.seconds,
        outcome.operations,
        outcome.messages,
        outcome.faults,
        outcome.digest,
        took,
        place,
    )


def sweep(
    plans: Iterable[Plan],
    machine: Callable[[], StateMachine] = KeyValueStore,
    workload: Callable[[], Workload] | None = None,
    *,
    jobs: int = 1,
    dask: str | None = None,
) -> Iterator[Summary]:
    """Run all `plans`; what came of each, as they are done. `jobs`: how many at the same time on this
    machine (`-1`: as many as it has processors), for which joblib must be installed; `dask`: the address
    of the scheduler of a Dask cluster, on whose workers this package is installed. Raises `ImportError`
    without them."""
    if jobs == 1 and dask is None:
        for place, plan in enumerate(plans, 1):
            yield _one(place, plan, machine, workload)
        return
    joblib: Any = importlib.import_module("joblib")

    work = joblib.delayed(_one)
    tasks = (work(place, plan, machine, workload) for place, plan in enumerate(plans, 1))
    if dask is None:
        yield from joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=BATCH)(tasks)
        return
    distributed: Any = importlib.import_module("distributed")

    with distributed.Client(dask), joblib.parallel_config(backend="dask"):
        yield from joblib.Parallel(return_as="generator_unordered")(tasks)


def _one(
    place: int, plan: Plan, machine: Callable[[], StateMachine], workload: Callable[[], Workload] | None
) -> Summary:
    began = time.perf_counter()
    outcome = run(plan, machine, workload)
    return summary(outcome, time.perf_counter() - began, place)
