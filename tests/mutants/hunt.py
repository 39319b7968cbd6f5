"""Which mutants does the simulator catch? Run: python -m tests.mutants.hunt [NAME ...]

Each mutant gets a copy of the source, uncompiled, in which seeds are run until one fails: first the one that
the documentation names, then all from 1 on. The same seeds pass without a mutant: `raft-io sim --seeds 2000`
shows that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from tests.mutants import ALL, Mutant, apply

import raft_io

__all__ = ["Caught", "hunt", "main", "table"]

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "mutants.md"

SEEDS = 2000
"""Within so many a mutant must be caught."""

SCRIPT = """
import sys
from raft_io.testing.drawing import draw
from raft_io.testing.run import run
first, seeds = int(sys.argv[1]), int(sys.argv[2])
for seed in [*([first] if first else []), *range(1, seeds + 1)]:
    failure = run(draw(seed)).failure
    if failure is not None:
        print(seed, failure.check, str(failure).replace(chr(10), " "), sep="\\t")
        break
"""


@dataclass(frozen=True)
class Caught:
    """What came of a mutant: the first seed that failed, and what was found; `seed` is 0 if none did."""

    name: str
    seed: int
    check: str
    failure: str
    took: float


def known() -> dict[str, int]:
    """The seeds that the documentation names."""
    rows = [line.split(" | ") for line in DOCUMENTATION.read_text().splitlines()]
    return {row[0][2:]: int(row[3]) for row in rows if len(row) == 5 and row[3].isdigit()}


def hunt(mutant: Mutant, seeds: int, first: int = 0) -> Caught:
    """Run `first`, if there is such a seed, and then seeds from 1 on with `mutant` until one fails."""
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="raft-io-mutant-") as folder:
        root = Path(folder) / "raft_io"
        shutil.copytree(
            Path(raft_io.__file__).parent, root, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
        try:
            apply(mutant, root)
        except ValueError as error:
            return Caught(mutant.name, 0, "", str(error), perf_counter() - began)
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(first), str(seeds)],
            env=os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    took = perf_counter() - began
    if ran.returncode != 0:
        # It did not even run: that is no catch.
        return Caught(mutant.name, 0, "", ran.stderr.strip().rpartition("\n")[2], took)
    if not ran.stdout.strip():
        return Caught(mutant.name, 0, "", "", took)
    seed, check, failure = ran.stdout.strip().split("\t", 2)
    return Caught(mutant.name, int(seed), check, failure, took)


def hunt_all(mutants: Sequence[Mutant], seeds: int, jobs: int, first: Mapping[str, int]) -> Iterator[Caught]:
    """All of them, in their order. `first`: the seeds to begin with, by name."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda mutant: hunt(mutant, seeds, first.get(mutant.name, 0)), mutants)


PAGE = """\
# The mutants

Bugs that real implementations had, or that the paper or the thesis warns of, each put into the code of this
project as a change of a few lines. [The simulator](simulation.md) has to catch every one, with random faults,
within {seeds} seeds that all pass without it.

Each row names a seed that catches the mutant, and the check that does. `make mutants` tries them all,
`make mutants ARGS=elections` an area: first that seed, then all from 1 on.
`make mutants ARGS="--anew --table docs/mutants.md"` looks for the first seeds, which takes an hour or two,
and writes this page. The changes are in `tests/mutants`.

"""


def table(found: Sequence[Caught]) -> str:
    """The page of the documentation."""
    mutants = {mutant.name: mutant for mutant in ALL}
    lines = ["| Mutant | What is wrong | Caught by | Seed | Source |", "|---|---|---|---|---|"]
    for area in dict.fromkeys(mutant.area for mutant in ALL):
        lines.append(f"| **{area}** | | | | |")
        for each in found:
            mutant = mutants[each.name]
            if mutant.area == area:
                check = each.check if each.seed else "**not caught**"
                seed = str(each.seed) if each.seed else ""
                lines.append(f"| {each.name} | {mutant.bug} | {check} | {seed} | {mutant.source} |")
    return PAGE.format(seeds=SEEDS) + "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt, and tell as it goes. The exit status is 1 if one was not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.hunt", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, or all of these areas")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many at most ({SEEDS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the page of the documentation")
    parser.add_argument("--anew", action="store_true", help="whatever seeds the documentation names")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {m.name for m in ALL} - {m.area for m in ALL}
    if unknown:
        areas = ", ".join(dict.fromkeys(m.area for m in ALL))
        parser.error(f"no mutant or area: {', '.join(sorted(unknown))}; areas are {areas}")
    if options.table and options.names:
        parser.error("the page is about all of them: --table goes without names")
    first = {} if options.anew else known()
    chosen = [m for m in ALL if not options.names or {m.name, m.area} & set(options.names)]
    found: list[Caught] = []
    for each in hunt_all(chosen, options.seeds, options.jobs, first):
        found.append(each)
        what = f"seed {each.seed}, {each.check}" if each.seed else f"NOT CAUGHT {each.failure}"
        print(f"{each.name:45} {what} ({each.took:.0f} s)", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    if options.table:
        options.table.write_text(table(found))
    missed = [each.name for each in found if not each.seed]
    print(f"{len(found) - len(missed)} of {len(found)} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
