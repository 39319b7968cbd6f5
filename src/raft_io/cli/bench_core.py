"""`raft-io bench core`: the core, compiled and interpreted, measured in the same run."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import raft_io
from raft_io.cli.errors import CommandFailedError

__all__ = ["CoreResult", "measure_core"]

MODULE = "raft_io.cli.core_benchmarks"


@dataclass(frozen=True)
class CoreResult:
    """One benchmark, in nanoseconds. `compiled` is `None` where the package is not."""

    name: str
    compiled: float | None
    interpreted: float

    @property
    def ratio(self) -> float | None:
        """How many times faster the compiled one is."""
        return None if self.compiled is None else self.interpreted / self.compiled


def measure_core(quick: bool) -> list[CoreResult]:
    """Measure both builds. `quick`: with the built-in timer, even where pyperf is installed."""
    plain = quick or importlib.util.find_spec("pyperf") is None
    with tempfile.TemporaryDirectory(prefix="raft-io-bench-") as folder:
        # An interpreted package is a copy of the sources without what was compiled from them.
        sources = Path(folder) / "sources"
        package = Path(raft_io.__file__).parent
        shutil.copytree(package, sources / package.name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        compiled = _run(Path(folder), package.parent, plain) if raft_io.COMPILED else {}
        interpreted = _run(Path(folder), sources, plain)
    return [CoreResult(name, compiled.get(name), value) for name, value in interpreted.items()]


def _run(folder: Path, path: Path, plain: bool) -> dict[str, float]:
    """Nanoseconds by benchmark, of the package in `path`."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    if plain:
        output = _call([sys.executable, "-m", MODULE, "--plain"], folder, environment)
        found: dict[str, float] = json.loads(output)["nanoseconds"]
        return found
    pyperf = importlib.import_module("pyperf")  # an extra, and untyped
    results = folder / f"{path.name}.json"
    arguments = ["--quiet", "--inherit-environ=PYTHONPATH", f"--output={results}"]
    _call([sys.executable, "-m", MODULE, *arguments], folder, environment)
    suite = pyperf.BenchmarkSuite.load(str(results))
    return {benchmark.get_name(): benchmark.mean() * 1e9 for benchmark in suite.get_benchmarks()}


def _call(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise CommandFailedError(f"the benchmark failed with status {done.returncode}: {reason}")
    return done.stdout
