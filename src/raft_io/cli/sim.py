"""Hunt for bugs: run the whole cluster in simulation, with faults, from seeds.

Every seed is a cluster of its own, of production code, for at least a minute of simulated time: messages are
lost, nodes crash, disks fail, members change, and after every step all invariants are checked. A seed that
fails is the same failure again whenever it is run.

The exit status is 0 if all went well, 3 if safety was violated, 4 if a healed cluster made no progress, 5
if a node died of a bug, 2 for misuse.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raft_io.cli.errors import CommandFailedError, UsageError
from raft_io.testing.drawing import draw
from raft_io.testing.page import write_page
from raft_io.testing.plan import Plan
from raft_io.testing.run import Outcome
from raft_io.testing.run import run as run_plan
from raft_io.testing.shrink import shrink
from raft_io.testing.sweep import Summary, kind_of, summary, sweep
from raft_io.testing.tracer import Tracer

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
        "--plan", type=Path, metavar="FILE", help="run the first plan in a file that --failures wrote"
    )
    parser.add_argument(
        "--from", type=int, default=1, dest="first", metavar="N", help="the first of the seeds (1)"
    )
    parser.add_argument(
        "--shrink", action="store_true", help="with --seed or --plan: find the smallest schedule that fails"
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="with --seed or --plan: write what happened as an HTML page",
    )
    parser.add_argument(
        "--failures",
        type=Path,
        metavar="FILE",
        help="add the plan of each seed that fails to FILE, one a line",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=1,
        metavar="N",
        help="seeds at a time; -1: one a processor (1; needs joblib)",
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
    """Run one plan or many seeds."""
    for path in (options.failures, options.trace):
        if path is not None:
            _try(path)
    if options.seed is not None or options.plan is not None:
        return _run_one(options)
    if options.shrink or options.trace:
        raise UsageError("--shrink and --trace are for one run: say --seed N")
    return _run_many(options)


# One.


def _run_one(options: argparse.Namespace) -> int:
    plan = draw(options.seed) if options.plan is None else _read(options.plan)
    tracer = Tracer() if options.trace and not options.shrink else None
    began = time.perf_counter()
    outcome = run_plan(plan, watcher=tracer)
    took = time.perf_counter() - began
    if options.shrink:
        if outcome.failure is None:
            if options.trace and not options.trace.stat().st_size:
                options.trace.unlink()
            raise CommandFailedError(f"seed {plan.seed} does not fail: there is nothing to shrink")
        outcome = shrink(outcome, run_plan, _told)
        if options.trace:
            tracer = Tracer()
            outcome = run_plan(outcome.plan, watcher=tracer)
    if options.json:
        print(json.dumps({**asdict(summary(outcome, took)), "plan": json.loads(outcome.plan.to_json())}))
    else:
        _show(outcome)
    if tracer is not None:
        _write(options.trace, tracer, outcome)
    if options.failures and outcome.failure is not None:
        _append(options.failures, outcome.plan)
    return STATUS[kind_of(outcome)]


def _read(path: Path) -> Plan:
    try:
        lines = path.read_text().split("\n")
        if lines == [""]:
            raise CommandFailedError(f"{path} is empty: no seed has failed")
        return Plan.from_json(lines[0])
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise CommandFailedError(f"{path}: {error}") from error


def _try(path: Path) -> None:
    """Fail now, not when the work is done, if nothing can be written there."""
    try:
        path.open("a").close()
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from error


def _write(path: Path, tracer: Tracer, outcome: Outcome) -> None:
    trace = tracer.trace(outcome.plan, outcome.seconds, outcome.failure)
    try:
        with path.open("w") as stream:
            write_page(trace, stream)
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from error
    print(f"{path}: open it in a browser", file=sys.stderr)


def _append(path: Path, plan: Plan) -> None:
    try:
        with path.open("a") as stream:
            stream.write(plan.to_json() + "\n")
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from error


def _told(plan: Plan) -> None:
    print(f"{len(plan.faults)} faults, {plan.seconds:.3f} s", file=sys.stderr, flush=True)


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


def _run_many(options: argparse.Namespace) -> int:
    seeds = range(options.first, options.first + options.seeds)
    try:
        results = sweep(seeds, jobs=options.jobs, dask=options.dask)
        found = list(_watched(results, len(seeds), options))
    except ImportError as error:
        raise UsageError(f"{error}: pip install {error.name}") from error
    except (OSError, ValueError) as error:
        if options.dask is None:
            raise
        raise CommandFailedError(f"the Dask cluster at {options.dask!r}: {error}") from error
    failed = [each for each in found if each.kind]
    if options.json:
        print(json.dumps(_totals(found) | {"failures": [asdict(each) for each in failed]}))
    else:
        totals = _totals(found)
        print(
            f"{totals['runs']} seed{'s' * (len(found) != 1)} from {options.first}: "
            f"{totals['seconds']:,.0f} simulated seconds, "
            f"{totals['operations']:,} operations, {totals['messages']:,} messages, {totals['faults']:,} "
            f"faults, {len(failed)} failed"
        )
    kinds = {each.kind for each in failed} or {""}
    return STATUS[next(kind for kind in WORST if kind in kinds)]


def _totals(found: list[Summary]) -> dict[str, Any]:
    return {
        "runs": len(found),
        "seconds": sum([each.seconds for each in found]),
        "operations": sum([each.operations for each in found]),
        "messages": sum([each.messages for each in found]),
        "faults": sum([each.faults for each in found]),
        "took": sum([each.took for each in found]),
    }


def _watched(results: Iterable[Summary], count: int, options: argparse.Namespace) -> Iterator[Summary]:
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
                again = f"  again: raft-io sim --seed {each.seed} --shrink --trace {each.seed}.html"
                console.print(again, markup=False, soft_wrap=True)
                if options.failures:
                    _append(options.failures, draw(each.seed))
            speed = seconds / (time.perf_counter() - began)
            told = f"{seconds:,.0f} s simulated, {speed:,.0f} a second, {faults:,} faults, {failures} failed"
            progress.update(task, advance=1, told=told)
            yield each
