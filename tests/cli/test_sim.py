"""`raft-io sim`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft_io.cli import sim
from raft_io.cli.main import main
from raft_io.kv.store import KeyValueStore
from raft_io.testing import Outcome, Plan, draw, run
from raft_io.testing.sweep import Summary


def test_seeds_that_go_well_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--seeds", "2", "--from", "4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 seeds from 4: ")
    assert "0 failed" in out


def test_the_sums_are_there_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--seeds", "1", "--from", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == 1
    assert found["seconds"] > 60
    assert found["operations"] > 100
    assert found["failures"] == []


def test_one_seed_tells_its_plan_and_is_always_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    digests = set()
    plan = tmp_path / "plan.jsonl"
    plan.write_text(draw(5).to_json() + "\n")
    for arguments in (["--seed", "5"], ["--plan", str(plan), "--line", "1"]):
        assert main(["sim", *arguments, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert Plan.from_json(json.dumps(found["plan"])) == draw(5)
        digests.add(found["digest"])
    assert len(digests) == 1
    assert main(["sim", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("seed 5: ")
    assert str(draw(5).faults[0]) in out
    assert "all is well" in out


@pytest.fixture(name="broken")
def break_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that forgets, now and then, what it was told."""
    apply = KeyValueStore.apply

    def forgets(self: KeyValueStore, command: bytes) -> bytes:
        result = apply(self, command)
        if b"v7" in command:
            raise RuntimeError("the seventh")
        return result

    monkeypatch.setattr(KeyValueStore, "apply", forgets)


@pytest.mark.usefixtures("broken")
def test_a_failure_is_told_kept_shrunk_and_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kept, page = tmp_path / "kept.jsonl", tmp_path / "page.html"
    assert main(["sim", "--seeds", "1", "--from", "5", "--failures", str(kept)]) == 5
    captured = capsys.readouterr()
    assert "seed 5: crash: crash (invariant 30) at" in captured.err
    assert "the seventh" in " ".join(captured.err.split())
    assert "1 failed" in captured.out
    assert Plan.from_json(kept.read_text().strip()) == draw(5)
    assert main(["sim", "--plan", str(kept), "--shrink", "--trace", str(page)]) == 5
    out = capsys.readouterr().out
    assert "\n  " not in out, "no fault is needed for it"
    assert "failed: crash (invariant 30) at" in out
    assert "the seventh" in page.read_text()


def test_there_is_nothing_to_shrink_where_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--seed", "5", "--shrink"]) == 1
    assert "there is nothing to shrink" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--shrink"], "say --seed N"),
        (["--seeds", "0"], "at least 1"),
        (["--seed", "x"], "invalid"),
        (["--seeds", "1", "--seed", "1"], "not allowed"),
        (["--seed", "1", "--from", "3"], "--from is the first of many seeds: say --seeds N"),
        (["--seed", "1", "--jobs", "2"], "--jobs and --dask are for many runs: say --seeds N"),
        (["--seed", "1", "--dask", "tcp://h:1"], "--jobs and --dask are for many runs"),
        (["--line", "3"], "say --plan FILE"),
    ],
)
def test_misuse_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    try:
        status = main(["sim", *arguments])
    except SystemExit as error:
        status = int(error.code or 0)
    assert status == 2
    assert text in capsys.readouterr().err


@pytest.fixture(name="three")
def three_plans(tmp_path: Path) -> str:
    path = tmp_path / "three.jsonl"
    path.write_text("".join(draw(seed).to_json() + "\n" for seed in (4, 5, 6)))
    return str(path)


@pytest.mark.usefixtures("broken")
def test_every_plan_of_a_file_is_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, three: str) -> None:
    again = tmp_path / "again.jsonl"
    assert main(["sim", "--plan", three, "--failures", str(again)]) == 5
    captured = capsys.readouterr()
    assert captured.out.startswith(f"3 plans of {three}: ")
    assert "3 failed" in captured.out
    assert f"again: raft-io sim --plan {three} --line 2 --shrink --trace=5.html" in captured.err
    assert again.read_text() == Path(three).read_text()


def test_a_file_of_one_plan_is_run_as_one_of_many_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "one plan.jsonl"
    path.write_text("\n" + draw(5).to_json() + "\n\n")
    assert main(["sim", "--plan", str(path), "--jobs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["interrupted"]) == (1, False)
    assert main(["sim", "--plan", str(path), "--line", "1"]) == 1
    assert "no plan in line 1" in capsys.readouterr().err


def test_misuse_leaves_no_file(tmp_path: Path) -> None:
    assert main(["sim", "--seeds", "2", "--trace", str(tmp_path / "page.html")]) == 2
    assert main(["sim", "--seed", "5", "--shrink", "--trace", str(tmp_path / "page.html")]) == 1
    assert not list(tmp_path.iterdir())


def test_one_line_of_a_file_is_one_run(capsys: pytest.CaptureFixture[str], three: str) -> None:
    assert main(["sim", "--plan", three, "--line", "2"]) == 0
    assert capsys.readouterr().out.startswith("seed 5: ")
    assert main(["sim", "--plan", three, "--line", "4"]) == 1
    assert "has 3 lines, and no plan in line 4" in capsys.readouterr().err
    assert main(["sim", "--plan", three, "--shrink"]) == 2
    assert "has 3: say --line N" in capsys.readouterr().err


def test_a_line_that_is_no_plan_is_told_by_its_number(capsys: pytest.CaptureFixture[str], three: str) -> None:
    with Path(three).open("a") as stream:
        stream.write("{}\n")
    assert main(["sim", "--plan", three]) == 1
    text = "line 4: not a whole plan: it has no seed, network, load, faults, options"
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_what_was_found_is_told_when_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    def interrupted(plans: object, jobs: int, dask: str | None) -> Iterator[Summary]:
        yield Summary(1, "", "", "", 60.0, 1, 1, 1, "", 0.1)
        raise KeyboardInterrupt

    monkeypatch.setattr(sim, "sweep", interrupted)
    assert main(["sim", "--seeds", "7", *extra]) == 130
    out = capsys.readouterr().out
    assert out.startswith("1 of 7 seeds from 1: ") or json.loads(out)["runs"] == 1


@pytest.mark.usefixtures("broken")
def test_a_shrink_that_is_interrupted_tells_the_smallest_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = 0

    def impatient(plan: Plan) -> Outcome:
        nonlocal runs
        runs += 1
        if runs == 4:
            raise KeyboardInterrupt
        return run(plan)

    monkeypatch.setattr(sim, "run_plan", impatient)
    assert main(["sim", "--seed", "5", "--shrink", "--json"]) == 5
    captured = capsys.readouterr()
    assert "interrupted: it may not be the smallest" in captured.err
    assert "the seventh" in json.loads(captured.out)["failure"]


@pytest.mark.parametrize("contents", [None, "", "no plan"])
def test_a_file_without_a_plan_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, contents: str | None
) -> None:
    path = tmp_path / "plan"
    if contents is not None:
        path.write_text(contents)
    assert main(["sim", "--plan", str(path)]) == 1
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kinds", "status"), [((), 0), (("liveness",), 4), (("liveness", "crash"), 5), (("crash", "safety"), 3)]
)
def test_the_worst_failure_decides_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], status: int
) -> None:
    found = [Summary(1, kind, "check", "text", 60.0, 1, 1, 1, "", 0.1) for kind in kinds]
    monkeypatch.setattr(sim, "sweep", lambda seeds, jobs, dask: iter(found))
    assert main(["sim", "--seeds", "2"]) == status


def test_seeds_run_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("joblib")
    assert main(["sim", "--seeds", "3", "--jobs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 3
