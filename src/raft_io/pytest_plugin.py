"""The pytest plugin: `@pytest.mark.raft_sim(seeds=50)` and the fixture `raft_sim`.

A test with the mark is a test for each seed, so that one that failed is run again by its name.

    @pytest.mark.raft_sim(seeds=50)
    def test_counter(raft_sim):
        raft_sim(Counter, lambda rng, client: b"%d" % rng.randrange(10))

With `--raft-sim-traces DIR` each run that fails is made as small as it can be, and shown by a page in `DIR`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from raft_io.server import StateMachine
    from raft_io.testing.users import Commands, Report
    from raft_io.testing.workload import Workload

__all__ = ["RaftSim"]

FIXTURE = "raft_sim"
OPTION = "--raft-sim-traces"

LONGEST = 150
"""Characters of the name of a test that the name of its page has."""


class RaftSim:
    """Runs a state machine on a simulated cluster, with the seed of the test."""

    def __init__(self, seed: int, trace: Path | None = None) -> None:
        self.seed = seed
        self.trace = trace
        """Where a page is written if it fails."""

    def __call__(self, machine: Callable[[], StateMachine], workload: Workload | Commands) -> Report:
        """As `raft_io.testing.simulate`, for this seed."""
        __tracebackhide__ = True
        # Not above: pytest loads this module wherever the package is installed.
        from raft_io.testing.users import simulate

        shrink = self.trace is not None
        return simulate(machine, workload, seeds=[self.seed], shrink=shrink, trace=self.trace)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option to pytest."""
    parser.getgroup("raft-io").addoption(
        OPTION,
        type=Path,
        metavar="DIR",
        help="shrink every run of the simulator that fails (raft_sim), and write a page about it into DIR",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the mark."""
    config.addinivalue_line(
        "markers",
        "raft_sim(seeds=50): run the test once for each seed (so many from 1 on, or those of an "
        "iterable), with the fixture raft_sim, which puts a raft-io state machine through a simulated "
        "cluster",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each seed."""
    mark = metafunc.definition.get_closest_marker(FIXTURE)
    if FIXTURE not in metafunc.fixturenames:
        if mark is not None:
            raise pytest.UsageError(
                f"{metafunc.definition.nodeid} is marked raft_sim, but does not use its fixture"
            )
        return
    from raft_io.testing.users import seeds_of  # see above

    seeds: Any = 50
    if mark is not None:
        unknown = sorted(mark.kwargs.keys() - {"seeds"})
        if unknown or len(mark.args) > 1:
            given = ", ".join([*map(repr, mark.args), *unknown])
            raise pytest.UsageError(
                f"{metafunc.definition.nodeid}: the mark raft_sim takes seeds=..., not {given}"
            )
        seeds = mark.kwargs.get("seeds", *mark.args or (50,))
    try:
        chosen = seeds_of(seeds)
    except ValueError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error}") from error
    metafunc.parametrize(FIXTURE, chosen, indirect=True, ids=[f"seed-{seed}" for seed in chosen])


@pytest.fixture(name=FIXTURE)
def raft_sim(request: pytest.FixtureRequest) -> RaftSim:
    """Puts a state machine through a simulated cluster; see `raft_io.testing.simulate`."""
    folder: Path | None = request.config.getoption(OPTION)
    if folder is None:
        return RaftSim(request.param)
    folder = request.config.invocation_params.dir / folder
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", request.node.nodeid).strip("-")
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{zlib.crc32(name.encode()):08x}"
    return RaftSim(request.param, folder / f"{name}.html")
