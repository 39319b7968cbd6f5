"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

MACHINE = """
import pytest
from raft_io.server import StateMachine

class Counter(StateMachine):
    def __init__(self):
        self.total = 0
        self.count = 0
    def apply(self, command):
        self.total += int(command)
        self.count += 1
        return b"%d" % self.{result}
    def capture(self):
        total = self.total
        return lambda stream: stream.write(b"%d" % total)
    def restore(self, stream):
        self.total = int(stream.read())

def add(rng, client):
    return b"%d" % rng.randrange(10)

@pytest.mark.raft_sim(seeds={seeds})
def test_counter({fixture}):
    raft_sim(Counter, add)
"""

PLUGIN = "raft_io.pytest_plugin"
INSTALLED = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
PLUGINS = (*(() if INSTALLED else ("-p", PLUGIN)), "-p", "no:cacheprovider", "--no-header")


def played(pytester: pytest.Pytester, *arguments: str, **fields: object) -> pytest.RunResult:
    text = MACHINE
    for name, value in {"result": "total", "seeds": 2, "fixture": "raft_sim", **fields}.items():
        text = text.replace("{" + name + "}", str(value))
    pytester.makepyfile(text)
    return pytester.runpytest_inprocess(*PLUGINS, "-v", *arguments)


def test_every_seed_is_a_test(pytester: pytest.Pytester) -> None:
    result = played(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_counter[[]seed-1[]] PASSED*", "*test_counter[[]seed-2[]] PASSED*"])


def test_a_page_about_each_run_that_fails_is_written_where_it_is_wanted(pytester: pytest.Pytester) -> None:
    result = played(pytester, "--raft-sim-traces", "pages/of/today", result="missing", seeds=2)
    result.assert_outcomes(failed=2)
    pages = sorted(path.name for path in (pytester.path / "pages/of/today").iterdir())
    name = "test_a_page_about_each_run_that_fails_is_written_where_it_is_wanted.py-test_counter-seed"
    assert pages == [f"{name}-1.html", f"{name}-2.html"]


def test_seeds_may_be_named(pytester: pytest.Pytester) -> None:
    result = played(pytester, seeds="[7]")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_counter[[]seed-7[]] PASSED*"])


def test_a_failure_names_the_seed_and_what_was_found(pytester: pytest.Pytester) -> None:
    result = played(pytester, result="count", seeds=12)
    assert result.parseoutcomes()["failed"] > 0
    result.stdout.fnmatch_lines(["*SimulationFailedError: seed *another result than before*"])


@pytest.mark.parametrize("seeds", ["0", "-3", "2.0", "'ab'", "[]"])
def test_seeds_that_are_none_are_misuse(pytester: pytest.Pytester, seeds: str) -> None:
    result = played(pytester, seeds=seeds)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*seeds is a number of runs, at least 1*"])


def test_a_mark_without_the_fixture_is_misuse(pytester: pytest.Pytester) -> None:
    result = played(pytester, fixture="")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*does not use its fixture*"])
