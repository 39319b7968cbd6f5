"""Hunt for bugs: run the whole cluster in simulation, with faults, from seeds.

Every seed is a cluster of its own, of production code, for at least a minute of simulated time: messages are
lost, nodes crash, disks fail, members change, and after every step all invariants are checked. A seed that
fails is the same failure again whenever it is run.

The exit status is 0 if all went well, 3 if safety was violated, 4 if a healed cluster made no progress, 5
if a node died of a bug, 130 if it was interrupted before anything failed, 2 for misuse.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raft_io.cli.errors import INTERRUPTED, CommandFailedError, UsageError
from raft_io.testing.drawing import draw
from raft_io.testing.plan import Plan
from raft_io.testing.run import Outcome
from raft_io.testing.run import run as run_plan
from raft_io.testing.shrink import shrink
from raft_io.testing.sweep import Summary, kind_of, summary, sweep
from raft_io.testing.traced import run_traced, try_to_write

__all__ = ["add_arguments", "run"]

STATUS: Final = {"": 0, "safety": 3, "liveness": 4, "crash": 5}
"""The exit status of each kind of failure."""

WORST: Final = ("safety", "crash", "liveness", "")
"""Of several, the first of these is told."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io sim`."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--seeds", type=_count, default=100, metavar="N", help="how many seeds to run (100)")
    what.add_argument("--seed", type=int, metavar="N", help="run this seed alone, and tell its plan")
    what.add_argument(
        "--plan", type=Path, metavar="FILE", help="run the plans in a file that --failures wrote"
    )
    parser.add_argument("--line", type=_count, metavar="N", help="with --plan: that of this line alone")
    parser.add_argument(
        "--from", type=int, default=None, dest="first", metavar="N", help="the first of the seeds (1)"
    )
    parser.add_argument(
        "--shrink", action="store_true", help="of one run: find the smallest schedule that fails"
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="of one run: write what happened as an HTML page",
    )
    parser.add_argument(
        "--failures",
        type=Path,
        metavar="FILE",
        help="add the plan of each run that fails to FILE, one a line",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=None,
        metavar="N",
        help="runs at a time; -1: one a processor (1; needs joblib)",
    )
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="run on the Dask cluster with this scheduler, as tcp://host:8786"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number, at least 1, not {text!r}")
    return int(text)


def _jobs(text: str) -> int:
    return -1 if text == "-1" else _count(text)


def run(options: argparse.Namespace) -> int:
    """Run one plan or many."""
    for path in (options.failures, options.trace):
        if path is not None:
            try:
                try_to_write(path)
            except OSError as error:
                raise CommandFailedError(f"{path}: {error.strerror}") from error
    if options.line is not None and options.plan is None:
        raise UsageError("--line is that of a file of plans: say --plan FILE")
    if options.first is not None and (options.seed is not None or options.plan is not None):
        raise UsageError("--from is the first of many seeds: say --seeds N")
    if options.seed is not None:
        return _run_one(draw(options.seed), options)
    if options.plan is not None:
        plans = _read(options.plan, options.line)
        if options.line is not None or (len(plans) == 1 and (options.shrink or options.trace)):
            return _run_one(plans[0][1], options)
        if options.shrink or options.trace:
            raise UsageError(
                f"--shrink and --trace are for one run, and {options.plan} has {len(plans)}: say --line N"
            )
        return _run_many(
            lambda place: plans[place - 1][1],
            lambda place: f"--plan {shlex.quote(str(options.plan))} --line {plans[place - 1][0]}",
            len(plans),
            f"plan{'s' * (len(plans) != 1)} of {options.plan}",
            options,
        )
    if options.shrink or options.trace:
        raise UsageError("--shrink and --trace are for one run: say --seed N")
    first = 1 if options.first is None else options.first
    count = options.seeds
    what = f"seed{'s' * (count != 1)} from {first}"
    return _run_many(
        lambda place: draw(first + place - 1),
        lambda place: f"--seed {first + place - 1}",
        count,
        what,
        options,
    )


# One.


def _run_one(plan: Plan, options: argparse.Namespace) -> int:
    if options.jobs is not None or options.dask is not None:
        raise UsageError("--jobs and --dask are for many runs: say --seeds N")
    began = time.perf_counter()
    if options.trace and not options.shrink:
        outcome = _traced(plan, options.trace)
    else:
        outcome = run_plan(plan)
    took = time.perf_counter() - began
    if options.shrink:
        if outcome.failure is None:
            raise CommandFailedError(f"seed {plan.seed} does not fail: there is nothing to shrink")
        outcome = _shrunk(outcome)
        if options.trace:
            outcome = _traced(outcome.plan, options.trace)
    if options.json:
        print(json.dumps({**asdict(summary(outcome, took)), "plan": json.loads(outcome.plan.to_json())}))
    else:
        _show(outcome)
    if options.trace:
        print(f"{options.trace}: open it in a browser", file=sys.stderr)
    if options.failures and outcome.failure is not None:
        _append(options.failures, outcome.plan)
    return STATUS[kind_of(outcome)]


