"""The catalogue of mutants is sound: every one applies, stays small, and leaves source that parses."""

from __future__ import annotations

import ast
import difflib
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from tests.mutants import ALL, AREAS, Mutant, apply
from tests.mutants.hunt import SEEDS

import raft_io
from raft_io.testing.checks import INVARIANTS

SOURCE = Path(__file__).parents[2] / "src" / "raft_io"

LARGEST = 3
"""Lines that a place may lose, and may gain."""


def copied(mutant: Mutant, root: Path) -> Path:
    """The files that `mutant` changes, copied to below `root`."""
    for file, _, _ in mutant.changes:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE / file, root / file)
    return root


@cache
def meaning(text: str) -> str:
    """What `text` says as Python, without comments and layout."""
    return ast.dump(ast.parse(text))


def differing(before: str, after: str) -> tuple[int, int]:
    """How many lines are gone, and how many are new."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return sum(line.startswith("- ") for line in lines), sum(line.startswith("+ ") for line in lines)


# Refused.


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    root = copied(ALL[0], tmp_path)
    apply(ALL[0], root)
    before = (root / ALL[0].file).read_text()
    with pytest.raises(ValueError, match=f"{ALL[0].name}: once expected in .*, 0 times found"):
        apply(ALL[0], root)
    assert (root / ALL[0].file).read_text() == before


def test_a_place_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    mutant = Mutant("double", "log", "a.py", "x = 1\n", "x = 2\n", "", "")
    with pytest.raises(ValueError, match="2 times found"):
        apply(mutant, tmp_path)


def test_a_second_place_that_is_not_there_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("y = 1\n")
    mutant = Mutant("half", "log", "a.py", "x = 1", "x = 2", "", "", (("b.py", "z = 1", "z = 2"),))
    with pytest.raises(ValueError, match=r"half: once expected in .*b\.py"):
        apply(mutant, tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 1\n"


# Each of them.


@pytest.mark.parametrize("mutant", ALL, ids=[mutant.name for mutant in ALL])
def test_it_applies_and_what_comes_of_it_parses(mutant: Mutant, tmp_path: Path) -> None:
    root = copied(mutant, tmp_path)
    apply(mutant, root)
    for file in {file for file, _, _ in mutant.changes}:
        assert meaning((root / file).read_text()) != meaning((SOURCE / file).read_text())


@pytest.mark.parametrize("mutant", ALL, ids=[mutant.name for mutant in ALL])
def test_it_is_small_and_explained(mutant: Mutant) -> None:
    for _, old, new in mutant.changes:
        gone, added = differing(old, new)
        assert gone + added > 0
        assert max(gone, added) <= LARGEST, (gone, added)
    assert mutant.bug.endswith(".")
    cited = mutant.source
    assert "https://" in cited or "section" in cited or "figure" in cited, cited


# All of them.


def test_names_are_unique_and_in_kebab_case() -> None:
    names = [mutant.name for mutant in ALL]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert [name for name in names if not name.replace("-", "").isalpha() or name != name.lower()] == []


def test_no_two_are_the_same_change() -> None:
    assert len({mutant.changes for mutant in ALL}) == len(ALL)


def test_every_area_has_enough_of_them() -> None:
    counts = Counter(mutant.area for mutant in ALL)
    assert tuple(counts) == AREAS
    assert min(counts.values()) >= 5
    assert len(ALL) >= 48


def test_the_source_is_that_of_the_package() -> None:
    """They are made for this source, not for another version that happens to be installed."""
    assert (SOURCE / "_version.py").read_text().count(raft_io.__version__) == 1


def test_the_documentation_has_all_of_them_and_by_what_each_was_caught() -> None:
    page = (SOURCE.parents[1] / "docs" / "mutants.md").read_text()
    table = page[page.index("|---") :].splitlines()[1:]
    rows = [line.split(" | ") for line in table if not line.startswith("| **")]
    checks = {check for check, _ in INVARIANTS.values()}
    assert [(row[0][2:], row[1], row[4].removesuffix(" |")) for row in rows] == [
        (mutant.name, mutant.bug, mutant.source) for mutant in ALL
    ]
    assert all(row[2] in checks and 1 <= int(row[3]) <= SEEDS for row in rows)
