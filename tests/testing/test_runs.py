"""Whole runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from raft_io.testing import Fault, Plan, draw, run
from raft_io.testing.clients import Call
from raft_io.testing.plan import Load
from raft_io.testing.run import CRASH, PROGRESS
from raft_io.testing.watcher import Watcher

pytestmark = pytest.mark.core

QUICK = Plan(seed=1, seconds=10.0)


@pytest.mark.parametrize("seed", range(1, 25))
def test_seeds_run_without_a_violation(seed: int) -> None:
    outcome = run(draw(seed))
    assert outcome.failure is None, f"raft-io sim --seed {seed}: {outcome.failure}"
    assert outcome.seconds >= 60.0


def test_runs_serve_many_operations_under_many_faults() -> None:
    outcomes = [run(draw(seed)) for seed in range(30, 34)]
    assert all(outcome.operations >= 600 for outcome in outcomes)
    assert sum(outcome.faults for outcome in outcomes) > 40
    assert sum(outcome.messages for outcome in outcomes) > 20_000


def test_a_calm_run_serves_what_it_was_asked_and_keeps_its_leader() -> None:
    outcome = run(QUICK)
    assert outcome.failure is None
    assert outcome.operations > 80


def test_the_same_seed_is_the_same_run_in_another_process_with_other_hashes() -> None:
    code = "from raft_io.testing import draw, run; print(run(draw(5)).digest)"
    found = set()
    for hash_seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        found.add(ran.stdout.strip())
    assert found == {run(draw(5)).digest}
    assert run(draw(6)).digest not in found


def test_what_is_left_without_a_quorum_makes_no_progress_and_is_told() -> None:
    # Nothing undoes this fault: the second node of two never answers again.
    plan = Plan(seed=1, seconds=2.0, voters=2, options={"election_timeout": (2_000_000, 3_000_000)})
    outcome = run(plan)
    assert outcome.failure is not None
    assert outcome.failure.check == PROGRESS
    assert "not whole" in str(outcome.failure)


def test_an_exception_of_the_state_machine_is_told_as_a_crash() -> None:
    from raft_io.kv.store import KeyValueStore

    class Broken(KeyValueStore):
        def apply(self, command: bytes) -> bytes:
            raise RuntimeError("not today")

    outcome = run(QUICK, Broken)
    assert outcome.failure is not None
    assert outcome.failure.check == CRASH
    assert "not today" in str(outcome.failure)


@pytest.mark.parametrize(
    "kind", ["crash", "kill", "isolate", "pause", "io-error", "full-disk", "hung-disk", "wipe"]
)
def test_each_trouble_of_the_leader_alone_is_survived(kind: str) -> None:
    faults = tuple(Fault(at, kind, 0, lasts=1.0) for at in (2.0, 5.0, 8.0))
    outcome = run(Plan(seed=3, seconds=12.0, load=Load(think=0.1), faults=faults))
    assert outcome.failure is None
    assert outcome.faults == 3
    assert outcome.operations > 100


class Presses(Watcher):
    """Somebody presses Ctrl-C, so often, when clients ask for something."""

    def __init__(self, presses: int) -> None:
        self.presses = presses
        self.calls = 0

    def called(self, now: float, call: Call) -> None:
        self.calls += 1
        if self.calls <= self.presses:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("presses", "waits"), [(1, True), (2, False)])
def test_an_interrupt_waits_for_the_end_of_the_run_unless_it_comes_twice(presses: int, waits: bool) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = Presses(presses)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(draw(5), watcher=watcher)
        assert (watcher.calls >= 600) == waits
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert run(draw(5)).failure is None
    finally:
        signal.signal(signal.SIGINT, before)