def _shrunk(outcome: Outcome) -> Outcome:
    """The smallest schedule that fails; when interrupted, the smallest that was found so far."""
    smallest = outcome.plan

    def told(plan: Plan) -> None:
        nonlocal smallest
        smallest = plan
        print(f"{len(plan.faults)} faults, {plan.seconds:.3f} s", file=sys.stderr, flush=True)

    try:
        return shrink(outcome, run_plan, told)
    except KeyboardInterrupt:
        print("interrupted: it may not be the smallest", file=sys.stderr)
        return run_plan(smallest)


def _read(path: Path, line: int | None) -> list[tuple[int, Plan]]:
    """The plans in a file, or the one of a line, each with the number of its line."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise CommandFailedError(f"{path}: {error}") from error
    if not any(lines):
        raise CommandFailedError(f"{path} is empty: no run has failed")
    if line is not None and (line > len(lines) or not lines[line - 1]):
        raise CommandFailedError(f"{path} has {len(lines)} lines, and no plan in line {line}")
    plans: list[tuple[int, Plan]] = []
    for number, text in enumerate(lines, 1):
        if line in (None, number) and text:
            try:
                plans.append((number, Plan.from_json(text)))
            except ValueError as error:
                raise CommandFailedError(f"{path}, line {number}: {error}") from error
    return plans


def _traced(plan: Plan, path: Path) -> Outcome:
    try:
        return run_traced(plan, path)
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from error


def _append(path: Path, plan: Plan) -> None:
    try:
        with path.open("a") as stream:
            stream.write(plan.to_json() + "\n")
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from error


def _show(outcome: Outcome) -> None:
    plan = outcome.plan
    print(f"seed {plan.seed}: {plan.voters} voters, {plan.spares} spares, {plan.load.clients} clients")
    print(f"options: {', '.join(f'{name}={value}' for name, value in plan.options.items())}")
    happened = [fault for fault in plan.faults if fault.at <= outcome.seconds]
    for fault in happened:
        print(f"  {fault}")
    if len(happened) < len(plan.faults):
        print(f"  (and {len(plan.faults) - len(happened)} faults that were planned for later)")
    print(
        f"{outcome.seconds:.1f} simulated seconds, {outcome.operations} operations, {outcome.messages} "
        f"messages, {outcome.faults} faults, digest {outcome.digest}"
    )
    print("failed: " + str(outcome.failure) if outcome.failure is not None else "all is well")


# Many.


def _run_many(
    plan_at: Callable[[int], Plan],
    again: Callable[[int], str],
    count: int,
    what: str,
    options: argparse.Namespace,
) -> int:
    """Run the plans at the places from 1 to `count`; `again` says how to run one of them alone."""
    found: list[Summary] = []
    interrupted = False
    try:
        results = sweep(map(plan_at, range(1, count + 1)), jobs=options.jobs or 1, dask=options.dask)
        for each in _watched(results, count, again):
            found.append(each)
            if each.kind and options.failures:
                _append(options.failures, plan_at(each.place))
    except KeyboardInterrupt:
        interrupted = True
    except ImportError as error:
        raise UsageError(f"{error}: pip install {error.name}") from error
    except (OSError, ValueError) as error:
        if options.dask is None:
            raise
        raise CommandFailedError(f"the Dask cluster at {options.dask!r}: {error}") from error
    failed = [each for each in found if each.kind]
    totals = _totals(found)
    if options.json:
        failures = [asdict(each) for each in failed]
        print(json.dumps(totals | {"interrupted": interrupted, "failures": failures}))
    else:
        print(
            f"{totals['runs']}{f' of {count}' * interrupted} {what}: "
            f"{totals['seconds']:,.0f} simulated seconds, "
            f"{totals['operations']:,} operations, {totals['messages']:,} messages, {totals['faults']:,} "
            f"faults, {len(failed)} failed"
        )
    kinds = {each.kind for each in failed} or {""}
    status = STATUS[next(kind for kind in WORST if kind in kinds)]
    return INTERRUPTED if interrupted and not status else status


def _totals(found: list[Summary]) -> dict[str, Any]:
    return {
        "runs": len(found),
        "seconds": sum([each.seconds for each in found]),
        "operations": sum([each.operations for each in found]),
        "messages": sum([each.messages for each in found]),
        "faults": sum([each.faults for each in found]),
        "took": sum([each.took for each in found]),
    }


def _watched(results: Iterable[Summary], count: int, again: Callable[[int], str]) -> Iterator[Summary]:
    """The results, shown as they come."""
    console = Console(stderr=True)
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        TextColumn("{task.fields[told]}"),
    )
    began = time.perf_counter()
    seconds = 0.0
    faults = failures = 0
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=count, told="")
        for each in results:
            seconds += each.seconds
            faults += each.faults
            if each.kind:
                failures += 1
                text = f"seed {each.seed}: {each.kind}: {each.failure}"
                console.print(text, style="red", markup=False, soft_wrap=True)
                more = f"  again: raft-io sim {again(each.place)} --shrink --trace={each.seed}.html"
                console.print(more, markup=False, soft_wrap=True)
            speed = seconds / (time.perf_counter() - began)
            told = f"{seconds:,.0f} s simulated, {speed:,.0f} a second, {faults:,} faults, {failures} failed"
            progress.update(task, advance=1, told=told)
            yield each
