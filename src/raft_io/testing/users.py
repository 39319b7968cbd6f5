"""For users: their own state machine, put through the same storms."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Final, final

from raft_io.server import StateMachine
from raft_io.testing.checks.base import told
from raft_io.testing.drawing import draw
from raft_io.testing.plan import Plan
from raft_io.testing.run import Outcome, run
from raft_io.testing.shrink import shrink as shrunk
from raft_io.testing.sweep import Summary, sweep
from raft_io.testing.traced import run_traced, try_to_write
from raft_io.testing.workload import Operation, Workload, WorkloadError

__all__ = ["Report", "SimulationFailedError", "seeds_of", "simulate"]

Commands = Callable[[random.Random, int], "Operation | bytes"]
"""Makes the next operation of a client, from random numbers and the client's number; bytes are a command."""


@final
@dataclass(frozen=True, slots=True)
class Report:
    """What was simulated: every run went well. Seconds are simulated ones."""

    runs: int
    seconds: float
    operations: int
    messages: int
    faults: int


class SimulationFailedError(AssertionError):
    """A run failed. `seed` is the run's, `failure` says what was found and when, `plan` what was done to the
    cluster: with `shrink` the smallest that is found to fail in the same way. `page`: the file that shows it.
    """

    def __init__(self, seed: int, failure: str, plan: Plan, page: str = "") -> None:
        super().__init__(seed, failure, plan, page)
        self.seed = seed
        self.failure = failure
        self.plan = plan
        self.page = page

    def __str__(self) -> str:
        more = (
            f'again, and as a page: simulate(..., seeds=[{self.seed}], shrink=True, trace="{self.seed}.html")'
        )
        if self.page:
            more = f"{self.page} shows it"
        return f"seed {self.seed}: {self.failure}; {more}"


