"""The golden transcripts: each file runs on real nodes and must read as it did."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from tests.scenarios.script import ScriptError, play

pytestmark = pytest.mark.core

FILES = sorted(Path(__file__).parent.glob("*.txt"))


def difference(written: str, played: str, name: str) -> str:
    """A unified diff, empty if there is none."""
    lines = difflib.unified_diff(written.splitlines(), played.splitlines(), name, "played now", lineterm="")
    return "\n".join(lines)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(file: Path, rewrite: bool) -> None:
    written = file.read_text(encoding="utf-8")
    played = play(written)
    if rewrite:
        file.write_text(played, encoding="utf-8")
        return
    found = difference(written, played, file.name)
    if found:
        pytest.fail(f"{file.name} does not read as it did:\n{found}", pytrace=False)


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 65


def test_every_scenario_has_a_number_and_a_title_of_its_own() -> None:
    titles = [file.read_text(encoding="utf-8").splitlines()[0] for file in FILES]
    assert all(title.startswith("# ") and len(title) > 10 for title in titles)
    assert len(set(titles)) == len(titles)
    numbers = [file.name[:2] for file in FILES]
    assert len(set(numbers)) == len(numbers)


def test_what_a_scenario_brings_about_can_be_left_out() -> None:
    text = ">> nodes 3\n>> silently timeout 1\n>> briefly deliver\n"
    lines = play(text).splitlines()
    assert lines[:3] == [">> nodes 3", ">> silently timeout 1", ">> briefly deliver"]
    assert "<< 1: leader, term 1, vote 1" in lines and not any(" -> " in line for line in lines)


def test_a_wrong_transcript_shows_as_a_diff() -> None:
    right = play(">> nodes 1\n>> timeout 1\n")
    wrong = right.replace("vote 1", "vote 2")
    assert play(wrong) == right
    found = difference(wrong, play(wrong), "wrong.txt")
    assert "-<< 1: leader, term 1, vote 2" in found
    assert "+<< 1: leader, term 1, vote 1" in found


@pytest.mark.parametrize("line", ["tick 1", ">> dance 1", ">> tick 9", ">> deliver 12", ">> timeout"])
def test_a_line_without_sense_is_named(line: str) -> None:
    with pytest.raises(ScriptError, match="line 2"):
        play(f">> nodes 3\n{line}\n")
