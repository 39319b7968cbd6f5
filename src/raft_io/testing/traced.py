"""A run, and the page that shows it."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike

from raft_io.kv.store import KeyValueStore
from raft_io.server import StateMachine
from raft_io.testing.page import write_page
from raft_io.testing.plan import Plan
from raft_io.testing.run import Outcome, run
from raft_io.testing.tracer import Tracer
from raft_io.testing.workload import Workload

__all__ = ["run_traced"]


def run_traced(
    plan: Plan,
    path: str | PathLike[str],
    machine: Callable[[], StateMachine] = KeyValueStore,
    workload: Callable[[], Workload] | None = None,
) -> Outcome:
    """Carry out a plan, and write what happened to `path` as an HTML page. Raises `OSError`."""
    tracer = Tracer()
    outcome = run(plan, machine, workload, watcher=tracer)
    with open(path, "w") as stream:
        write_page(tracer.trace(outcome.plan, outcome.seconds, outcome.failure), stream)
    return outcome