@final
class _Made:
    """A workload from a function."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def next(self, rng: random.Random, client: int) -> bytes | Operation:
        return self._commands(rng, client)


@final
class _Maker:
    """Makes the same workload for every run, also in another process."""

    def __init__(self, workload: Workload | Commands) -> None:
        self._workload = workload

    def __call__(self) -> Workload:
        workload: Any = self._workload
        if not hasattr(workload, "next"):
            return _Made(workload)
        try:
            copied: Workload = copy.deepcopy(workload)
        except Exception as error:
            raise WorkloadError(
                f"every run gets a copy of the workload, which raised {told(error)}"
            ) from error
        return copied


def seeds_of(seeds: int | Iterable[int]) -> Sequence[int]:
    """The seeds that are meant: so many, or these. Raises `ValueError` for none, or for what is no number."""
    wanted: Any = range(1, seeds + 1) if isinstance(seeds, int) else seeds
    chosen: list[int] = list(wanted) if isinstance(wanted, Iterable) else []
    if not chosen or not all(isinstance(seed, int) for seed in chosen):
        raise ValueError(f"seeds is a number of runs, at least 1, or whole numbers, not {seeds!r}")
    return chosen


def _check(machine: Any, workload: Any) -> None:
    if not callable(machine):
        name = type(machine).__name__
        raise TypeError(f"machine is called to make each replica: pass {name}, not one that is made")
    if isinstance(workload, type):
        raise TypeError(f"a workload is a function or an object: pass {workload.__name__}(), not the class")


def simulate(
    machine: Callable[[], StateMachine],
    workload: Workload | Commands,
    *,
    seeds: int | Iterable[int] = 50,
    jobs: int = 1,
    shrink: bool = False,
    trace: str | PathLike[str] | None = None,
    on_run: Callable[[Summary], object] | None = None,
) -> Report:
    """Run replicas of a state machine on simulated clusters that lose messages, crash, lose power, change
    their members, take and install snapshots, and check after every step that all of it goes unnoticed.

    `machine` makes a replica. `workload` says what clients ask for: a function of random numbers and a
    client's number that returns a command or an `Operation`, or an object with such a method `next` and a
    `fingerprint` (see `Workload`), of which every run gets a copy. It must draw everything that is random
    from the numbers it is given. `seeds`: so many runs, from seed 1 on, or these; each is at least 60
    simulated seconds. `jobs`: runs at the same time, with joblib installed. `on_run` is told of each run.

    Of a run that fails, `shrink` looks for the fewest faults and clients with which it still does, in a
    hundred runs or so, and `trace` is where to write an HTML page that shows it.

    Raises `SimulationFailedError` for the first run that is found to fail, `WorkloadError` for a workload
    that raises or returns something else, `ValueError` for no seeds, `TypeError` for a machine or a workload
    that is none, `OSError` if nothing can be written to `trace`.

    It checks that replicas agree, with each other and with a machine that is never restored, and that no read
    is older than it may be; not that `apply` and queries are right: a mistake that all of them make alike is
    not found. What it finds in a state machine: results or states that differ between replicas, as `apply`
    depends on a clock, on random numbers or on the order in which a set was filled; state that `restore`
    loses, or that `capture` shares with what `apply` changes later; exceptions. State that `capture` leaves
    out is found if it shows in what a command or a query answers, or in a `fingerprint` of yours: without
    one, two machines are in the same state that would save the same. Answers are compared as `==` says; what
    equals nothing but itself is not compared, nor are iterators. So `machine` is called once more than there
    are nodes, and a query is asked more than once: it may depend on the machine alone, and change nothing.

    >>> class Counter(StateMachine):
    ...     def __init__(self) -> None:
    ...         self.total = 0
    ...     def apply(self, command: bytes) -> bytes:
    ...         self.total += int(command)
    ...         return b"%d" % self.total
    ...     def capture(self):
    ...         total = self.total
    ...         return lambda stream: stream.write(b"%d" % total)
    ...     def restore(self, stream) -> None:
    ...         self.total = int(stream.read())
    >>> report = simulate(Counter, lambda rng, client: b"%d" % rng.randrange(10), seeds=1)
    >>> report.operations > 100
    True

    """
    __tracebackhide__ = True
    chosen = seeds_of(seeds)
    _check(machine, workload)
    runs = seconds = operations = messages = faults = 0.0
    if trace is not None:
        try_to_write(trace)
    made = _Maker(workload)
    for each in sweep(map(draw, chosen), machine, made, jobs=jobs):
        if on_run is not None:
            on_run(each)
        if each.kind:
            raise _told(each, machine, made, shrink, trace)
        runs += 1
        seconds += each.seconds
        operations += each.operations
        messages += each.messages
        faults += each.faults
    return Report(int(runs), seconds, int(operations), int(messages), int(faults))


NOT_AGAIN: Final = "run again it does not fail: something depends on more than its seed"


def _told(
    found: Summary,
    machine: Callable[[], StateMachine],
    made: _Maker,
    shrink: bool,
    trace: str | PathLike[str] | None,
) -> SimulationFailedError:
    """The failure that was found, after all that is wanted was done about it."""
    plan, failure = draw(found.seed), found.failure
    if shrink:
        try:
            smallest = _shrunk(plan, machine, made)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f"seed {found.seed} failed: {failure}")
            raise
        plan, failure = (plan, f"{failure}; {NOT_AGAIN}") if smallest is None else smallest
    if trace is None:
        return SimulationFailedError(found.seed, failure, plan)
    shown = run_traced(plan, trace, machine, made).failure
    if shown is None and NOT_AGAIN not in failure:
        failure = f"{failure}; {NOT_AGAIN}"
    return SimulationFailedError(found.seed, failure if shown is None else str(shown), plan, str(trace))


def _shrunk(plan: Plan, machine: Callable[[], StateMachine], made: _Maker) -> tuple[Plan, str] | None:
    """The smallest plan that is found to fail as `plan` does, and how it fails; `None`: it does not."""
    outcome = run(plan, machine, made)
    if outcome.failure is None:
        return None

    def attempt(smaller: Plan) -> Outcome:
        try:
            return run(smaller, machine, made)
        except WorkloadError:
            # A workload for many may be none for one.
            return replace(outcome, plan=smaller, failure=None)

    smallest = shrunk(outcome, attempt)
    return smallest.plan, str(smallest.failure)
