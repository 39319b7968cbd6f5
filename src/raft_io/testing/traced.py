"""A run, and the page that shows it."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from raft_io.kv.store import KeyValueStore
from raft_io.server import StateMachine
from raft_io.testing.page import write_page
from raft_io.testing.plan import Plan
from raft_io.testing.run import Outcome, run
from raft_io.testing.tracer import Tracer
from raft_io.testing.workload import Workload

__all__ = ["run_traced", "try_to_write"]


def try_to_write(path: str | PathLike[str]) -> None:
    """Raise `OSError` now, not when the work is done, if nothing can be written to `path`."""
    file = Path(path)
    is_new = not file.exists()
    file.open("a").close()
    if is_new:
        file.unlink()


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
